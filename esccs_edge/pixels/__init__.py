"""Arrays as callers hand them in -> the network's input."""
