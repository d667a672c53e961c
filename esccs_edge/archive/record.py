"""The result of one scene: a row of the statistics, and the file beside a finished map.

`SceneRecord` is both. The worker writes the file right after the map, so no finished scene is lost
when the driver dies later.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ..contracts.decode import Decoder
from ..contracts.json_text import parsed_json
from ..contracts.values import Flag
from ..errors import InputError
from ..scenes.map_writer import scores_path_of
from ..system.atomic import write_atomic
from ..system.regular_file import read_regular
from .content import file_sha256
from .scene import ArchiveScene

RECORD_NAME = "scene.json"
MAP_NAME = "map.tif"
MAX_RECORD_BYTES = 1 << 24
_DECODER = Decoder(InputError, "record field")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True)
class SceneRecord:
    """The state of one scene.

    Attributes:
        id: Name of the scene.
        status: ``"done"`` or ``"failed"``.
        reason: Why it failed; None if done.
        optical: Optical raster, or None.
        sar: SAR raster, or None.
        class_map: The map, relative to the archive's folder; None if failed.
        scores: The scores, likewise.
        optical_sha256: Hash of the optical raster.
        sar_sha256: Hash of the SAR raster.
        bundle_sha256: Digest of the model bundle.
        content_sha256: Hash of all that decides the result; see `esccs_edge.archive.content`.
        class_map_sha256: Hash of the map.
        scores_sha256: Hash of the scores.
        backend: Backend that ran the model.
        height: Rows.
        width: Columns.
        patches: Patches given to the model.
        refused_patches: Patches whose values the model refused.
        flagged_patches: Flag -> patches whose answers carry it.
        class_shares: Class name -> share of the answered pixels.
        mean_confidence: Mean over the answered pixels; None if there are none.
        mean_gate_optical: Mean share of optical in the decision, likewise.
        nodata_share: Share of all pixels that have no answer.
        seconds: Wall time of hashing and classifying.
        footprint: GeoJSON polygon in EPSG:4326, or None.
        is_earlier: True for a result of an earlier run that was found again.
    """

    id: str
    status: str
    reason: str | None = None
    optical: str | None = None
    sar: str | None = None
    class_map: str | None = None
    scores: str | None = None
    optical_sha256: str | None = None
    sar_sha256: str | None = None
    bundle_sha256: str | None = None
    content_sha256: str | None = None
    class_map_sha256: str | None = None
    scores_sha256: str | None = None
    backend: str | None = None
    height: int | None = None
    width: int | None = None
    patches: int | None = None
    refused_patches: int | None = None
    flagged_patches: dict[str, int] = field(default_factory=dict)
    class_shares: dict[str, float] = field(default_factory=dict)
    mean_confidence: float | None = None
    mean_gate_optical: float | None = None
    nodata_share: float | None = None
    seconds: float | None = None
    footprint: dict[str, Any] | None = None
    is_earlier: bool = False

    @property
    def suspect_patches(self) -> int | None:
        """Patches whose values look scaled, shifted or ordered in another way; None if failed."""
        return self._flagged(Flag.RADIOMETRY_SUSPECT)

    @property
    def unfamiliar_patches(self) -> int | None:
        """Patches unlike anything that the model was trained on; None if failed."""
        return self._flagged(Flag.UNFAMILIAR)

    def _flagged(self, flag: Flag) -> int | None:
        return None if self.patches is None else self.flagged_patches.get(flag.value, 0)

    def to_json(self) -> str:
        """Return the JSON text."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> SceneRecord:
        """Parse what `to_json` wrote.

        Raises:
            ValueError: It is something else.
        """
        document = parsed_json(text)
        names = {f.name for f in fields(cls)}
        if not isinstance(document, dict) or set(document) != names:
            raise ValueError("not the record of a scene")
        return _DECODER.build(cls, document)


def named_after(record: SceneRecord, scene: ArchiveScene) -> SceneRecord:
    """Return a record with the id and the paths that the list has now."""
    return replace(record, id=scene.id, optical=_text(scene.optical), sar=_text(scene.sar))


def failed(scene: ArchiveScene, reason: str) -> SceneRecord:
    """Return the record of a scene that has no result."""
    return named_after(SceneRecord(scene.id, "failed", _text(reason)), scene)


def scene_folder(archive: Path, scene_id: str) -> Path:
    """Return the folder of a scene; an id that is not a plain name is spelled with a hash."""
    if _PLAIN_NAME.fullmatch(scene_id):
        return archive / "scenes" / scene_id
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", scene_id).strip("-")[:60]
    digest = hashlib.sha256(scene_id.encode()).hexdigest()[:16]
    return archive / "scenes" / f"{plain}~{digest}"


def write_record(folder: Path, record: SceneRecord) -> None:
    """Write a finished scene's record, whole or not at all."""
    write_atomic(folder / RECORD_NAME, record.to_json())


def read_record(folder: Path) -> SceneRecord | None:
    """Return the record in a scene's folder, or None unless its map and scores are still whole."""
    class_map = folder / MAP_NAME
    try:
        record = SceneRecord.from_json(read_regular(folder / RECORD_NAME, MAX_RECORD_BYTES))
        found = file_sha256(class_map), file_sha256(scores_path_of(class_map))
    except (OSError, ValueError):
        return None
    return record if found == (record.class_map_sha256, record.scores_sha256) else None


def _text(value: Path | str | None) -> str | None:
    """Return text that can be stored; a path may hold bytes that are no text."""
    return None if value is None else str(value).encode(errors="replace").decode()
