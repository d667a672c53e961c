"""The manifest told as a STAC item with the Machine Learning Model extension (MLM 1.5).

Catalogues and other runtimes can find and read the model from it. Extension fields follow
https://github.com/stac-extensions/mlm; a bundle has no footprint of its own, so geometry is null.
"""

from __future__ import annotations

import json
from typing import Any

from .manifest import Manifest, ModalitySpec

MLM_SCHEMA = "https://stac-extensions.github.io/mlm/v1.5.0/schema.json"


def mlm_item(manifest: Manifest) -> str:
    """Return the STAC item as JSON text."""
    created = manifest.provenance.get("created", "1970-01-01T00:00:00Z")
    item = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": [MLM_SCHEMA],
        "id": manifest.name,
        "geometry": None,
        "properties": {
            "datetime": created,
            "mlm:name": manifest.name,
            "mlm:architecture": "two-branch residual CNN with modality gate (ESCCS student)",
            "mlm:tasks": [manifest.task],
            "mlm:framework": "ONNX",
            "mlm:accelerator_summary": "CPU through OpenVINO, NVIDIA GPU through TensorRT",
            "mlm:input": [
                _input(manifest, "optical", manifest.optical),
                _input(manifest, "sar", manifest.sar),
            ],
            "mlm:output": [_output(manifest)],
        },
        "links": [],
        "assets": {
            name: {
                "href": f"./{name}",
                "type": "application/octet-stream",
                "roles": ["mlm:model"] if name == manifest.model else ["data"],
                **({"mlm:artifact_type": "onnx"} if name.endswith(".onnx") else {}),
                "file:size": record.bytes,
                "file:checksum": "1220" + record.sha256,
            }
            for name, record in sorted(manifest.files.items())
        },
    }
    return json.dumps(item, indent=2, ensure_ascii=False) + "\n"


def _input(manifest: Manifest, name: str, spec: ModalitySpec) -> dict[str, Any]:
    shape = [-1 if axis == "N" else axis for axis in manifest.inputs[name]]
    return {
        "name": name,
        "bands": list(spec.channels),
        "input": {
            "shape": shape,
            "dim_order": ["batch", "bands", "height", "width"],
            "data_type": "float32",
        },
        "value_scaling": [
            {"type": "z-score", "mean": mean, "stddev": std}
            for mean, std in zip(spec.mean, spec.std, strict=True)
        ],
    }


def _output(manifest: Manifest) -> dict[str, Any]:
    return {
        "name": "logits",
        "tasks": [manifest.task],
        "result": {
            "shape": [-1, len(manifest.classes)],
            "dim_order": ["batch", "classes"],
            "data_type": "float32",
        },
        "classification:classes": [
            {"value": index, "name": name} for index, name in enumerate(manifest.classes)
        ],
    }
