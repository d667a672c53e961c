"""Other runtimes that run the same student, to compare times on one machine.

Every peer goes the whole way from raw pixels to labels, in a process of its own (`worker`). What a
peer needs is imported when it is opened; one that cannot be opened says why.
"""

from __future__ import annotations

from esccs_edge.errors import InputError

#: The row that all others are compared with.
OURS = "esccs-edge"
#: Peer -> what it is, for tables. The order is that of the rows.
PEERS = {
    OURS: "this package",
    "openvino-int8": "OpenVINO, INT8 graph, NumPy preprocessing",
    "openvino-bf16": "OpenVINO, FP32 graph in bfloat16 (its default where the CPU has it), NumPy",
    "openvino-fp32": "OpenVINO, FP32 graph in float32, NumPy",
    "onnxruntime-int8": "ONNX Runtime, INT8 graph, NumPy",
    "onnxruntime-fp32": "ONNX Runtime, FP32 graph, NumPy",
    "torch-compile": "torch.compile, FP32, NumPy",
    "torch-eager": "torch eager, FP32, NumPy",
    "opencv-dnn": "cv2.dnn, FP32 graph, NumPy",
}
#: Peers that compute in float32 throughout and so must agree to rounding.
FLOAT32_PEERS = (
    "openvino-fp32", "onnxruntime-fp32", "torch-compile", "torch-eager", "opencv-dnn",
)  # fmt: skip

#: Pairs that a runtime takes at once; larger calls go through it in turns, as they do through a
#: `Classifier` with default settings.
TURN = 32


def known(name: str) -> str:
    """Return the name of a peer.

    Raises:
        InputError: There is no such peer.
    """
    if name not in PEERS:
        raise InputError(f"peer is {name!r}, expected one of {', '.join(PEERS)}")
    return name
