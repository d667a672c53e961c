"""A look into an ONNX file without the onnx package: does it point outside itself?

An ONNX tensor may name another file to load its values from. A bundle's digest cannot vouch for
that file, so such models are refused before any runtime parses them. Field numbers are those of
onnx.proto3 (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3).
"""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import ArtifactError

#: Message -> field number -> message in that field, for every road that leads to a tensor.
_CHILDREN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_EXTERNAL_DATA, _DATA_LOCATION, _EXTERNAL = 13, 14, 1
_MAX_DEPTH = 32


def refuse_external_data(model: bytes, name: str) -> None:
    """Check that every tensor of the model is stored inside it.

    Args:
        model: Content of the ONNX file.
        name: File name for the message.

    Raises:
        ArtifactError: A tensor refers to another file, or the bytes are not an ONNX model.
    """
    try:
        outside = _points_outside(memoryview(model), "model", 0)
    except (IndexError, ValueError) as error:
        raise ArtifactError(f"{name} is not a readable ONNX model: {error}") from error
    if outside:
        raise ArtifactError(
            f"{name} keeps tensors in another file, expected one self-contained ONNX file",
            hint="Export again with external_data=False",
        )


def _points_outside(message: memoryview, kind: str, depth: int) -> bool:
    if depth > _MAX_DEPTH:
        raise ValueError(f"graphs nested deeper than {_MAX_DEPTH}")
    children = _CHILDREN[kind]
    for number, value in _fields(message):
        if kind == "tensor" and (
            number == _EXTERNAL_DATA or number == _DATA_LOCATION and value == _EXTERNAL
        ):
            return True
        if number in children:
            if isinstance(value, int):
                raise ValueError(f"field {number} of {kind} is a number, expected a message")
            if _points_outside(value, children[number], depth + 1):
                return True
    return False


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield field number and value: an int for a varint, bytes for everything else."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        wire = tag & 7
        if wire == 0:
            number, at = _varint(message, at)
            yield tag >> 3, number
            continue
        if wire == 2:
            length, at = _varint(message, at)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise ValueError(f"unknown wire type {wire}")
        if at + length > len(message):
            raise ValueError("a field is longer than the file")
        yield tag >> 3, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number is longer than 64 bits")
