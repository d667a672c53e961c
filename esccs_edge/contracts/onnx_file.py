"""A look into an ONNX file without the onnx package: is it a plain network, and nothing else?

A model comes from a file, and the library that parses it does whatever the file says: opens other
files, loops for ever, fills the memory. So only what a network of this kind needs is let through: a
graph of known operators in the order in which they run, whose constants are stored inside it. Field
numbers are those of onnx.proto3 (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3).
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import TYPE_CHECKING

from ..errors import ArtifactError
from .protobuf import Field, Message, Schema, parsed

if TYPE_CHECKING:
    from .bundle import Bundle

#: Operators that compute values from values: none has a graph inside, a state, or draws numbers.
OPERATORS = frozenset(
    """
    Abs Add And ArgMax ArgMin AveragePool BatchNormalization Cast Ceil Celu Clip Concat Constant
    ConstantOfShape Conv ConvTranspose Cos CumSum DepthToSpace DequantizeLinear Div Einsum Elu
    Equal Erf Exp Expand Flatten Floor Gather GatherElements GatherND Gelu Gemm
    GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual GridSample GroupNormalization GRU
    HardSigmoid HardSwish Identity InstanceNormalization LayerNormalization LeakyRelu Less
    LessOrEqual Log LogSoftmax LpNormalization LSTM MatMul Max MaxPool Mean Min Mish Mul Neg Not
    Or Pad Pow PRelu QuantizeLinear Reciprocal ReduceL1 ReduceL2 ReduceLogSumExp ReduceMax
    ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize RNN Round Selu
    Shape Sigmoid Sign Sin Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub
    Sum Tan Tanh ThresholdedRelu Tile TopK Transpose Unsqueeze Upsample Where Xor
    """.split()
)
#: More than a hundred times what a model of this package has.
MAX_NODES = 20_000
MAX_AXES = 8
#: Type number -> bytes of one element; text and the types that share a byte are not among them.
ELEMENT_BYTES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}


def _text(name: str) -> Field:
    return Field(name, "text")


def _message(name: str, kind: str, *, many: bool = False) -> Field:
    return Field(name, "bytes", kind, many)


_PROPERTIES = _message("properties", "property", many=True)

#: What a plain model is made of. Not here, so refused: sparse tensors, functions, training graphs,
#: and attributes that hold a graph. Data in other files are here, to be refused by their name.
_SCHEMA: Schema = {
    "model": {
        1: Field("ir_version", "varint"), 2: _text("producer"), 3: _text("producer_version"),
        4: _text("domain"), 5: Field("version", "varint"), 6: _text("doc"),
        7: _message("graph", "graph"), 8: _message("opsets", "opset", many=True), 14: _PROPERTIES,
    },
    "opset": {1: _text("domain"), 2: Field("version", "varint")},
    "property": {1: _text("key"), 2: _text("value")},
    "graph": {
        1: _message("nodes", "node", many=True), 2: _text("name"),
        5: _message("constants", "tensor", many=True), 10: _text("doc"),
        11: _message("inputs", "value", many=True), 12: _message("outputs", "value", many=True),
        13: _message("values", "value", many=True), 16: _PROPERTIES,
    },
    "node": {
        1: Field("inputs", "text", many=True), 2: Field("outputs", "text", many=True),
        3: _text("name"), 4: _text("operator"), 5: _message("attributes", "attribute", many=True),
        6: _text("doc"), 7: _text("domain"), 9: _PROPERTIES,
    },
    "attribute": {
        1: _text("name"), 2: Field("f", "fixed32"), 3: Field("i", "varint"), 4: Field("s", "bytes"),
        5: _message("tensor", "tensor"), 7: Field("floats", "fixed32", many=True),
        8: Field("ints", "varint", many=True), 9: Field("strings", "bytes", many=True),
        13: _text("doc"), 20: Field("type", "varint"),
    },
    "tensor": {
        1: Field("dims", "varint", many=True), 2: Field("type", "varint"),
        4: Field("floats", "fixed32", many=True), 5: Field("int32s", "varint", many=True),
        7: Field("int64s", "varint", many=True), 8: _text("name"), 9: Field("raw", "bytes"),
        10: Field("doubles", "fixed64", many=True), 11: Field("uint64s", "varint", many=True),
        12: _text("doc"), 13: Field("outside", "bytes", many=True), 14: Field("location", "varint"),
        16: _PROPERTIES,
    },
    "value": {1: _text("name"), 2: _message("type", "type"), 3: _text("doc"), 4: _PROPERTIES},
    "type": {1: _message("tensor", "tensor type"), 6: _text("denotation")},
    "tensor type": {1: Field("element", "varint"), 2: _message("shape", "shape")},
    "shape": {1: _message("dims", "dim", many=True)},
    "dim": {1: Field("size", "varint"), 2: _text("name"), 3: _text("denotation")},
}  # fmt: skip


def read_model(bundle: Bundle, name: str) -> bytes:
    """Return a model of a bundle that is safe to give to a parser.

    Raises:
        ArtifactError: It is missing, altered, or not plain; see `require_plain`.
    """
    content = bundle.read(name)
    require_plain(content, name)
    return content


def require_plain(model: bytes, name: str) -> None:
    """Check that a model is a network and nothing else.

    Args:
        model: Content of the ONNX file.
        name: File name for the message.

    Raises:
        ArtifactError: It is not a readable ONNX model, keeps tensors in another file, holds an
            operator, attribute or field that no such network needs, is not in the order in which it
            runs, or its constants do not have the sizes that they state.
    """
    try:
        document = parsed(memoryview(model), "model", _SCHEMA)
        if "graph" not in document:
            raise ValueError("it has no graph")
        _check_graph(document["graph"])
        _check_domains(one.get("domain", "") for one in document["opsets"])
    except ValueError as error:
        raise ArtifactError(
            f"{name} is not a plain ONNX model: {error}",
            hint="Export again as one file (external_data=False) with ordinary operators; nothing "
            "else is given to a parser",
        ) from error


def _check_graph(graph: Message) -> None:
    if len(graph["nodes"]) > MAX_NODES:
        raise ValueError(f"{len(graph['nodes'])} nodes, expected at most {MAX_NODES}")
    known = {value.get("name", "") for value in graph["inputs"]} | {""}
    for tensor in graph["constants"]:
        _check_tensor(tensor)
        known.add(tensor.get("name", ""))
    for node in graph["nodes"]:
        _check_domains([node.get("domain", "")])
        operator = node.get("operator", "")
        if operator not in OPERATORS:
            raise ValueError(f"operator {operator!r}, which no such network needs")
        for attribute in node["attributes"]:
            if "tensor" in attribute:
                _check_tensor(attribute["tensor"])
        if not known.issuperset(node["inputs"]):
            raise ValueError(f"a {operator} reads what nothing before it has computed")
        computed = set(node["outputs"]) - {""}
        if computed & known:
            raise ValueError(f"a {operator} computes what is there already")
        known |= computed


def _check_domains(domains: Iterable[str]) -> None:
    for domain in domains:
        if domain not in ("", "ai.onnx"):
            raise ValueError(f"operators of {domain!r}")


def _check_tensor(tensor: Message) -> None:
    """Check that all elements are there, so that what is allocated is no more than was read."""
    if tensor["outside"] or tensor.get("location", 0):
        raise ValueError("a tensor is kept in another file")
    size = ELEMENT_BYTES.get(tensor.get("type", 0))
    dims = tensor["dims"]
    if size is None or len(dims) > MAX_AXES or any(dim >= 1 << 31 for dim in dims):
        raise ValueError(f"a tensor of type {tensor.get('type', 0)} and shape {dims}")
    elements = prod(dims)
    if "raw" in tensor:
        fits = len(tensor["raw"]) == elements * size
    else:
        fits = elements == (
            sum(map(len, tensor["floats"])) // 4
            + sum(map(len, tensor["doubles"])) // 8
            + sum(len(tensor[name]) for name in ("int32s", "int64s", "uint64s"))
        )
    if not fits:
        raise ValueError(f"a tensor of shape {dims} does not hold {elements} elements")
