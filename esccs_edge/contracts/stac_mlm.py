"""The manifest as a STAC item with the Machine Learning Model extension (MLM 1.5).

Catalogs and other runtimes can find and read the model from it. Extension fields follow
https://github.com/stac-extensions/mlm; a bundle has no footprint of its own, so geometry is null.
"""

from __future__ import annotations

import json
from typing import Any

from .manifest import Manifest
from .modality import ModalitySpec
from .tasks import task_named
from .tensor import Tensor

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
            "mlm:architecture": task_named(manifest.task).network,
            "mlm:tasks": [manifest.task],
            "mlm:framework": "ONNX",
            "mlm:accelerator_summary": "CPU through OpenVINO, NVIDIA GPU through TensorRT",
            "mlm:input": [
                _input(name, spec, manifest.inputs[name])
                for name, spec in manifest.modalities.items()
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


def _input(name: str, spec: ModalitySpec, tensor: Tensor) -> dict[str, Any]:
    return {
        "name": name,
        "bands": list(spec.channels),
        "input": {
            "shape": [-1, *tensor.row],
            "dim_order": ["batch", "bands", "height", "width"],
            "data_type": "float32",
        },
        "value_scaling": [
            {"type": "z-score", "mean": mean, "stddev": std}
            for mean, std in zip(spec.mean, spec.std, strict=True)
        ],
    }


def _output(manifest: Manifest) -> dict[str, Any]:
    tensor = manifest.outputs[manifest.logits]
    return {
        "name": tensor.name,
        "tasks": [manifest.task],
        "result": {
            "shape": [-1, *tensor.row],
            "dim_order": ["batch", "classes", *("height", "width")[: len(tensor.row) - 1]],
            "data_type": "float32",
        },
        "classification:classes": [
            {"value": index, "name": name} for index, name in enumerate(manifest.classes)
        ],
    }
