"""Who may know whom, read from the source by AST, and what an import really loads.

The rules are those of the design: `LAYERS` orders all files, `LIBRARIES` says where third-party
packages belong. A file that no rule names fails: a new folder has to be entered here first.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from fnmatch import fnmatch

import pytest
from support.import_graph import SIBLINGS, ImportGraph, circle

import esccs_edge

GRAPH = ImportGraph()

#: From the top down. A file may import files of lower layers and of its own folder.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("esccs_edge/__main__.py",),
    ("esccs_edge/cli/*", "esccs_edge/pytest_plugin.py", "esccs_edge/frozen/*"),
    ("esccs_edge/bench/*", "esccs_edge/serve/*", "export/*"),
    ("esccs_edge/archive/*", "training/*"),
    ("esccs_edge/__init__.py",),
    ("esccs_edge/classifier.py", "esccs_edge/segmenter.py", "esccs_edge/series_classifier.py",
     "esccs_edge/series_segmenter.py"),
    ("esccs_edge/series_model.py",),
    ("esccs_edge/pair_model.py",),
    ("esccs_edge/any_task.py",),
    ("esccs_edge/doctor.py", "esccs_edge/view/*", "esccs_edge/backends/choice.py"),
    ("esccs_edge/runtime/*", "esccs_edge/scenes/*", "esccs_edge/backends/cpu/*",
     "esccs_edge/backends/trt/*", "calibration/*"),
    ("esccs_edge/pixels/*", "esccs_edge/rasters/*", "esccs_edge/backends/*"),
    ("esccs_edge/contracts/*", "esccs_edge/power.py"),
    ("esccs_edge/system/*", "esccs_edge/cuda/*"),
    ("esccs_edge/errors.py", "esccs_edge/_preprocess_cpu.pyi", "esccs_edge/example/*"),
)  # fmt: skip

GPU = {"tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings", "cuda", "pycuda"}
LEARN = {"torch", "lightning", "torchmetrics", "safetensors", "tqdm", "tensorboard"}
ONNX = {"onnx", "onnxscript", "onnxsim", "onnxruntime"}

#: First matching pattern -> third-party packages that the file may import, anywhere in it.
LIBRARIES: tuple[tuple[str, set[str]], ...] = (
    ("esccs_edge/_preprocess_cpu.pyi", {"numpy"}),
    ("esccs_edge/backends/cpu/openvino.py", {"openvino"}),
    ("esccs_edge/backends/trt/*", {"numpy"} | GPU),
    ("esccs_edge/cuda/*", {"numpy"} | GPU),
    ("esccs_edge/rasters/gdal.py", {"rasterio"}),
    ("esccs_edge/view/*", {"numpy", "cv2", "matplotlib"}),
    ("esccs_edge/pytest_plugin.py", {"pytest"}),
    ("esccs_edge/frozen/*", {"PyInstaller"}),
    ("esccs_edge/cli/demo_rasters.py", {"numpy", "click", "rasterio", "affine"}),
    ("esccs_edge/cli/inspect.py", {"numpy", "click", "onnx"}),
    ("esccs_edge/cli/*", {"numpy", "click"}),
    ("esccs_edge/serve/app.py", {"fastapi", "starlette"}),
    ("esccs_edge/serve/server.py", {"uvicorn"}),
    ("esccs_edge/archive/footprint.py", {"rasterio"}),
    ("esccs_edge/archive/path_table.py", {"pyarrow"}),
    ("esccs_edge/archive/statistics.py", {"pyarrow", "rasterio"}),
    ("esccs_edge/archive/ray_engine.py", {"ray"}),
    ("esccs_edge/archive/search.py", {"pystac_client"}),
    ("esccs_edge/*", {"numpy"}),
    ("training/samples/cloud_cover.py", {"numpy"}),
    ("training/datasets/so2sat.py", {"numpy", "h5py"}),
    ("training/simulate/textures.py", {"numpy", "rasterio"}),
    ("training/simulate/*", {"numpy"}),
    ("training/comparison/figures.py", {"numpy", "matplotlib"}),
    ("training/datasets/worldcereal.py", {"numpy", "pyarrow"}),
    ("training/datasets/fcn3d.py", {"numpy", "h5py"}),
    ("training/learning/series/forest.py", {"numpy", "torch", "sklearn"}),
    ("training/datasets/sen4agrinet.py", {"numpy", "h5py"}),
    ("training/*", {"numpy", "rasterio"} | LEARN),
    ("export/to_onnx.py", {"numpy", "torch", "safetensors"} | ONNX),
    ("export/to_engine.py", {"numpy", "onnx"} | GPU),
    ("export/*", {"numpy"} | ONNX),
    ("calibration/finetune.py", {"numpy", "onnx", "onnxruntime", "torch"}),
    ("calibration/torch_graph.py", {"onnx", "torch"}),
    ("calibration/torch_operations.py", {"torch"}),
    ("calibration/*", {"numpy", "onnx", "onnxruntime"}),
)


def pattern_of(file: str) -> tuple[int, str]:
    """Index of a file's layer, counted from the top, and the pattern that says so: the longest."""
    found = [
        (len(pattern), index, pattern)
        for index, patterns in enumerate(LAYERS)
        for pattern in patterns
        if fnmatch(file, pattern)
    ]
    return max(found)[1:]


