"""INT8 ranges, Q/DQ in the graph, and what they cost."""
