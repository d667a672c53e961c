"""Everything that touches the CUDA driver: probe, streams, events, memory, kernels, graphs."""
