"""The GPU backend: TensorRT and TensorRT for RTX."""
