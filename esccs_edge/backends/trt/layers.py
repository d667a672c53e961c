"""What an engine is made of: its layers, the number types they read and write, and whose they are.

There are two sources: the engine inspector, which needs the engine loaded on a GPU, and the table
that TensorRT for RTX writes to its log while it compiles, which needs none.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ...contracts.bundle import Bundle
from ...contracts.manifest import Manifest
from ...cuda.probe import probe_driver
from ...errors import BackendError, InputError
from .build import BuildOptions, build_plan
from .library import load_flavor

#: The library's words for a number type -> ours. TensorRT 10 puts them into a sentence.
_NUMBERS = {
    "float": "fp32", "fp32": "fp32", "half": "fp16", "fp16": "fp16", "bfloat16": "bf16",
    "bf16": "bf16", "int8": "int8", "fp8": "fp8", "fp4": "fp4", "int4": "int4", "int32": "int32",
    "int64": "int64", "uint8": "uint8", "bool": "bool",
}  # fmt: skip
_ROW = re.compile(
    r"Name: (?P<name>.*?), LayerType: (?P<kind>.*?), Inputs: \[(?P<inputs>.*)\], "
    r"Constants: \[.*\], Outputs: \[(?P<outputs>.*)\], TacticName: .*?, StreamId: (?P<stream>\d+)"
)
_TENSOR = re.compile(r"\{ Name: (.*?), Dimensions: .*?Datatype: (\w+)")


@dataclass(frozen=True)
class EngineLayer:
    """One layer of an engine.

    Attributes:
        name: The library's name, which holds the ONNX node's where it has one.
        kind: The library's word, such as ``"correlation"`` for a convolution.
        part: The modality, such as ``"optical"``, if its pixels alone reach the layer; ``"both"``
            if those of two do, ``"several"`` of more, ``""`` of none. Found by following the
            tensors.
        stream: On which of the engine's streams it runs; None where the library does not say.
        reads: Number types of its inputs, such as ``("int8",)``.
        writes: Number types of its outputs.
        outputs: Names of the tensors it writes.
        milliseconds: Median time; None where it was not taken.
    """

    name: str
    kind: str
    part: str
    stream: int | None
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    outputs: tuple[str, ...]
    milliseconds: float | None = None


@dataclass(frozen=True)
class EngineListing:
    """The layers of one engine, in the order in which they are enqueued.

    Attributes:
        flavor: ``"rtx"`` or ``"tensorrt"``.
        version: Version of that library.
        gpu: Which GPU loaded the engine; empty if it was compiled only.
        layers: All layers.
        timed_batch: Samples of the batch for which layers were timed; None if they were not.
    """

    flavor: str
    version: str
    gpu: str
    layers: tuple[EngineLayer, ...]
    timed_batch: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)

    def to_text(self, manifest: Manifest) -> str:
        """Return a summary by part and output of the model, then one line per layer."""
        where = f"loaded on {self.gpu}" if self.gpu else "compiled here, loaded on no GPU"
        lines = [f"  one engine    {self.flavor} {self.version}, {where}"]
        found = {layer.part for layer in self.layers}
        joined = [part for part in ("both", "several") if part in found]
        for part in (*manifest.modalities, *joined):
            mine = [layer for layer in self.layers if layer.part == part]
            streams = sorted({layer.stream for layer in mine if layer.stream is not None})
            reads = Counter(kind for layer in mine for kind in set(layer.reads))
            lines.append(
                f"    {part:<9} {len(mine):>3} layers on stream {_listed(streams) or '?'}, reading "
                + ", ".join(f"{kind} in {count}" for kind, count in reads.most_common())
                + _time_of(mine)
            )
        for name in manifest.returned:
            layer = next((one for one in self.layers if name in one.outputs), None)
            lines.append(f"    {name:<9} written by {layer.name if layer else 'no layer'}")
        timed = "" if self.timed_batch is None else f", microseconds for {self.timed_batch}"
        lines.append(f"    part    stream  reads -> writes       layer{timed}")
        for layer in self.layers:
            numbers = f"{_listed(layer.reads) or '-'} -> {_listed(layer.writes) or '-'}"
            stream = "" if layer.stream is None else layer.stream
            lines.append(
                f"    {layer.part:<8}{stream:>6}  {numbers:<20}  {layer.kind} {layer.name}"
                + _time_of([layer])
            )
        return "\n".join(lines)


def list_engine(bundle: Bundle, timed_batch: int | None = None) -> EngineListing:
    """List the engine of a bundle's model: the one that runs here, or one compiled for the purpose.

    Where there is a GPU, the runtime's own engine is loaded (built first if need be). Elsewhere
    TensorRT for RTX compiles one for its default set of GPUs.

    Args:
        bundle: Where the model is.
        timed_batch: Samples of a batch for which to time each layer too, which needs a GPU.

    Raises:
        InputError: Batches of that size are not in the model's profile.
        ArtifactError: The model is missing or altered.
        MissingDependencyError: No TensorRT that can be used here is installed.
        BackendError: The engine could not be built or loaded, or its layers are not reported.
    """
    profile, problem = bundle.manifest.batch, probe_driver().problem
    if timed_batch is not None and not profile.min <= timed_batch <= profile.max:
        raise InputError(f"batch to time is {timed_batch}, expected {profile.min}..{profile.max}")
    if problem and timed_batch is not None:
        raise BackendError(f"layers are timed on a GPU, but {problem}", hint="Leave out --time")
    return _compiled(bundle) if problem else _loaded(bundle, timed_batch)


def _loaded(bundle: Bundle, timed_batch: int | None) -> EngineListing:
    from .backend import TrtBackend

    times: dict[str, float] = {}
    backend = TrtBackend(bundle, bundle.manifest, max_batch=timed_batch or 1)
    try:
        about, layers = backend.describe(), backend.layers()
        if timed_batch is not None:
            times = backend.layer_times_ms(timed_batch)
    finally:
        backend.close()
    found = tuple(
        replace(layer, milliseconds=times.get(layer.name))
        for layer in layers_of_inspector(layers, bundle.manifest.modalities)
    )
    return EngineListing(about["flavor"], about["tensorrt"], about["device"], found, timed_batch)


def _compiled(bundle: Bundle) -> EngineListing:
    library, manifest = load_flavor("rtx"), bundle.manifest
    options = BuildOptions(batch=manifest.batch, target="portable")
    table = build_plan(library, bundle.read(manifest.model), manifest, options).layers
    found = layers_of_table(table, manifest.modalities)
    return EngineListing(library.name, library.version, "", found)


def layers_of_inspector(
    layers: Iterable[Mapping[str, Any]], modalities: Iterable[str]
) -> tuple[EngineLayer, ...]:
    """Read what `LoadedEngine.layers` returns; TensorRT 10 and 11 spell number types differently.

    Args:
        layers: The inspector's rows.
        modalities: Names of the inputs that hold pixels.

    Raises:
        BackendError: There is no layer, or the engine was built without their details.
    """
    rows = [
        (
            str(layer["Name"]),
            str(layer.get("LayerType", "")),
            layer.get("StreamId"),
            _tensors(layer.get("Inputs", ())),
            _tensors(layer.get("Outputs", ())),
        )
        for layer in layers
    ]
    if not any(outputs for *_, outputs in rows):
        raise BackendError("the engine inspector reports nothing about this engine's layers")
    return _with_parts(rows, modalities)


def layers_of_table(table: str, modalities: Iterable[str]) -> tuple[EngineLayer, ...]:
    """Read the table that TensorRT for RTX logs at the end of a build.

    Args:
        table: The log's text.
        modalities: Names of the inputs that hold pixels.

    Raises:
        BackendError: There is none, or it has another form than that of version 1.7.
    """
    lines = [line for line in table.partition("\n\n")[0].splitlines() if line.startswith("Name: ")]
    found = [_ROW.match(line) for line in lines]
    rows = [
        (row["name"], row["kind"], int(row["stream"]),
         _TENSOR.findall(row["inputs"]), _TENSOR.findall(row["outputs"]))
        for row in found
        if row is not None
    ]  # fmt: skip
    if not rows or len(rows) < len(lines):
        raise BackendError(
            "this TensorRT for RTX does not list an engine's layers in the known form",
            hint="Run it on a host with a GPU, where the engine inspector is asked",
        )
    return _with_parts(rows, modalities)


#: A tensor's name and the library's word for its number type.
_Tensor = tuple[str, str]


def _tensors(listed: Iterable[Mapping[str, Any]]) -> list[_Tensor]:
    return [
        (str(tensor["Name"]), str(tensor.get("Datatype", tensor.get("Format/Datatype", ""))))
        for tensor in listed
    ]


def _with_parts(
    rows: Sequence[tuple[str, str, int | None, list[_Tensor], list[_Tensor]]],
    modalities: Iterable[str],
) -> tuple[EngineLayer, ...]:
    """Follow the pixels through the tensors; layers come in the order of their work."""
    reached = {name: frozenset({name}) for name in modalities}
    layers = []
    for name, kind, stream, inputs, outputs in rows:
        nothing: frozenset[str] = frozenset()
        sources = nothing.union(*(reached.get(tensor, nothing) for tensor, _ in inputs))
        reached.update({tensor: sources for tensor, _ in outputs})
        joined = "both" if len(sources) == 2 else "several"
        part = joined if len(sources) > 1 else "".join(sources)
        reads, writes = (tuple(_number(word) for _, word in side) for side in (inputs, outputs))
        written = tuple(tensor for tensor, _ in outputs)
        layers.append(EngineLayer(name, kind, part, stream, reads, writes, written))
    return tuple(layers)


def _number(words: str) -> str:
    known = (_NUMBERS.get(word) for word in re.findall(r"\w+", words.lower()))
    return next((number for number in known if number), words)


def _time_of(layers: Iterable[EngineLayer]) -> str:
    times = [layer.milliseconds for layer in layers if layer.milliseconds is not None]
    return f", {1e3 * sum(times):.1f} us" if times else ""


def _listed(values: Iterable[Any]) -> str:
    return "+".join(dict.fromkeys(map(str, values)))
