"""Keeps the scale of an INT8 tensor that is made by concatenation.

OpenVINO (2026.4 was seen) moves the quantization of such a tensor in front of the concatenation and
loses its scale on the way, as if it were 1: the answers are wrong. It keeps the scale where
quantization and dequantization are one operation, which computes the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .openvino import ops, ov

_INT8_LEVELS = 256
#: What stands between a quantization and the end of its dequantization.
_DEQUANTIZATION = ("Convert", "Subtract", "Multiply")
#: Behind these a quantization is not moved any further.
_BARRIERS = ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "FakeQuantize")


def keep_scales_of_concats(model: ov.Model) -> None:
    """Make one operation of each quantization and dequantization behind a concatenation."""
    for node in model.get_ordered_ops():
        if node.get_type_name() == "FakeQuantize" and _reads_concat(node):
            end = _dequantized(node)
            if end is not None:
                pixels, low, high = (node.input_value(port) for port in range(3))
                folded = ops.fake_quantize(pixels, low, high, low, high, _INT8_LEVELS)
                end.output(0).replace(folded.output(0))


def _reads_concat(node: Any) -> bool:
    to_follow, seen = [node.input_value(0).get_node()], set()
    while to_follow:
        source = to_follow.pop()
        if source.get_type_name() == "Concat":
            return True
        if source.get_type_name() in _BARRIERS or source.get_friendly_name() in seen:
            continue
        seen.add(source.get_friendly_name())
        to_follow.extend(value.get_node() for value in source.input_values())
    return False


def _dequantized(quantizer: Any) -> Any:
    """Return the node that multiplies by the scale; None where the two do not belong together."""
    low, lowest = (quantizer.input_value(port).get_node() for port in (1, 3))
    node = quantizer
    while node.get_type_name() != "Multiply":
        readers = list(node.output(0).get_target_inputs())
        if len(readers) != 1 or readers[0].get_node().get_type_name() not in _DEQUANTIZATION:
            return None
        node = readers[0].get_node()
    scale = node.input_value(1).get_node()
    if any(constant.get_type_name() != "Constant" for constant in (low, lowest, scale)):
        return None
    return node if np.allclose(lowest.data * scale.data, low.data, rtol=1e-5) else None
