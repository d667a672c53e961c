"""Student to ONNX, ONNX to engine."""
