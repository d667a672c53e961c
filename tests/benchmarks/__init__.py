"""Timings by pytest-benchmark, and what compares this package with others or puts it under load."""
