"""Lets an INT8 graph be fed with the bytes that its first layer reads, channels last.

Such a graph begins with ``QuantizeLinear``: float32 pixels, channel by channel, become bytes, which
OpenVINO then turns channels last. Preprocessing can write those bytes itself in the same pass; then
both steps and three quarters of the traffic are gone.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .openvino import ops, ov

#: Added to a step from -128 to 127, so that OpenVINO takes the input for unsigned bytes.
ZERO_STEP = 128


def expose_quantized_inputs(model: ov.Model) -> tuple[ov.Model, dict[str, float]]:
    """Replace image inputs that are quantized with one scale and zero point 0.

    Args:
        model: Graph with inputs ``(N, C, H, W)`` float32; it may be taken apart.

    Returns:
        A graph whose replaced inputs are ``(N, H, W, C)`` uint8, as `preprocess` with that
        step writes them, and the step of each by its name. Other inputs stay as they are.
    """
    steps: dict[str, float] = {}
    inputs = []
    for parameter in model.get_parameters():
        dequantized = _dequantized(parameter)
        if dequantized is None:
            inputs.append(parameter)
            continue
        step, node = dequantized
        name = parameter.output(0).get_any_name()
        count, channels, height, width = parameter.get_partial_shape()
        pixels = ops.parameter([count, height, width, channels], ov.Type.u8, name=name)
        pixels.output(0).get_tensor().set_names({name})
        planes = ops.transpose(pixels, np.array([0, 3, 1, 2], np.int64))
        zero = np.array(ZERO_STEP, np.float32)
        node.output(0).replace(ops.subtract(ops.convert(planes, ov.Type.f32), zero).output(0))
        steps[name] = step
        inputs.append(pixels)
    if not steps:
        return model, steps
    return ov.Model(model.get_results(), inputs, model.get_friendly_name()), steps


def _dequantized(parameter: Any) -> tuple[float, Any] | None:
    """Return the step of an input and the node that makes floats of its bytes again."""
    quantizer = _only_reader(parameter, "FakeQuantize")
    narrow = _only_reader(quantizer, "Convert")
    wide = _only_reader(narrow, "Convert")
    if wide is None or narrow.get_element_type() != ov.Type.i8:
        return None
    limits = [quantizer.input_value(port).get_node() for port in range(1, 5)]
    if any(node.get_type_name() != "Constant" or node.data.size != 1 for node in limits):
        return None
    low, high, lowest, highest = (float(node.data.reshape(())) for node in limits)
    step = (high - low) / 255
    symmetric = abs(low + 128 * step) < 1e-3 * step
    return (step, wide) if symmetric and (lowest, highest) == (-128.0, 127.0) else None


def _only_reader(node: Any, type_name: str) -> Any:
    readers = [] if node is None else list(node.output(0).get_target_inputs())
    if len(readers) != 1 or readers[0].get_node().get_type_name() != type_name:
        return None
    return readers[0].get_node()
