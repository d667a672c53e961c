"""How fast a scene becomes a map of land cover: this package beside the usual window loop.

All begin at two GeoTIFFs and end at one. The loop is what one writes around another runtime:
windows with half overlap, NumPy preprocessing (`peers.numpy_preprocess`), batches, probabilities
added up under the same Hann window, an argmax. It keeps the sums of the whole scene in memory and
writes labels alone, where ours writes confidence, share of optical and overviews as well. All take
turns in one process. Pixels are simulated: only time is measured, and that the maps agree.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import rasterio
import torch
from onnx.utils import Extractor
from rasterio.windows import Window
from support.torch_engine import TorchGraph

from esccs_edge.any_task import open_model
from esccs_edge.cli.demo_rasters import Ground, read_classes, write_optical, write_sar
from esccs_edge.contracts.bundle import Bundle
from esccs_edge.contracts.bundle_files import INT8_ONNX, STUDENT_ONNX
from esccs_edge.contracts.manifest import Manifest
from esccs_edge.scenes.mapping import map_scene
from esccs_edge.scenes.tiling import Tiling, window_weights
from esccs_edge.training.simulate.scene import simulate_scene

from .bare_networks import Network, onnxruntime_network, openvino_network
from .peers.numpy_preprocess import Float, NumpyPreprocess

OURS = "esccs-edge"
ROUNDS, BATCH = 3, 32
_GROUND = Ground("EPSG:32632", (600_000.0, 5_400_000.0), 10.0, "simulated")


@dataclass(frozen=True)
class MapTime:
    """One row.

    Attributes:
        name: Whose.
        seconds: Median over the rounds, from rasters to raster.
        megapixels_per_s: Of the scene.
        ratio: Its time over ours, round by round: the median.
        same: Share of pixels with our label.
    """

    name: str
    seconds: float
    megapixels_per_s: float
    ratio: float
    same: float


def _logits_alone(content: bytes) -> bytes:
    """Cut off the images of bytes that our export adds, and the gate."""
    model = onnx.load_model_from_string(content)
    inputs = [given.name for given in model.graph.input]
    cut: bytes = Extractor(model).extract_model(inputs, ["logits"]).SerializeToString()
    return cut


def _torch(content: bytes) -> Network:
    graph = TorchGraph(content, "cpu")

    @torch.inference_mode()
    def run(inputs: dict[str, Float]) -> Float:
        tensors = {
            name: torch.from_numpy(x).contiguous(memory_format=torch.channels_last)
            if x.ndim == 4
            else torch.from_numpy(x)
            for name, x in inputs.items()
        }
        found: Float = graph(tensors)["logits"].numpy()
        return found

    return run


#: Runtime -> the graph that it runs, and what opens it.
PEERS: dict[str, tuple[str, Callable[[bytes], Network]]] = {
    "openvino-int8": (INT8_ONNX, openvino_network),
    "openvino-float": (STUDENT_ONNX, openvino_network),
    "onnxruntime-int8": (INT8_ONNX, onnxruntime_network),
    "onnxruntime-fp32": (STUDENT_ONNX, onnxruntime_network),
    "torch-eager": (STUDENT_ONNX, _torch),
}


def _loop(
    manifest: Manifest, network: Network, paths: Mapping[str, Path]
) -> Callable[[Path], None]:
    preprocess, size = NumpyPreprocess(manifest), manifest.sample.height
    weights = window_weights(size)
    weights = (weights[:, None] * weights).astype(np.float32)

    def run(out: Path) -> None:
        with rasterio.open(paths["optical"]) as optical, rasterio.open(paths["sar"]) as sar:
            tiling = Tiling.of(optical.height, optical.width, size, size // 2)
            total = np.zeros((len(manifest.classes), tiling.height, tiling.width), np.float32)
            for corners in _batches(tiling):
                read = (
                    np.stack([raster.read(window=Window(c, r, size, size)) for r, c in corners])
                    for raster in (optical, sar)
                )
                probabilities = _softmax(network(preprocess(*read)) / manifest.temperature)
                for (row, column), found in zip(corners, probabilities, strict=True):
                    total[:, row : row + size, column : column + size] += found * weights
            profile: dict[str, Any] = {
                "driver": "GTiff", "width": tiling.width, "height": tiling.height, "count": 1,
                "dtype": "uint8", "crs": optical.crs, "transform": optical.transform,
                "compress": "deflate", "nodata": 255,
            }  # fmt: skip
            with rasterio.open(out, "w", **profile) as raster:
                raster.write(total.argmax(axis=0).astype(np.uint8), 1)

    return run


def _batches(tiling: Tiling) -> Iterator[list[tuple[int, int]]]:
    corners = [(row, column) for row in tiling.rows for column in tiling.columns]
    yield from (corners[first : first + BATCH] for first in range(0, len(corners), BATCH))


def _softmax(logits: Float) -> Float:
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    found: Float = weights / weights.sum(axis=1, keepdims=True)
    return found


def measure_maps(
    bundle: Bundle,
    *,
    size: int,
    rounds: int = ROUNDS,
    peers: Sequence[str] = tuple(PEERS),
) -> list[MapTime]:
    """Time all of them in turns on a simulated scene.

    Args:
        bundle: A model that labels pixels.
        size: Height and width of the scene in pixels.
        rounds: Turns; one more before them is not counted.
        peers: Names in `PEERS`; ours is always timed.
    """
    with (
        tempfile.TemporaryDirectory(prefix="esccs-maps-") as folder,
        open_model(bundle, "cpu") as own,
    ):
        scene = simulate_scene(0, size)
        paths = {
            "optical": write_optical(Path(folder, "s2.tif"), scene.optical, _GROUND),
            "sar": write_sar(Path(folder, "s1.tif"), scene.sar, _GROUND),
        }

        def ours(out: Path) -> None:
            map_scene(own, paths, out, overwrite=True)

        loops: dict[str, Callable[[Path], None]] = {OURS: ours}
        for name in peers:
            graph, open_network = PEERS[name]
            network = open_network(_logits_alone(bundle.read(graph)))
            loops[name] = _loop(bundle.manifest, network, paths)
        times: dict[str, list[float]] = {name: [] for name in loops}
        maps = {}
        for turn in range(rounds + 1):
            names = list(loops)
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                out = Path(folder, f"{name}.tif")
                start = time.perf_counter()
                loops[name](out)
                times[name].append(time.perf_counter() - start)
                maps[name] = read_classes(out)
    return [
        MapTime(
            name,
            float(np.median(own_times[1:])),
            size * size / 1e6 / float(np.median(own_times[1:])),
            float(np.median(np.divide(own_times[1:], times[OURS][1:]))),
            float((maps[name] == maps[OURS]).mean()),
        )
        for name, own_times in times.items()
    ]


def table(rows: list[MapTime]) -> str:
    """Return Markdown."""
    lines = ["| | seconds | megapixels a second | x ours | same label |", "|---|---|---|---|---|"]
    lines += [
        f"| {row.name} | {row.seconds:.2f} | {row.megapixels_per_s:.3f} | {row.ratio:.2f} | "
        f"{row.same:.1%} |"
        for row in rows
    ]
    return "\n".join(lines)
