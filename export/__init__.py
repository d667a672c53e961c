"""Cast: student to ONNX, ONNX to engine."""
