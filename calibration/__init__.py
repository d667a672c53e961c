"""Measure: INT8 ranges, Q/DQ and what they cost."""