def violations(forbidden, files=GRAPH.files) -> dict[str, set[str]]:
    """File -> what it imports against the rule."""
    return {file: found for file in files if (found := forbidden(file))}


def test_every_file_imports_only_lower_layers_and_its_own_folder():
    def upward(file: str) -> set[str]:
        layer, folder = pattern_of(file)
        targets = {target: pattern_of(target) for target in GRAPH.imported_files(file)}
        return {
            target
            for target, (below, other) in targets.items()
            if below <= layer and other != folder
        }

    assert violations(upward) == {}


def test_files_and_packages_form_no_circle():
    assert circle({file: GRAPH.imported_files(file) for file in GRAPH.files}) == []
    assert circle(GRAPH.packages()) == []


def test_a_file_imports_only_the_libraries_of_its_folder():
    def forbidden(file: str) -> set[str]:
        return GRAPH.third_party(file) - next(
            allowed for pattern, allowed in LIBRARIES if fnmatch(file, pattern)
        )

    assert violations(forbidden) == {}


def test_no_file_imports_the_folders_by_their_bare_names():
    def forbidden(file: str) -> set[str]:
        return GRAPH.third_party(file) & (SIBLINGS | {"tests", "support", "benchmarks"})

    assert violations(forbidden) == {}


def test_siblings_pass_files_and_do_not_import_each_other():
    def forbidden(file: str) -> set[str]:
        here = file.split("/")[0]
        tops = {t: t.split("/")[0] for t in GRAPH.imported_files(file)}
        others = {target for target, top in tops.items() if top in SIBLINGS - {here}}
        return set() if file == "export/to_onnx.py" else others

    assert violations(forbidden, [f for f in GRAPH.files if f.split("/")[0] in SIBLINGS]) == {}


def test_the_exporter_knows_the_network_and_nothing_else_of_training():
    known = {t for t in GRAPH.imported_files("export/to_onnx.py") if t.startswith("training/")}
    assert known and all(
        fnmatch(t, "training/learning/*") or t == "training/options.py" for t in known
    )


def test_the_runtime_does_not_know_the_siblings_except_in_commands():
    files = [f for f in GRAPH.files if f.startswith("esccs_edge/") and "/cli/" not in f]

    def forbidden(file: str) -> set[str]:
        return {t for t in GRAPH.imported_files(file) if t.split("/")[0] in SIBLINGS}

    assert violations(forbidden, files) == {}


def test_the_runtime_knows_no_backend():
    files = [file for file in GRAPH.files if file.startswith("esccs_edge/runtime/")]

    def forbidden(file: str) -> set[str]:
        targets = GRAPH.imported_files(file)
        return {t for t in targets if fnmatch(t, "esccs_edge/backends/*/*") or "/cuda/" in t}

    assert violations(forbidden, files) == {}


