"""Peer names -> peers. Only the library of the one that is asked for gets imported."""

from __future__ import annotations

from collections.abc import Callable

from esccs_edge.contracts.bundle import Bundle
from esccs_edge.contracts.bundle_files import INT8_ONNX, STUDENT_ONNX

from . import OURS, known
from .peer import Peer

#: Loads a peer: (bundle, threads or None for all, backend of our own row) -> peer.
Opener = Callable[[Bundle, "int | None", str], Peer]

_OPENVINO_PRECISION = {"int8": None, "bf16": "bf16", "fp32": "f32"}


def opener(name: str) -> Opener:
    """Import what a peer needs and return the function that loads it.

    Raises:
        ImportError: Its library is not installed.
        InputError: There is no such peer.
    """
    library, _, form = known(name).partition("-")
    graph = INT8_ONNX if form == "int8" else STUDENT_ONNX
    if name == OURS:
        from .own_peer import OwnPeer

        return OwnPeer
    if library == "openvino":
        from .openvino_peer import OpenVinoPeer

        precision = _OPENVINO_PRECISION[form]
        return lambda bundle, threads, _: OpenVinoPeer(bundle, threads, graph, precision)
    if library == "onnxruntime":
        from .onnxruntime_peer import OnnxRuntimePeer

        return lambda bundle, threads, _: OnnxRuntimePeer(bundle, threads, graph)
    if library == "torch":
        from .torch_peer import TorchPeer

        return lambda bundle, threads, _: TorchPeer(bundle, threads, form == "compile")
    from .opencv_peer import OpenCvPeer

    return lambda bundle, threads, _: OpenCvPeer(bundle, threads)
