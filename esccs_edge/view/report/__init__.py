"""A report of a bundle or a run as one HTML file that needs nothing else."""
