"""Whole rasters -> class maps, in bounded memory."""
