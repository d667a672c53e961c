"""The contract of one trained model: what it reads, what it answers, where it comes from.

`manifest.json` is written by training, extended by export and calibration, and obeyed by the
runtime. It is plain JSON; docs/bundle-format.md documents it like a file format.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

from ..errors import ManifestError
from .bundle_files import STUDENT_ONNX
from .decode import Decoder
from .familiarity import Familiarity
from .json_text import parsed_json
from .manifest_v1 import upgraded
from .modality import Modalities, ModalitySpec, SampleSpec, require
from .tasks import task_named
from .tensor import Tensor
from .values import NODATA_LABEL

SCHEMA_VERSION = 2
MAX_MANIFEST_BYTES = 4_000_000

_DECODER = Decoder(ManifestError, "manifest field")


@dataclass(frozen=True)
class BatchProfile:
    """Batch sizes an engine is built for: smallest, the one to optimize, largest."""

    min: int = 1
    opt: int = 8
    max: int = 64

    def __post_init__(self) -> None:
        require(1 <= self.min <= self.opt <= self.max, "batch", asdict(self),
                "1 <= min <= opt <= max")  # fmt: skip


@dataclass(frozen=True)
class FileRecord:
    """Digest and size of one file of the bundle."""

    sha256: str
    bytes: int

    def __post_init__(self) -> None:
        require(re.fullmatch("[0-9a-f]{64}", self.sha256) is not None, "sha256", self.sha256,
                "64 hexadecimal digits")  # fmt: skip
        require(self.bytes >= 0, "bytes", self.bytes, "0 or more")


@dataclass(frozen=True)
class Manifest:
    """Everything the runtime must know about one model.

    Attributes:
        name: Short model name.
        classes: Class names in the order of the logits.
        modalities: Modality name -> contract, in the order of the gate.
        sample: The grid of a sample.
        task: What the model answers, such as ``"scene-classification"``.
        architecture: What export rebuilds the network from; its form is the task's.
        temperature: Divides the logits before softmax, so that confidence is calibrated.
        familiarity: Modality name -> which distances from the training data are familiar, for the
            flag ``UNFAMILIAR``; all modalities, or none where the network answers no distances.
        batch: Batch sizes of the engine's optimization profile.
        model: Name of the file in the bundle that the runtime runs.
        files: File name -> digest; filled in by `Bundle`.
        quantization: INT8 scheme and calibration summary, or None for a float model.
        provenance: Data sets, what was simulated, metrics with their split, commit, seed.
    """

    name: str
    classes: tuple[str, ...]
    modalities: Mapping[str, ModalitySpec]
    sample: SampleSpec
    task: str = "scene-classification"
    architecture: Mapping[str, Any] = field(default_factory=dict)
    temperature: float = 1.0
    familiarity: Mapping[str, Familiarity] = field(default_factory=dict)
    batch: BatchProfile = field(default_factory=BatchProfile)
    model: str = STUDENT_ONNX
    files: Mapping[str, FileRecord] = field(default_factory=dict)
    quantization: Mapping[str, Any] | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        inputs = " + ".join(f"{name} ({len(m.channels)})" for name, m in self.modalities.items())
        grid, dates = self.sample, f", {self.sample.dates} dates" if self.sample.dates else ""
        size = f"{grid.height} x {grid.width} pixels of {grid.pixel_size_m:g} m{dates}"
        what = f"{self.task} of {len(self.classes)} classes from {inputs}"
        return f"<Manifest {self.name}, {what}, {size}>"

    def __post_init__(self) -> None:
        require(len(self.classes) > 1 and len(set(self.classes)) == len(self.classes), "classes",
                self.classes, "two or more distinct names")  # fmt: skip
        for name in (self.name, *self.classes, *self.modalities):
            require(name.isprintable() and name.strip() == name != "", "name", name,
                    "printable text without blanks around it")  # fmt: skip
        usable = all(name.upper() != NODATA_LABEL for name in self.classes)
        require(usable, "classes", self.classes,
                f"no class called {NODATA_LABEL}, the mark of missing pixels")  # fmt: skip
        require(self.temperature > 0, "temperature", self.temperature, "a positive number")
        known = tuple(self.familiarity)
        require(known in ((), tuple(self.modalities)), "familiarity", known,
                "all modalities in their order, or none")  # fmt: skip
        shared = self.inputs.keys() & self.outputs.keys()
        require(not shared, "modalities", sorted(shared), "other names than those of outputs")
        inputs = {name: tensor.role for name, tensor in self.inputs.items()}
        pixels = {name for name, role in inputs.items() if role == "pixels"}
        others = [role for role in inputs.values() if role != "pixels"]
        require(pixels == set(self.modalities) and others == ["availability"], "inputs", inputs,
                "the pixels of each modality under its name, and one availability")  # fmt: skip
        outputs = {name: tensor.role for name, tensor in self.outputs.items()}
        require(list(outputs.values()).count("logits") == 1, "outputs", outputs, "one of logits")

    @cached_property
    def inputs(self) -> dict[str, Tensor]:
        """Inputs of the network by name, in its order."""
        return {tensor.name: tensor for tensor in task_named(self.task).inputs(self)}

    @cached_property
    def outputs(self) -> dict[str, Tensor]:
        """Outputs of the network by name, in its order."""
        return {tensor.name: tensor for tensor in task_named(self.task).outputs(self)}

    @cached_property
    def returned(self) -> dict[str, Tensor]:
        """What comes back from the device by name: outputs, or images made of them."""
        return {tensor.name: tensor for tensor in task_named(self.task).returned(self)}

    @property
    def logits(self) -> str:
        """Name of the output that holds the logits."""
        return next(name for name, tensor in self.outputs.items() if tensor.role == "logits")

    @property
    def availability(self) -> str:
        """Name of the input that holds the shares of valid pixels."""
        return next(name for name, tensor in self.inputs.items() if tensor.role == "availability")

    def to_json(self) -> str:
        """Return the JSON text, with the derived tensors spelled out for other readers."""
        document = {"schema_version": SCHEMA_VERSION, **asdict(self), **self._tensors()}
        return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Manifest:
        """Parse and check a manifest of version 2 or 1.

        Raises:
            ManifestError: Not JSON, unknown version or task, missing or wrong fields, or tensors
                that disagree with modalities, classes and grid.
        """
        document = _parsed(text)
        version = document.pop("schema_version", None)
        if type(version) is not int or version not in (1, SCHEMA_VERSION):
            raise ManifestError(
                f"manifest has schema_version {version!r}, this version reads 1 and "
                f"{SCHEMA_VERSION}",
                hint="Re-export the bundle or install the esccs-edge version that wrote it",
            )
        if version == 1:
            document = upgraded(document)
        tensors = {key: document.pop(key, None) for key in ("inputs", "outputs", "returned")}
        manifest = _DECODER.build(cls, document)
        spelled = manifest._tensors()
        for key, told in tensors.items():
            # As text, since 1, 1.0 and true are equal otherwise.
            wanted, found = (json.dumps(one, sort_keys=True) for one in (spelled.get(key), told))
            require(found == wanted, key, told, wanted)
        return manifest

    def evolve(self, **changes: Any) -> Manifest:
        """Return a copy with fields replaced."""
        return replace(self, **changes)

    def with_modality(self, name: str, spec: ModalitySpec) -> Manifest:
        """Return a copy with the contract of one modality replaced."""
        modalities: Modalities = {**self.modalities, name: spec}
        return replace(self, modalities=modalities)

    def _tensors(self) -> dict[str, Any]:
        def listed(tensors: Iterable[Tensor]) -> list[dict[str, Any]]:
            return [{**asdict(tensor), "dtype": tensor.dtype} for tensor in tensors]

        found = {
            "inputs": listed(self.inputs.values()),
            "outputs": listed(self.outputs.values()),
        }
        if self.returned != self.outputs:
            found["returned"] = listed(self.returned.values())
        return found


def _parsed(text: str | bytes) -> dict[str, Any]:
    if len(text) > MAX_MANIFEST_BYTES:
        raise ManifestError(f"manifest is {len(text)} bytes, expected at most {MAX_MANIFEST_BYTES}")
    try:
        document = parsed_json(text)
    except ValueError as error:
        raise ManifestError(f"manifest is not valid JSON: {error}") from error
    if not isinstance(document, dict):
        raise ManifestError(f"manifest is a JSON {type(document).__name__}, expected an object")
    return document