def test_backends_are_loaded_late():
    """What runs the network is imported inside the branch that picks it."""

    def forbidden(file: str) -> set[str]:
        if fnmatch(file, "esccs_edge/backends/*/*"):
            return set()
        top = [node for node in GRAPH.tree(file).body if isinstance(node, ast.ImportFrom)]
        modules = {node.module or "" for node in top}
        return {m for m in modules if m.endswith(("cpu.backend", "trt.backend", "cpu.openvino"))}

    assert violations(forbidden, [f for f in GRAPH.files if f.startswith("esccs_edge/")]) == {}


UNPICKLING = {"pickle", "cPickle", "_pickle", "shelve", "marshal", "joblib", "dill", "cloudpickle"}


def unpickling_in(tree: ast.AST) -> set[str]:
    """What in a file could unpickle: its modules, and calls that do so unless told not to."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & UNPICKLING
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module or ""} & UNPICKLING
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            call = ast.unparse(node.func)
            safe = {"np.load": ("allow_pickle", False), "torch.load": ("weights_only", True)}
            given = {k.arg: getattr(k.value, "value", None) for k in node.keywords}
            if call in safe and given.get(safe[call][0]) is not safe[call][1]:
                found.add(call)
    return found


@pytest.mark.fault(56, 57)
def test_nothing_is_ever_unpickled():
    assert violations(lambda file: unpickling_in(GRAPH.tree(file))) == {}
    unsafe = "import pickle\nfrom joblib import load\nnp.load(a)\ntorch.load(b, weights_only=False)"
    assert len(unpickling_in(ast.parse(unsafe))) == 4


def test_the_rules_can_fail():
    """The walker sees imports at any depth, relative ones, and those under TYPE_CHECKING."""
    assert "openvino" in GRAPH.third_party("esccs_edge/backends/cpu/openvino.py")
    seen = GRAPH.imported_files
    assert "esccs_edge/backends/cpu/backend.py" in seen("esccs_edge/backends/choice.py")
    assert "esccs_edge/_preprocess_cpu.pyi" in seen("esccs_edge/pixels/preprocess.py")
    assert "esccs_edge/scenes/mapping.py" in seen("esccs_edge/pair_model.py")
    assert "esccs_edge/classifier.py" in seen("esccs_edge/__init__.py")
    assert circle({"a": ["b"], "b": ["c"], "c": ["a"]})
    assert pattern_of("esccs_edge/backends/cpu/lane.py") < pattern_of("esccs_edge/backends/base.py")


# ---- what really happens ------------------------------------------------------------------------


def loaded_after(statement: str) -> set[str]:
    program = f"import sys; {statement}; print('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True
    )
    return {name.split(".")[0] for name in done.stdout.split()}


@pytest.mark.fault(83)
def test_import_loads_numpy_and_the_standard_library_only():
    # What NumPy loads, and an empty interpreter (site hooks of editable installs), is not ours.
    new = loaded_after("import esccs_edge") - loaded_after("import numpy")
    assert new - set(sys.stdlib_module_names) == {"esccs_edge"}


def test_the_classifier_class_loads_no_backend():
    new = loaded_after("from esccs_edge import Classifier") - loaded_after("import numpy")
    assert new - set(sys.stdlib_module_names) <= {"esccs_edge"}


def test_import_costs_less_than_numpy():
    """As a ratio, so that a slow or busy machine does not decide; the fastest of a few counts."""
    program = (
        "import time; a = time.process_time(); import numpy; b = time.process_time();"
        "import esccs_edge; c = time.process_time(); print((c - b) / (b - a))"
    )
    ratios = [
        float(subprocess.run([sys.executable, "-c", program], capture_output=True).stdout)
        for _ in range(3)
    ]
    assert min(ratios) < 0.7


def test_all_names_are_sorted_and_exist():
    names = esccs_edge.__all__
    assert names == sorted(names)
    assert all(getattr(esccs_edge, name).__name__ == name for name in names)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = esccs_edge.nonsense
