"""Whatever spelling a model file uses: what we let through, the real parsers read as we do."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import onnx
import pytest
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from support import tiny
from support.toy_task import toy_manifest, toy_onnx

from esccs_edge.contracts.bundle import MODELS, SHIPPED
from esccs_edge.contracts.onnx_file import OPERATORS, require_plain
from esccs_edge.errors import ArtifactError

MANIFEST = tiny.tiny_manifest()
MODEL = tiny.tiny_onnx(MANIFEST)
#: What the file holds to which a hostile model points.
SECRET = 1234.5


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def longer(number: bytes, extra: int) -> bytes:
    """The same number, written with bytes that add nothing to it."""
    return number[:-1] + bytes([number[-1] | 0x80]) + b"\x80" * (extra - 1) + b"\0"


def field(number: int, payload: bytes, tag_bits: int = 0) -> bytes:
    return varint(number << 3 | 2 | tag_bits) + varint(len(payload)) + payload


def is_plain(model: bytes) -> bool:
    try:
        require_plain(model, "student.onnx")
    except ArtifactError as error:
        assert "not a plain ONNX model" in error.message
        return False
    return True


def test_the_models_of_this_package_are_plain():
    files = list(MODELS.glob("*/*.onnx"))
    assert {"default", "crop-series"} <= {path.parent.name for path in files} <= set(SHIPPED)
    shipped = [path.read_bytes() for path in files]
    for model in (MODEL, toy_onnx(toy_manifest()), *shipped):
        require_plain(model, "student.onnx")


# ---- data outside the file ----------------------------------------------------------------------


def external_tensor(name: str) -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[2])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="secret.bin")
    return tensor


def model_with(where: str) -> bytes:
    model = onnx.load_from_string(MODEL)
    outside = external_tensor("outside")
    if where == "initializer":
        model.graph.initializer.append(outside)
    elif where == "constant":
        model.graph.node.append(helper.make_node("Constant", [], ["outside"], value=outside))
    elif where == "subgraph":
        branch = helper.make_graph([], "branch", [], [], [outside])
        model.graph.node.append(helper.make_node("If", ["c"], ["r"], then_branch=branch))
    elif where == "function":
        node = helper.make_node("Constant", [], ["outside"], value=outside)
        imports = [helper.make_opsetid("", 17)]
        model.functions.append(helper.make_function("d", "f", [], ["outside"], [node], imports))
    elif where == "training":
        model.training_info.add().algorithm.initializer.append(outside)
    elif where == "sparse":
        sparse = onnx.SparseTensorProto(values=outside, dims=[2])
        model.graph.sparse_initializer.append(sparse)
    return model.SerializeToString()


@pytest.mark.fault(54)
@pytest.mark.parametrize(
    "where", ["initializer", "constant", "subgraph", "function", "training", "sparse"]
)
def test_external_data_is_refused_wherever_it_hides(where):
    assert not is_plain(model_with(where))


def spellings() -> Iterator[bytes]:
    """Models whose weight lies in a file beside them, each written in a way of its own."""
    model = onnx.load_from_string(MODEL)
    (weight,) = (tensor for tensor in model.graph.initializer if tensor.name == "weight")
    others = [tensor for tensor in model.graph.initializer if tensor.name != "weight"]
    inline = TensorProto()
    inline.CopyFrom(weight)
    weight.ClearField("raw_data")
    bare = weight.SerializeToString()
    del model.graph.initializer[:]
    model.graph.initializer.extend(others)
    graph = model.graph.SerializeToString()
    model.ClearField("graph")
    rest = model.SerializeToString()
    entry = field(1, b"location") + field(2, b"secret.bin")

    def with_tensor(tensor: bytes, tag_bits: int = 0) -> bytes:
        return rest + field(7, graph + field(5, tensor, tag_bits))

    for tag_bits in (0, *(1 << bit for bit in range(32, 64))):
        for location in (1, 1 + (1 << 32), 1 + (5 << 40), 1 + (1 << 63)):
            tag = varint(14 << 3 | tag_bits)
            outside = field(13, entry, tag_bits) + tag + varint(location)
            yield with_tensor(bare + outside)
            yield with_tensor(outside + bare, tag_bits)
    plain = field(13, entry) + varint(14 << 3) + b"\1"
    for extra in range(1, 6):
        yield with_tensor(bare + longer(varint(13 << 3 | 2), extra) + plain[1:])
        yield with_tensor(bare + field(13, entry) + varint(14 << 3) + longer(b"\1", extra))
        yield (
            rest + longer(varint(7 << 3 | 2), extra) + field(7, graph + field(5, bare + plain))[1:]
        )
    # Packed where a single number belongs, twice with the last one counting, and split in two
    # messages that a parser merges.
    yield with_tensor(bare + field(13, entry) + field(14, b"\1"))
    yield with_tensor(bare + field(13, entry) + varint(14 << 3) + b"\0" + varint(14 << 3) + b"\1")
    yield rest + field(7, graph) + field(7, field(5, bare + plain))
    yield with_tensor(inline.SerializeToString() + plain)
    yield with_tensor(bare + varint(13 << 3 | 3) + entry + varint(13 << 3 | 4) + plain)


@pytest.fixture
def beside_a_secret(tmp_path, monkeypatch):
    """Work where a file of that name lies: OpenVINO looks for it in the current folder."""
    weight, _ = tiny.weights(MANIFEST)
    np.full(weight.shape, SECRET, np.float32).tofile(tmp_path / "secret.bin")
    monkeypatch.chdir(tmp_path)


def opened_by_openvino(model: bytes) -> bool:
    """Whether the secret is among the constants after OpenVINO has read a model."""
    ov = pytest.importorskip("openvino")
    try:
        operations = ov.Core().read_model(model, b"").get_ops()
    except (RuntimeError, ValueError):
        return False
    constants = (one for one in operations if one.get_type_name() == "Constant")
    return any((np.asarray(one.get_data()) == SECRET).any() for one in constants)


@pytest.mark.fault(54)
def test_no_spelling_of_external_data_passes_that_openvino_would_open(beside_a_secret):
    models = list(spellings())
    opened = sum(map(opened_by_openvino, models))
    assert opened > 30  # the attack is real: without the guard these are read from the disk
    assert not any(map(is_plain, models)) and len(models) > 200


# ---- what passes, both parsers understand alike -------------------------------------------------


def messages(message: Message) -> Iterator[Message]:
    yield message
    for descriptor, value in message.ListFields():
        if descriptor.message_type is None:
            continue
        for one in [value] if isinstance(value, Message) else value:
            yield from messages(one)


def assert_understood(model: bytes) -> None:
    """A model that passed is to the onnx package what it is to us."""
    document = onnx.ModelProto.FromString(model)
    nodes = 0
    for message in messages(document):
        assert len(UnknownFieldSet(message)) == 0
        if isinstance(message, onnx.TensorProto):
            assert not message.external_data and message.data_location == TensorProto.DEFAULT
            assert numpy_helper.to_array(message).size == np.prod(message.dims, dtype=object)
        if isinstance(message, onnx.NodeProto):
            nodes += 1
            assert message.op_type in OPERATORS and message.domain in ("", "ai.onnx")
    assert nodes == len(document.graph.node) and not document.functions


def mutated(model: bytes, dice: random.Random) -> bytes:
    """Flip, cut, repeat or splice; lengths above are left alone, so most are nonsense."""
    content = bytearray(model)
    for _ in range(dice.randint(1, 3)):
        at = dice.randrange(len(content))
        kind = dice.randrange(4)
        if kind == 0:
            content[at] ^= 1 << dice.randrange(8)
        elif kind == 1:
            content[at] = dice.choice([0, 1, 0x70, 0x6A, 0x7F, 0x80, 0xFF])
        elif kind == 2:
            content[at:at] = varint(14 << 3 | dice.getrandbits(40) << 32) + b"\1"
        else:
            del content[at : at + dice.randint(1, 9)]
    return bytes(content)


def test_a_mutated_model_is_refused_or_understood_alike():
    # Without the weights, so that a change hits the structure.
    model = onnx.load_from_string(MODEL)
    small = MODEL.replace(model.graph.initializer[0].raw_data, b"")
    dice, passed = random.Random(11), 0
    for turn in range(6000):
        changed = mutated(MODEL if turn % 2 else small, dice)
        if is_plain(changed):
            passed += 1
            assert_understood(changed)
    assert passed > 100


@given(st.binary(max_size=200))
def test_noise_never_raises_anything_else(noise):
    is_plain(noise)


@settings(max_examples=60)
@given(st.integers(0, len(MODEL) - 1))
def test_a_truncated_model_is_refused_or_understood_alike(length):
    if is_plain(MODEL[:length]):
        assert_understood(MODEL[:length])


# ---- operators, order and sizes -----------------------------------------------------------------


def changed_model(change) -> bytes:
    model = onnx.load_from_string(MODEL)
    change(model.graph)
    return model.SerializeToString()


def looped(graph) -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["co"])],
        "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []),
         helper.make_tensor_value_info("c", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("co", TensorProto.BOOL, [])],
    )  # fmt: skip
    graph.node.append(helper.make_node("Loop", ["n", "t"], [], body=body))


def cyclic(graph) -> None:
    graph.node[0].input[0] = "optical_features"


def twice(graph) -> None:
    graph.node.append(graph.node[0])


def another_domain(graph) -> None:
    graph.node[0].domain = "evil"


def random_numbers(graph) -> None:
    graph.node[0].op_type = "RandomNormalLike"


def many_nodes(graph) -> None:
    for i in range(20_001):
        graph.node.append(helper.make_node("Identity", ["optical"], [f"copy{i}"]))


def huge_constant(graph) -> None:
    graph.initializer[0].dims[0] = 1 << 30


def negative_constant(graph) -> None:
    graph.initializer[0].dims[0] = -4


def short_constant(graph) -> None:
    graph.initializer[0].raw_data = graph.initializer[0].raw_data[:-4]


def typed_constant(graph) -> None:
    graph.initializer[0].ClearField("raw_data")
    graph.initializer[0].float_data.extend([0.0] * 3)


@pytest.mark.fault(55)
@pytest.mark.parametrize(
    "change, reason",
    [(looped, "attribute has a field 6"), (cyclic, "reads what nothing before"),
     (twice, "what is there already"), (another_domain, "operators of 'evil'"),
     (random_numbers, "operator 'RandomNormalLike'"), (many_nodes, "at most 20000"),
     (huge_constant, "does not hold"), (negative_constant, "and shape"),
     (short_constant, "does not hold"), (typed_constant, "does not hold")],
)  # fmt: skip
def test_what_no_plain_network_needs_is_refused_with_its_reason(change, reason):
    with pytest.raises(ArtifactError, match=reason):
        require_plain(changed_model(change), "student.onnx")


@pytest.mark.fault(55)
def test_endless_nesting_is_refused():
    graph = b""
    for _ in range(5000):  # attribute(graph) in node in graph, over and over
        for number in (6, 5, 1):
            graph = field(number, graph)
    assert not is_plain(field(7, graph))


@pytest.mark.parametrize("kind", ["float32", "float16", "int64", "int32", "uint8", "bool"])
@pytest.mark.parametrize("raw", [True, False])
def test_constants_of_every_way_of_writing_pass(kind, raw):
    values = np.arange(6).reshape(2, 3).astype(kind)
    tensor = numpy_helper.from_array(values, "extra")
    if not raw:
        tensor = helper.make_tensor("extra", tensor.data_type, [2, 3], values.ravel().tolist())
        assert not tensor.raw_data
    model = changed_model(lambda graph: graph.initializer.append(tensor))
    require_plain(model, "student.onnx")
    assert_understood(model)
