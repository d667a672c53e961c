"""The same student for patches of another size.

A student is convolutions and a mean over all positions, so its weights fit any size; only the
shapes written in its graphs and its manifest change. Such a bundle is for timing: nothing says that
a network trained on one size judges another one well.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from esccs_edge.contracts.bundle import Bundle
from esccs_edge.contracts.bundle_files import INT8_ONNX, STUDENT_ONNX
from esccs_edge.errors import ArtifactError, MissingDependencyError


def resized_bundle(bundle: Bundle, patch_size: int, folder: str | os.PathLike[str]) -> Bundle:
    """Write a copy of a bundle that reads other patches; without weights and reports.

    Args:
        bundle: The student.
        patch_size: Height and width wanted, in pixels.
        folder: Where to write it.

    Raises:
        ArtifactError: The graph does not fit another size.
        MissingDependencyError: The package onnx is not installed.
    """
    manifest = bundle.manifest.evolve(
        sample=replace(bundle.manifest.sample, height=patch_size, width=patch_size)
    )
    names = {bundle.manifest.model, *({STUDENT_ONNX, INT8_ONNX} & bundle.manifest.files.keys())}
    graphs = {name: _resized(bundle.read(name), patch_size) for name in sorted(names)}
    return Bundle.create(Path(folder), manifest, graphs)


def _resized(content: bytes, patch_size: int) -> bytes:
    try:
        import onnx
    except ImportError as error:
        raise MissingDependencyError.for_extra("onnx", "export", "another patch size") from error
    model = onnx.load_from_string(content)
    del model.graph.value_info[:]  # shapes in between; they follow from the inputs
    for tensor in model.graph.input:
        axes = tensor.type.tensor_type.shape.dim
        for axis in axes[2:]:
            axis.dim_value = patch_size
    try:
        onnx.checker.check_model(model)
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ArtifactError(f"the graph does not fit patches of {patch_size}: {error}") from error
    resized: bytes = model.SerializeToString()
    return resized
