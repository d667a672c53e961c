"""Stages of semantic segmentation: the teacher under a clear sky, the student under clouds."""
