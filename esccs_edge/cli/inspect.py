"""``esccs-edge inspect``: what a bundle is, and on request what engine TensorRT makes of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING

import click

from ..contracts.bundle_files import INT8_ONNX
from .options import bundle_argument, open_bundle
from .shell import CommandResult, command

if TYPE_CHECKING:
    from ..backends.trt.layers import EngineListing
    from ..contracts.bundle import Bundle
    from ..contracts.manifest import Manifest
    from ..contracts.modality import ModalitySpec
    from ..contracts.tensor import Tensor


@command(
    "inspect",
    help="""
    Show what BUNDLE expects, answers and comes from.

    With --layers, the engine is listed layer by layer: which input each works on, on which stream,
    and which number types it reads and writes. Where there is a GPU this is the engine that runs
    on it; elsewhere TensorRT for RTX compiles one, which is loaded on no GPU. --time runs it under
    TensorRT's profiler, which lets layers run one after the other.
    """,
    example="""
    esccs-edge inspect default
    esccs-edge inspect default --layers
    esccs-edge inspect default --layers --time 32
    """,
)
@bundle_argument
@click.option("--layers", is_flag=True, help="Also list the layers of the TensorRT engine.")
@click.option(
    "--time",
    "timed_batch",
    is_flag=False,
    flag_value=1,
    type=click.IntRange(min=1),
    metavar="BATCH",
    help="With --layers: time each layer, for batches of this size (1 if none is given).",
)
def run(bundle: str, layers: bool, timed_batch: int | None) -> CommandResult:
    if timed_batch is not None and not layers:
        raise click.UsageError("--time times the layers that --layers lists: give both")
    opened = open_bundle(bundle)
    engine = _engine(opened, timed_batch) if layers else None
    operators = _operators(opened)
    document = {
        "folder": opened.folder,
        "digest": opened.digest,
        "manifest": json.loads(opened.manifest.to_json()),
        "bytes": sum(record.bytes for record in opened.manifest.files.values()),
        "layers": operators,
        "engine": None if engine is None else engine.to_dict(),
    }
    text = _text(opened, operators)
    return CommandResult(
        document, text if engine is None else f"{text}\n{engine.to_text(opened.manifest)}"
    )


def _engine(bundle: Bundle, timed_batch: int | None) -> EngineListing:
    from ..backends.trt.layers import list_engine

    return list_engine(bundle, timed_batch)


def _operators(bundle: Bundle) -> dict[str, int] | None:
    """Count the operators of the model; None where onnx is not installed or it is no ONNX file."""
    if find_spec("onnx") is None or not bundle.manifest.model.endswith(".onnx"):
        return None
    if bundle.manifest.model not in bundle.manifest.files:
        return None
    import onnx

    from ..contracts.onnx_file import read_model

    graph = onnx.load_from_string(read_model(bundle, bundle.manifest.model)).graph
    return dict(Counter(node.op_type for node in graph.node).most_common())


def _text(bundle: Bundle, operators: dict[str, int] | None) -> str:
    from ..contracts.modality import modality_title

    manifest = bundle.manifest
    lines = [
        f"{manifest.name}  ({bundle.folder})",
        f"  task          {manifest.task}",
        f"  patch         {_patch(manifest)}",
        f"  classes       {', '.join(manifest.classes)}",
        *(
            f"  {modality_title(name):<13} {_modality(spec)}"
            for name, spec in manifest.modalities.items()
        ),
        *(f"  {'input':<13} {_tensor(tensor)}" for tensor in manifest.inputs.values()),
        *(f"  {'output':<13} {_tensor(tensor)}" for tensor in manifest.outputs.values()),
        f"  model         {manifest.model}, {_arithmetic(manifest)}",
        f"  temperature   {manifest.temperature:.3f}",
        f"  batch         {manifest.batch.min} / {manifest.batch.opt} / {manifest.batch.max}"
        "  (min / opt / max)",
        f"  sha256        {bundle.digest}",
        "  files",
    ]
    lines += [
        f"    {name:<22} {record.bytes:>10,} bytes  {record.sha256[:12]}"
        for name, record in sorted(manifest.files.items())
    ]
    lines += _origin(manifest)
    if operators is not None:
        lines.append("  layers        " + ", ".join(f"{n} {op}" for op, n in operators.items()))
    elif find_spec("onnx") is None:
        lines.append('  layers        not shown; run: pip install "esccs-edge[export]"')
    return "\n".join(lines)


def _patch(manifest: Manifest) -> str:
    sample = manifest.sample
    dates = "" if sample.dates is None else f", {sample.dates} dates"
    return f"{sample.height} x {sample.width} pixels of {sample.pixel_size_m:g} m{dates}"


def _tensor(tensor: Tensor) -> str:
    return f"{tensor.name} ({', '.join(map(str, tensor.shape))}), {tensor.role}"


def _modality(spec: ModalitySpec) -> str:
    return f"{spec.sensor} {spec.level}, {spec.unit}: {' '.join(spec.channels)}"


def _arithmetic(manifest: Manifest) -> str:
    if manifest.model not in manifest.files:
        return "not made yet: run `esccs-edge export`"
    if manifest.model != INT8_ONNX:
        return "float"
    method = (manifest.quantization or {}).get("method")
    return f"INT8 ({method})" if method else "INT8"


def _origin(manifest: Manifest) -> list[str]:
    """Say where the model comes from: data, what was simulated, numbers on held-out pairs."""
    lines = ["  origin"]
    for key, value in manifest.provenance.items():
        if isinstance(value, (str, int, float)):
            lines.append(f"    {key:<10} {value}")
    for key in ("data", "simulated"):
        parts = manifest.provenance.get(key)
        if isinstance(parts, Mapping):
            lines += [f"    {key:<10} {name}: {part}" for name, part in parts.items()]
    return [*(lines if len(lines) > 1 else []), *_numbers(manifest)]


def _numbers(manifest: Manifest) -> list[str]:
    """Balanced accuracy of each network of the run on the test split, by cloud cover."""
    metrics = manifest.provenance.get("metrics")
    test = metrics.get("test") if isinstance(metrics, Mapping) else None
    if not isinstance(test, Mapping):
        return []
    lines = ["  balanced accuracy on the test split, in all and by cloud cover"]
    for name, report in test.items():
        bins = report["by_cloud"].items()
        parts = [f"{report['overall']['balanced_accuracy']:.3f}"]
        parts += [
            f"{cloud} %: {scores['balanced_accuracy']:.3f}" for cloud, scores in bins if scores["n"]
        ]
        lines.append(f"    {name:<40} {'  '.join(parts)}")
    return lines
