"""Simulated clouds, SAR and scenes. NumPy only; everything here is simulated, never measured."""
