"""Spells out normalizations, where OpenVINO's own code for them crashes.

OpenVINO (2026.4 was seen) ends the process in a segmentation fault where it normalizes to mean 0
and variance 1 (layer, group and instance norm) over a number of elements that is no multiple of 16,
with code for AVX2. It also makes such a normalization of the operations that amount to one. A sum
that is multiplied by 1 / n is not taken for a mean, so it leaves those alone, and they compute the
same.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from .openvino import ops, ov


def spell_out_normalizations(model: ov.Model) -> None:
    """Replace normalizations, and means that are subtracted from what they are the mean of.

    Args:
        model: Graph of known shapes; it is changed.
    """
    for node in model.get_ordered_ops():
        if node.get_type_name() == "MVN":
            _spell_out(node)
        elif node.get_type_name() == "Subtract":
            mean = node.input_value(1).get_node()
            if mean.get_type_name() == "ReduceMean" and mean.input_value(0) == node.input_value(0):
                made = _mean(mean.input_value(0), mean.input_value(1), mean.get_keep_dims())
                mean.output(0).replace(made.output(0))


def _spell_out(node: Any) -> None:
    pixels, axes = node.input_values()
    about = node.get_attributes()
    found = ops.subtract(pixels, _mean(pixels, axes))
    if about["normalize_variance"]:
        epsilon = ops.constant(about["eps"], found.get_element_type())
        variance = _mean(ops.multiply(found, found).output(0), axes)
        if about["eps_mode"] == "INSIDE_SQRT":
            deviation = ops.sqrt(ops.add(variance, epsilon))
        else:
            deviation = ops.add(ops.sqrt(variance), epsilon)
        found = ops.divide(found, deviation)
    found.set_friendly_name(node.get_friendly_name())
    node.output(0).replace(found.output(0))


def _mean(pixels: Any, axes: Any, keep_dims: bool = True) -> Any:
    total = ops.reduce_sum(pixels, axes, keep_dims)
    share = prod(total.output(0).get_shape()) / prod(pixels.get_shape())
    return ops.multiply(total, ops.constant(np.float32(share), total.get_element_type()))
