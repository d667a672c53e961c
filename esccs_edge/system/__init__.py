"""What the package asks of the operating system: atomic files, locks, cores, a sealed cache."""
