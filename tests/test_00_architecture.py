"""Who may know whom, read from the source by AST, and what an import really loads.

The rules are those of the design's import table. A file that no rule names may still not import
anything heavy: a new room has to be entered here first.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest
from conftest import REPOSITORY

import esccs_edge

ROOMS = ("esccs_edge", "training", "export", "calibration")
SIBLINGS = frozenset(ROOMS[1:])

GPU = {"tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings", "cuda", "pycuda"}
LEARN = {"torch", "lightning", "torchmetrics", "safetensors", "tqdm", "tensorboard"}
#: `tomli` is the standard library's `tomllib` for Python 3.10.
STANDARD = set(sys.stdlib_module_names) | {"tomli"}
ONNX = {"onnx", "onnxscript", "onnxsim", "onnxruntime"}

#: First matching pattern -> third-party packages that the file may import, anywhere in it.
MAY_IMPORT: tuple[tuple[str, set[str]], ...] = (
    ("esccs_edge/openvino_runtime.py", {"openvino"}),
    ("esccs_edge/trt_*.py", {"numpy"} | GPU),
    ("esccs_edge/cuda/*.py", {"numpy"} | GPU),
    ("esccs_edge/raster_file.py", {"numpy", "rasterio"}),
    ("esccs_edge/map_reader.py", {"numpy", "rasterio"}),
    ("esccs_edge/map_writer.py", {"numpy", "rasterio"}),
    ("esccs_edge/quicklook.py", {"numpy", "cv2", "matplotlib"}),
    ("esccs_edge/sheet.py", {"numpy", "matplotlib"}),
    ("esccs_edge/scaling_figure.py", {"matplotlib"}),
    ("esccs_edge/pictures.py", {"numpy", "cv2", "matplotlib"}),
    ("esccs_edge/*_figure.py", {"matplotlib"}),
    ("esccs_edge/peers/onnxruntime_peer.py", {"onnxruntime"}),
    ("esccs_edge/peers/opencv_peer.py", {"numpy", "cv2"}),
    ("esccs_edge/peers/torch_peer.py", {"torch"}),
    ("esccs_edge/peers/onnx_to_torch.py", {"numpy", "onnx", "torch"}),
    ("esccs_edge/peers/resized.py", {"onnx"}),
    ("esccs_edge/cli/demo_rasters.py", {"numpy", "click", "rasterio", "affine"}),
    ("esccs_edge/cli/inspect.py", {"numpy", "click", "onnx"}),
    ("esccs_edge/cli/*.py", {"numpy", "click"}),
    ("esccs_edge/archive/footprint.py", {"rasterio"}),
    ("esccs_edge/archive/path_table.py", {"pyarrow"}),
    ("esccs_edge/archive/statistics.py", {"pyarrow", "rasterio"}),
    ("esccs_edge/archive/ray_engine.py", {"ray"}),
    ("esccs_edge/*.py", {"numpy"}),
    ("training/cloud_cover.py", {"numpy"}),
    ("training/simulate/textures.py", {"numpy", "rasterio"}),
    ("training/simulate/*.py", {"numpy"}),
    ("training/comparison_figures.py", {"numpy", "matplotlib"}),
    ("training/*.py", {"numpy", "rasterio"} | LEARN),
    ("export/to_onnx.py", {"numpy", "torch", "safetensors"} | ONNX),
    ("export/to_engine.py", {"numpy", "onnx"} | GPU),
    ("export/*.py", {"numpy"} | ONNX),
    ("calibration/finetune.py", {"numpy", "onnx", "onnxruntime", "torch"}),
    ("calibration/torch_graph.py", {"onnx", "torch"}),
    ("calibration/*.py", {"numpy", "onnx", "onnxruntime"}),
)

#: The road a pair takes through the runtime: a module may know only those named before it.
DOWNWARD = (
    "errors", "sensors", "scene", "atomic", "manifest", "mlm", "bundle", "backend", "preprocess",
    "pixel_memory", "validate", "onnx_file", "postprocess", "counters", "lanes", "batcher",
    "pipeline", "selfcheck", "engine_cache", "openvino_runtime", "quantized_inputs",
    "openvino_model", "cpu_lane", "cpu_backend", "cuda.probe", "backend_choice", "classifier",
)  # fmt: skip
#: Only these may be known by the pipeline and its parts: contracts, no backend.
CONTRACTS = {
    "errors",
    "scene",
    "manifest",
    "backend",
    "postprocess",
    "counters",
    "lanes",
    "batcher",
}

#: Folder -> what it may import of the package by absolute name, besides itself.
RUNTIME_SEEN_BY_SIBLINGS = {
    "errors", "sensors", "scene", "manifest", "bundle", "atomic", "backend", "preprocess",
    "validate", "reader", "pairs", "channels", "classifier", "postprocess",
}  # fmt: skip
EXTRA_OF_EXPORT = {
    "trt_api", "trt_build", "trt_layers", "trt_backend", "engine_cache", "cuda.probe",
    "cpu_backend", "energy", "random_pairs",
}  # fmt: skip


def sources() -> list[str]:
    found = [p.relative_to(REPOSITORY) for room in ROOMS for p in (REPOSITORY / room).rglob("*.py")]
    return sorted(str(path) for path in found)


@cache
def tree(source: str) -> ast.Module:
    return ast.parse((REPOSITORY / source).read_text(), source)


def imports(source: str, *, at_run_time: bool = True) -> set[str]:
    """Full names of imported modules; the three folders count as parts of the package."""
    package = ["esccs_edge"] * (source.split("/")[0] != "esccs_edge")
    package += Path(source).parent.parts
    names: set[str] = set()
    for node in _nodes(tree(source), at_run_time):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            is_package = module.split(".")[-1] in ("esccs_edge", "cuda", "cli") or not node.module
            names |= {f"{module}.{a.name}" for a in node.names} if is_package else {module}
    return names


def _nodes(node: ast.AST, at_run_time: bool):
    """Walk the tree, leaving out what stands under ``if TYPE_CHECKING``."""
    for child in ast.iter_child_nodes(node):
        if at_run_time and isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        yield child
        yield from _nodes(child, at_run_time)


def third_party(source: str) -> set[str]:
    tops = {name.split(".")[0] for name in imports(source, at_run_time=False)}
    return tops - STANDARD - {"esccs_edge"}


def inside(source: str) -> set[str]:
    """Names below ``esccs_edge`` that a file imports at run time."""
    return {n.removeprefix("esccs_edge.") for n in imports(source) if n.startswith("esccs_edge.")}


def runtime() -> list[str]:
    return [source for source in sources() if source.startswith("esccs_edge/")]


def siblings() -> list[str]:
    return [source for source in sources() if source.split("/")[0] in SIBLINGS]


def violations(files, forbidden) -> dict[str, set[str]]:
    """File -> what it imports against the rule."""
    return {source: found for source in files if (found := forbidden(source))}


def test_a_file_imports_only_the_libraries_of_its_room():
    def forbidden(source: str) -> set[str]:
        return third_party(source) - next(
            a for pattern, a in MAY_IMPORT if fnmatch(source, pattern)
        )

    assert violations(sources(), forbidden) == {}


def test_no_file_imports_the_folders_by_their_bare_names():
    def forbidden(source: str) -> set[str]:
        tops = {name.split(".")[0] for name in imports(source, at_run_time=False)}
        return tops & (SIBLINGS | {"tests"})

    assert violations(sources(), forbidden) == {}


def test_the_runtime_looks_only_downward():
    def forbidden(module: str) -> set[str]:
        below = DOWNWARD[: DOWNWARD.index(module)]
        return inside(f"esccs_edge/{module.replace('.', '/')}.py") & set(DOWNWARD) - set(below)

    assert violations(DOWNWARD, forbidden) == {}


def test_the_pipeline_knows_contracts_only():
    parts = [f"esccs_edge/{name}.py" for name in ("pipeline", "batcher", "lanes", "counters")]
    assert violations(parts, lambda source: inside(source) - CONTRACTS) == {}


def test_the_runtime_does_not_know_the_siblings_except_in_commands():
    files = [source for source in runtime() if not source.startswith("esccs_edge/cli/")]

    def forbidden(source: str) -> set[str]:
        return {name for name in inside(source) if name.split(".")[0] in SIBLINGS}

    assert violations(files, forbidden) == {}


def test_siblings_pass_files_and_do_not_import_each_other():
    def forbidden(source: str) -> set[str]:
        others = SIBLINGS - {source.split("/")[0]}
        foreign = {name for name in inside(source) if name.split(".")[0] in others}
        network = {"training.networks", "training.options"}
        return foreign - (network if source == "export/to_onnx.py" else set())

    assert violations(siblings(), forbidden) == {}


def test_siblings_know_contracts_and_no_backend():
    def forbidden(source: str) -> set[str]:
        extra = EXTRA_OF_EXPORT if source.startswith("export/") else set()
        seen = {name for name in inside(source) if name.split(".")[0] not in SIBLINGS}
        return seen - RUNTIME_SEEN_BY_SIBLINGS - extra - {"__version__"}

    assert violations(siblings(), forbidden) == {}


def test_backends_are_loaded_late():
    def forbidden(source: str) -> set[str]:
        top = {
            node.module or ""
            for node in tree(source).body
            if isinstance(node, ast.ImportFrom) and node.level
        }
        return top & {"cpu_backend", "trt_backend"}

    assert violations(runtime(), forbidden) == {}


# ---- what really happens ------------------------------------------------------------------------


def loaded_after(statement: str) -> set[str]:
    program = f"import sys; {statement}; print('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True
    )
    return {name.split(".")[0] for name in done.stdout.split()}


def test_import_loads_numpy_and_the_standard_library_only():
    # What an empty interpreter loads (site hooks of editable installs) is not ours.
    new = loaded_after("import esccs_edge") - loaded_after("pass")
    assert new - set(sys.stdlib_module_names) == {"esccs_edge", "numpy"}


def test_the_classifier_class_loads_no_backend():
    new = loaded_after("from esccs_edge import Classifier") - loaded_after("pass")
    assert new - set(sys.stdlib_module_names) <= {"esccs_edge", "numpy"}


def test_import_costs_little_more_than_numpy():
    """As a ratio, so that a slow or busy machine does not decide; the fastest of a few counts."""
    program = (
        "import time; a = time.perf_counter(); import numpy; b = time.perf_counter();"
        "import esccs_edge; c = time.perf_counter(); print((c - b) / (b - a))"
    )
    ratios = [
        float(subprocess.run([sys.executable, "-c", program], capture_output=True).stdout)
        for _ in range(3)
    ]
    assert min(ratios) < 1.0


def test_all_names_are_sorted_and_exist():
    names = esccs_edge.__all__
    assert names == sorted(names)
    assert all(getattr(esccs_edge, name).__name__ == name for name in names)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = esccs_edge.nonsense


def test_the_rules_can_fail():
    """The walker sees imports at any depth, relative ones, and those of a package's members."""
    assert "openvino" in third_party("esccs_edge/openvino_runtime.py")
    assert "cpu_backend" in inside("esccs_edge/backend_choice.py")
    assert "_preprocess_cpu" in inside("esccs_edge/preprocess.py")
    assert "mapping" in inside("esccs_edge/classifier.py")
    assert "scene_summary" not in inside("esccs_edge/classifier.py")
    assert "training.networks" in inside("export/to_onnx.py")
