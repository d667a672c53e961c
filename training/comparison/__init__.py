"""Many methods on the same data and seeds."""
