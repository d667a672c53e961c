"""What a frozen program needs of this package and its import statements do not show."""

from importlib.util import find_spec

from PyInstaller.utils.hooks import (
    collect_data_files,
    collect_dynamic_libs,
    collect_submodules,
    copy_metadata,
)

#: Rooms of other programs: they need torch, ray, a web server or a test runner, and the runtime
#: calls none of them. A program that does names their modules itself.
APART = (
    *("training", "export", "calibration", "archive", "bench", "serve", "cli"),
    *("__main__", "frozen", "pytest_plugin"),
)


def _is_runtime(name: str) -> bool:
    return not name.startswith(tuple(f"esccs_edge.{room}" for room in APART))


# Modules that are imported by a name which stands in a table, when first asked for.
hiddenimports = collect_submodules("esccs_edge", filter=_is_runtime, on_error="ignore")
# Bundles, the example scene, kernels; and the entry points by which tasks are found.
datas = collect_data_files("esccs_edge") + copy_metadata("esccs-edge")
binaries = []
# OpenVINO opens its readers and devices by the names of their files, which may end in a version.
LIBRARIES = ["*.dll", "*.dylib", "*.so", "*.so.*"]
if find_spec("openvino") is not None:
    hiddenimports.append("openvino")
    binaries += collect_dynamic_libs("openvino", search_patterns=LIBRARIES)
