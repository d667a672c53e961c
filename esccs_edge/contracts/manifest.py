"""The contract of one trained model: what it reads, what it answers, where it comes from.

`manifest.json` is written by training, extended by export and calibration, and obeyed by the
runtime. It is plain JSON; README documents it like a file format. Standard library only.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, TypeVar

from ..errors import ManifestError

SCHEMA_VERSION = 1
MAX_MANIFEST_BYTES = 4_000_000
GATE_ORDER = ("optical", "sar")

T = TypeVar("T")


@dataclass(frozen=True)
class ModalitySpec:
    """How the pixels of one modality become network input.

    Integer pixels are digital numbers: ``value = (dn + dn_offset) * dn_scale``. Floating-point
    pixels are already in ``unit``. Then ``(clip(value) - mean) / std`` per channel. A pixel is
    valid when all its channels are finite and they do not all equal ``nodata`` (compared as
    stored); invalid pixels become 0 in every channel.

    Attributes:
        channels: Band names or polarisations, in the order the network reads them.
        sensor: Instrument, such as ``"Sentinel-2 MSI"``.
        level: Product level, such as ``"L1C"`` or ``"GRD"``.
        unit: ``"reflectance"``, ``"dB"`` or ``"dn"``.
        dn_scale: Unit per digital number; None means that integer pixels are refused.
        dn_offset: Added to a digital number before scaling.
        nodata: Stored value that marks an absent pixel, or None.
        clip: Lowest and highest value, in ``unit``.
        mean: Per-channel mean of the clipped training values, in ``unit``.
        std: Per-channel standard deviation, in ``unit``; positive.
    """

    channels: tuple[str, ...]
    sensor: str
    level: str
    unit: str
    dn_scale: float | None
    dn_offset: float
    nodata: float | None
    clip: tuple[float, float]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        count = len(self.channels)
        _require(count > 0 and len(set(self.channels)) == count, "channels", self.channels,
                 "one or more distinct names")  # fmt: skip
        for name in ("mean", "std"):
            values = getattr(self, name)
            _require(len(values) == count and all(map(math.isfinite, values)), name, values,
                     f"{count} finite numbers, one per channel")  # fmt: skip
        _require(all(s > 0 for s in self.std), "std", self.std, "positive numbers")
        _require(self.dn_scale is None or self.dn_scale > 0, "dn_scale", self.dn_scale,
                 "a positive number or null")  # fmt: skip
        _require(len(self.clip) == 2 and self.clip[0] < self.clip[1], "clip", self.clip,
                 "[low, high] with low < high")  # fmt: skip
        _require(self.unit in ("reflectance", "dB", "dn"), "unit", self.unit,
                 "'reflectance', 'dB' or 'dn'")  # fmt: skip


@dataclass(frozen=True)
class BatchProfile:
    """Batch sizes an engine is built for: smallest, the one to optimise, largest."""

    min: int = 1
    opt: int = 8
    max: int = 64

    def __post_init__(self) -> None:
        _require(1 <= self.min <= self.opt <= self.max, "batch", asdict(self),
                 "1 <= min <= opt <= max")  # fmt: skip


@dataclass(frozen=True)
class FileRecord:
    """Digest and size of one file of the bundle."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """Everything the runtime must know about one model.

    Attributes:
        name: Short model name.
        classes: Class names in the order of the logits.
        optical: Contract of the optical modality.
        sar: Contract of the SAR modality.
        patch_size: Height and width of a patch in pixels.
        pixel_size_m: Ground size of a pixel in metres.
        temperature: Divides the logits before softmax, so that confidence is calibrated.
        batch: Batch sizes of the engine's optimisation profile.
        model: Name of the file in the bundle that the runtime runs.
        task: What the head answers; ``"scene-classification"``.
        files: File name -> digest; filled in by `Bundle`.
        quantization: INT8 scheme and calibration summary, or None for a float model.
        provenance: Data sets, what was simulated, metrics with their split, commit, seed.
    """

    name: str
    classes: tuple[str, ...]
    optical: ModalitySpec
    sar: ModalitySpec
    patch_size: int
    pixel_size_m: float
    temperature: float = 1.0
    batch: BatchProfile = field(default_factory=BatchProfile)
    model: str = "student.onnx"
    task: str = "scene-classification"
    files: Mapping[str, FileRecord] = field(default_factory=dict)
    quantization: Mapping[str, Any] | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _require(len(self.classes) > 1 and len(set(self.classes)) == len(self.classes), "classes",
                 self.classes, "two or more distinct names")  # fmt: skip
        _require(self.patch_size > 0, "patch_size", self.patch_size, "a positive integer")
        _require(self.pixel_size_m > 0, "pixel_size_m", self.pixel_size_m, "a positive number")
        _require(self.temperature > 0, "temperature", self.temperature, "a positive number")
        _require(self.task == "scene-classification", "task", self.task, "'scene-classification'")

    @property
    def inputs(self) -> dict[str, tuple[str | int, ...]]:
        """Input name -> shape of the network; the batch axis is ``"N"``, all are float32."""
        size = self.patch_size
        return {
            "optical": ("N", len(self.optical.channels), size, size),
            "sar": ("N", len(self.sar.channels), size, size),
            "availability": ("N", 2),
        }

    @property
    def outputs(self) -> dict[str, tuple[str | int, ...]]:
        """Output name -> shape of the network, all float32."""
        return {"logits": ("N", len(self.classes)), "gate": ("N", 2)}

    def to_json(self) -> str:
        """Return the JSON text, with the derived tensors spelled out for other readers."""
        document = {"schema_version": SCHEMA_VERSION, **asdict(self), **self._tensors()}
        return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Manifest:
        """Parse and check a manifest.

        Raises:
            ManifestError: Not JSON, unknown version, missing or wrong fields, or tensors that
                disagree with the channels, classes and patch size.
        """
        if len(text) > MAX_MANIFEST_BYTES:
            raise ManifestError(
                f"manifest is {len(text)} bytes, expected at most {MAX_MANIFEST_BYTES}"
            )
        try:
            document = json.loads(text, parse_constant=_refuse_constant)
            json.dumps(document, ensure_ascii=False).encode()  # refuses half of a surrogate pair
        except (ValueError, RecursionError) as error:
            raise ManifestError(f"manifest is not valid JSON: {error}") from error
        if not isinstance(document, dict):
            raise ManifestError(f"manifest is a JSON {type(document).__name__}, expected an object")
        version = document.pop("schema_version", None)
        if version != SCHEMA_VERSION:
            raise ManifestError(
                f"manifest has schema_version {version!r}, this version reads {SCHEMA_VERSION}",
                hint="Re-export the bundle or install the esccs-edge version that wrote it",
            )
        tensors = {key: document.pop(key, None) for key in ("inputs", "outputs", "gate_order")}
        manifest = _build(cls, document, "manifest")
        expected = json.loads(json.dumps(manifest._tensors()))
        for key, value in expected.items():
            _require(tensors[key] == value, key, tensors[key], json.dumps(value))
        return manifest

    def evolve(self, **changes: Any) -> Manifest:
        """Return a copy with fields replaced."""
        return replace(self, **changes)

    def _tensors(self) -> dict[str, Any]:
        def listed(tensors: Mapping[str, tuple[str | int, ...]]) -> list[dict[str, Any]]:
            return [{"name": n, "shape": s, "dtype": "float32"} for n, s in tensors.items()]

        return {
            "inputs": listed(self.inputs),
            "outputs": listed(self.outputs),
            "gate_order": GATE_ORDER,
        }


def _require(condition: bool, name: str, found: Any, expected: str) -> None:
    if not condition:
        raise ManifestError(f"manifest field {name!r} is {found!r}, expected {expected}")


def _refuse_constant(token: str) -> None:
    raise ValueError(f"{token} is not JSON")


_NESTED = {"optical": ModalitySpec, "sar": ModalitySpec, "batch": BatchProfile}
_NUMBERS = {"dn_offset", "pixel_size_m", "temperature"}
_OPTIONAL_NUMBERS = {"dn_scale", "nodata"}
_INTEGERS = {"patch_size", "min", "opt", "max", "bytes"}
_NUMBER_LISTS = {"clip", "mean", "std"}
_TEXT_LISTS = {"channels", "classes"}
_OBJECTS = {"files", "provenance"}


def _build(cls: type[T], document: Any, where: str) -> T:
    """Make a dataclass from a JSON object, refusing unknown, missing and mistyped fields."""
    if not isinstance(document, dict):
        raise ManifestError(f"{where} is {document!r}, expected an object")
    names = {f.name for f in fields(cls)}  # type: ignore[arg-type]
    if unknown := sorted(document.keys() - names):
        raise ManifestError(f"{where} has unknown fields {unknown}, expected among {sorted(names)}")
    values = {name: _value(name, raw, where) for name, raw in document.items()}
    try:
        return cls(**values)
    except TypeError as error:
        raise ManifestError(f"{where} is incomplete: {error}") from error


def _value(name: str, raw: Any, where: str) -> Any:
    if name in _NESTED:
        return _build(_NESTED[name], raw, f"{where}.{name}")
    if name == "files":
        _expect(isinstance(raw, dict), name, raw, where, "an object")
        return {key: _build(FileRecord, record, f"{where}.files") for key, record in raw.items()}
    if name == "quantization" and raw is None or name in _OPTIONAL_NUMBERS and raw is None:
        return None
    if name in _INTEGERS:
        _expect(isinstance(raw, int) and not isinstance(raw, bool), name, raw, where, "an integer")
    elif name in _NUMBERS | _OPTIONAL_NUMBERS:
        _expect(_is_number(raw), name, raw, where, "a finite number")
    elif name in _NUMBER_LISTS:
        _expect(isinstance(raw, list) and all(map(_is_number, raw)), name, raw, where,
                "a list of numbers")  # fmt: skip
        return tuple(raw)
    elif name in _TEXT_LISTS:
        _expect(isinstance(raw, list) and all(isinstance(x, str) for x in raw), name, raw, where,
                "a list of strings")  # fmt: skip
        return tuple(raw)
    elif name in _OBJECTS | {"quantization"}:
        _expect(isinstance(raw, dict), name, raw, where, "an object")
    else:
        _expect(isinstance(raw, str), name, raw, where, "a string")
    return raw


def _expect(condition: bool, name: str, raw: Any, where: str, expected: str) -> None:
    if not condition:
        raise ManifestError(f"{where}.{name} is {raw!r}, expected {expected}")


def _is_number(raw: Any) -> bool:
    if isinstance(raw, int):
        return not isinstance(raw, bool) and abs(raw) < 2**63
    return isinstance(raw, float) and math.isfinite(raw)
