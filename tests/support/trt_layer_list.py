"""What an engine inspector says about a small student, in the form of TensorRT 11 and RTX 1.7.

Written by hand: a layer for each modality, then what joins them.
"""

from __future__ import annotations


def tensors(**types):
    return [{"Name": name, "Datatype": kind} for name, kind in types.items()]


LAYERS = [
    {"Name": "start", "LayerType": "shape_call", "StreamId": 0, "Inputs": [], "Outputs": []},
    {"Name": "conv_o", "LayerType": "correlation", "StreamId": 0,
     "Inputs": tensors(optical="Int8"), "Outputs": tensors(a="Float")},
    {"Name": "conv_s", "LayerType": "correlation", "StreamId": 1,
     "Inputs": tensors(sar="Half"), "Outputs": tensors(b="Half")},
    {"Name": "gate", "LayerType": "kgen", "StreamId": 0,
     "Inputs": tensors(availability="Float", a="Float", b="Half"),
     "Outputs": tensors(gate="Float", mixed="Float")},
    {"Name": "head", "LayerType": "runtime_fusion", "StreamId": 0,
     "Inputs": tensors(mixed="Float"), "Outputs": tensors(logits="Float")},
]  # fmt: skip
