"""The seam between the runtime and whatever runs the network, and the choice of a backend."""
