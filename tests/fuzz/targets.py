"""What is fuzzed. A target reads bytes or refuses them by its error; what it read is held against
another reader, or read a second time. Whatever else happens is a finding.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import logging
import math
import os
import tempfile
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from support.small_series import series_manifest
from support.tiny import tiny_manifest, tiny_onnx

from esccs_edge.contracts.decode import Decoder
from esccs_edge.contracts.json_text import MAX_DEPTH, parsed_json
from esccs_edge.contracts.manifest import FileRecord, Manifest
from esccs_edge.contracts.onnx_file import OPERATORS, require_plain
from esccs_edge.errors import (
    ArtifactError,
    EsccsError,
    InputError,
    ManifestError,
    RasterError,
)

from .edits import Edit, edited_bytes, edited_json


class Target(ABC):
    """Something that reads bytes.

    Attributes:
        seeds: Intact input, which is damaged.
        error: What it is refused by.
        is_json: Whether documents are damaged too, not only their text.
    """

    seeds: Sequence[bytes]
    error: type[Exception]
    is_json = False

    @abstractmethod
    def read(self, content: bytes) -> None:
        """Read it and check what was read."""

    def accepts(self, content: bytes) -> bool:
        """Whether it was read; anything but `error` is raised."""
        try:
            self.read(content)
        except self.error:
            return False
        return True

    def damaged(self, seed: int, edits: Sequence[Edit]) -> bytes:
        """Return one of the seeds, damaged."""
        content = self.seeds[seed % len(self.seeds)]
        if self.is_json and seed // len(self.seeds) % 2:
            return edited_json(content, edits)
        return edited_bytes(content, edits)

    def close(self) -> None:  # noqa: B027
        """Remove what lies on the disk."""


class Json(Target):
    """`parsed_json`, against the parser of the standard library."""

    error = ValueError
    seeds = (
        b'{"a": [1, -2.5e3, true, null, "\\u00e9\\ud83d\\ude00"], "b": {"c": {}}, "d": ""}',
        b'[[[["deep"]]], {"k": 1, "l": [1e-300, 123456789012345678901234567890]}]',
    )

    def read(self, content: bytes) -> None:
        found = parsed_json(content)
        assert found == json.loads(content.decode("utf-8"))
        assert depth_of(found) <= MAX_DEPTH
        assert parsed_json(json.dumps(found)) == found


def depth_of(document: Any) -> int:
    """Nesting of a document, counted the slow way."""
    depth, level = 0, [document]
    while level := [value for value in level if isinstance(value, (dict, list))]:
        depth += 1
        level = [v for one in level for v in (one.values() if isinstance(one, dict) else one)]
    return depth


class Manifests(Target):
    """`Manifest.from_json`; what is read is written and read again."""

    error = ManifestError
    is_json = True

    def __init__(self) -> None:
        rich = tiny_manifest(
            files={"student.onnx": FileRecord("0" * 64, 5)},
            quantization={"scheme": "int8", "nodes": ["Conv_1", "Conv_2"]},
            provenance={
                "simulated": ["clouds"],
                "metrics": {"test": {"oa": 0.9}},
                "name": "Ümlaut",
            },
        )
        self.seeds = tuple(
            manifest.to_json().encode()
            for manifest in (rich, series_manifest(), series_manifest(6, 8))
        )

    def read(self, content: bytes) -> None:
        manifest = Manifest.from_json(content)
        assert Manifest.from_json(manifest.to_json()) == manifest


@dataclasses.dataclass(frozen=True)
class Inner:
    """Part of what the decoder builds."""

    size: int
    name: str = "x"


@dataclasses.dataclass(frozen=True)
class Outer:
    """Every annotation that the decoder knows."""

    text: str
    number: float
    count: int
    is_on: bool
    kind: Literal["a", "b", 3]
    pair: tuple[float, float]
    many: tuple[str, ...]
    table: Mapping[str, int]
    inner: Inner
    inners: tuple[Inner, ...]
    maybe: int | None = None
    maybe_inner: Inner | None = None
    anything: Any = None


class Decoded(Target):
    """`Decoder.build`; what is built is checked by hand."""

    error = EsccsError
    is_json = True
    seeds = (
        json.dumps(
            {
                "text": "t", "number": 1.5, "count": 3, "is_on": True, "kind": "a",
                "pair": [1, 2.5], "many": ["x", "y"], "table": {"k": 1},
                "inner": {"size": 1, "name": "n"},
                "inners": [{"size": 2}], "maybe": 4, "maybe_inner": {"size": 5}, "anything": [{}],
            }
        ).encode(),
    )  # fmt: skip

    def read(self, content: bytes) -> None:
        try:
            document = parsed_json(content)
        except ValueError:
            raise InputError("not JSON") from None
        made = Decoder(InputError, "field").build(Outer, document)
        assert type(made.text) is str and type(made.number) is float
        assert math.isfinite(made.number) and type(made.count) is int and type(made.is_on) is bool
        assert made.kind in ("a", "b", 3) and type(made.kind) in (str, int)
        assert [type(one) for one in made.pair] == [float, float]
        assert made.many and all(type(one) is str for one in made.many)
        assert all(type(key) is str and type(n) is int for key, n in made.table.items())
        inners = [made.inner, *made.inners, *filter(None, [made.maybe_inner])]
        assert all(type(one.size) is int and type(one.name) is str for one in inners)
        assert made.maybe is None or type(made.maybe) is int


class Onnx(Target):
    """`require_plain`; what it lets through is a network and nothing else to the real parser."""

    error = ArtifactError
    seeds = (tiny_onnx(tiny_manifest(4)),)

    def read(self, content: bytes) -> None:
        require_plain(content, "student.onnx")
        import onnx
        from google.protobuf.unknown_fields import UnknownFieldSet

        model = onnx.load_from_string(content)
        assert not len(UnknownFieldSet(model))
        for node in model.graph.node:
            assert node.op_type in OPERATORS and node.domain in ("", "ai.onnx")
            for attribute in node.attribute:
                assert not attribute.HasField("g") and not attribute.graphs
                assert not attribute.HasField("sparse_tensor")
        for tensor in model.graph.initializer:
            assert tensor.data_location == 0 and not tensor.external_data
        assert (
            not model.functions and not model.training_info and not model.graph.sparse_initializer
        )


class OnDisk(Target):
    """A target that reads a file, which is put where writing costs least."""

    name = "file"

    def __init__(self) -> None:
        where = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self._made = tempfile.TemporaryDirectory(dir=where)
        self.folder = Path(self._made.name)
        self.path = self.folder / self.name

    def read(self, content: bytes) -> None:
        self.path.write_bytes(content)
        self.read_file()

    @abstractmethod
    def read_file(self) -> None:
        """Read the file."""

    def close(self) -> None:
        self._made.cleanup()


class Index(OnDisk):
    """`read_index`; what is read is written and read again."""

    error = InputError
    name = "index.csv"
    seeds = (
        b"optical,sar,label,group,split\na.tif,b.tif,Forest,g1,train\n,b.tif,River,,val\n"
        b'"a.tif",,"Sea, Lake",g2,test\n',
        b"optical,sar,label,group,split,cover,target,simulated,clear,cloud_mask\r\n"
        b"a.tif,b.tif,,g,train,0.25,a.tif,clouds sar,a.tif,b.tif\r\n\r\nb.tif,,A,,,,,,,\r\n",
        "sar,optical,split,group,label\nb.tif,\u00fc.tif,test,\u00e9,\u65e5\u672c\n".encode(),
    )

    def __init__(self) -> None:
        super().__init__()
        for name in ("a.tif", "b.tif", "\u00fc.tif"):
            (self.folder / name).touch()

    def read_file(self) -> None:
        from esccs_edge.rasters.pair_index import read_index, write_index

        found = read_index(self.path)
        assert found.rows and all(any(row.paths.values()) for row in found.rows)
        again = self.folder / "again.csv"
        write_index(again, found.rows)
        kept = read_index(again)
        assert [row.paths for row in kept.rows] == [row.paths for row in found.rows]
        for field in ("label", "group", "split", "cover", "target", "simulated"):
            for before, after in zip(found.rows, kept.rows, strict=True):
                assert getattr(before, field) == getattr(after, field), field


class Stac(OnDisk):
    """`read_scene_list` of an ItemCollection."""

    error = InputError
    is_json = True
    name = "items.json"
    seeds = (
        json.dumps(
            {
                "type": "FeatureCollection", "numberMatched": 3, "links": [{"rel": "self"}],
                "features": [
                    {"id": "a", "assets": {"optical": {"href": "a.tif"}, "sar": {"href": "b.tif"}}},
                    {"id": "b", "assets": {"x": {"href": "file:///b.tif", "roles": ["sar"]}}},
                    {"id": "c", "properties": {}, "assets": {"optical": {"href": "//h/%41.tif"}}},
                ],
            }
        ).encode(),
    )  # fmt: skip

    def read_file(self) -> None:
        from esccs_edge.archive.scene_list import read_scene_list

        scenes = read_scene_list(self.path)
        assert len({scene.id for scene in scenes}) == len(scenes) > 0
        for scene in scenes:
            assert scene.problem or scene.optical or scene.sar
            for path in (scene.optical, scene.sar):
                assert path is None or isinstance(path, Path) and "://" not in str(path)


class Raster(OnDisk):
    """`read_patch` of a GeoTIFF or PNG."""

    error = RasterError
    name = "a.tif"

    def __init__(self) -> None:
        import rasterio
        from support.rasters import write_raster

        super().__init__()
        logging.getLogger("rasterio").setLevel(logging.CRITICAL)
        self._spec = tiny_manifest(16).modalities["sar"]
        rng = np.random.default_rng(0)
        pixels = rng.normal(-14, 4, (2, 20, 24)).astype(np.float32)
        plain: dict[str, Any] = {}
        tiled = {"tiled": True, "blockxsize": 16, "blockysize": 16}
        seeds = []
        for profile in (
            plain,
            {**tiled, "compress": "deflate", "predictor": 3},
            {**tiled, "compress": "lzw", "interleave": "band", "nodata": -9999.0},
            {"compress": "zstd", "tiled": False, "blockysize": 4},
            {"BIGTIFF": "YES", "descriptions": ("VV", "VH"), "tags": {"scales": (1.0, 0.5)}},
        ):
            seeds.append(write_raster(self.path, pixels, **profile).read_bytes())
        with rasterio.open(self.path, "r+") as dataset:
            dataset.write_mask(rng.random((20, 24)) < 0.5)
        seeds.append(self.path.read_bytes())
        self.seeds = tuple(seeds)

    def read_file(self) -> None:
        from esccs_edge.rasters.reader import read_patch

        for beside in self.folder.glob("a.tif.*"):
            beside.unlink()
        found = read_patch(self.path, self._spec)
        assert found.ndim == 3 and len(found) == 2


class Npy(OnDisk):
    """`read_patch` of a ``.npy`` file."""

    error = RasterError
    name = "a.npy"

    def __init__(self) -> None:
        super().__init__()
        self._spec = tiny_manifest(16).modalities["sar"]
        seeds = []
        for dtype, order in (("<f4", "C"), (">f8", "F"), ("<i2", "C")):
            stream = io.BytesIO()
            np.save(stream, np.ones((2, 5, 6), dtype, order=order))  # type: ignore[call-overload]
            seeds.append(stream.getvalue())
        stream = io.BytesIO()
        np.lib.format.write_array(stream, np.ones((2, 3, 3), np.float32), version=(2, 0))
        self.seeds = (*seeds, stream.getvalue())

    def read_file(self) -> None:
        from esccs_edge.rasters.reader import read_patch

        found = read_patch(self.path, self._spec)
        assert found.ndim == 3 and len(found) == 2


class Npz(Target):
    """`read_npz`; what is read has the names that were asked for."""

    error = ValueError

    def __init__(self) -> None:
        seeds = []
        for save in (np.savez, np.savez_compressed):
            stream = io.BytesIO()
            save(stream, a=np.arange(30.0).reshape(5, 6), b=np.array("text"))  # type: ignore
            seeds.append(stream.getvalue())
        self.seeds = tuple(seeds)

    def read(self, content: bytes) -> None:
        from esccs_edge.contracts.npz_file import read_npz

        assert set(read_npz(content, ("a",), also=("b", "c"))) - {"b", "c"} == {"a"}


#: First bytes of the input of `Arrays` -> type and order of its numbers.
_DTYPES = (
    "<f4 >f4 <f8 >f8 <f2 u1 i1 <u2 >u2 <i2 >i2 <u4 <i4 >i4 <i8 <u8 ? <c8 O S2 U1 M8[s]".split()
)


class Arrays(Target):
    """`checked_sample` and the kernel, on arrays of any type, shape, layout and values.

    The first bytes of the input choose the array, the others are its values. Its answer is that of
    a plain copy, and of the slow twin.
    """

    error = InputError

    def __init__(self) -> None:
        self._manifest = tiny_manifest(4)
        self._names = tuple(self._manifest.modalities)
        rng = np.random.default_rng(0)
        optical = rng.integers(200, 6000, 13 * 16, np.uint16).tobytes()
        sar = rng.normal(-14, 4, 2 * 16).astype("<f4").tobytes()
        self.seeds = (
            bytes([0, 7, 13, 4, 4, 0]) + optical,
            bytes([1, 0, 2, 4, 4, 0]) + sar,
            bytes([1, 1, 2, 4, 4, 3]) + sar,
        )

    def damaged(self, seed: int, edits: Sequence[Edit]) -> bytes:
        """Damage values, and choose type, layout and, one time in four, the shape anew."""
        content = bytearray(super().damaged(seed, edits).ljust(6, b"\1"))
        first = edits[0] if edits else Edit(0, 0, 0)
        content[1], content[5] = first.value % 256, first.at % 256
        if seed % 4 == 0:
            content[2:5] = first.kind.to_bytes(3, "little")
        elif edits:
            content[2:5] = (13, 4, 4) if content[0] % 2 == 0 else (2, 4, 4)
        return bytes(content)

    def read(self, content: bytes) -> None:
        from support import oracle

        from esccs_edge.pixels.checks import checked_sample
        from esccs_edge.pixels.preprocess import preprocess

        head, values = content[:6].ljust(6, b"\0"), content[6:]
        name = self._names[head[0] % len(self._names)]
        given = _array(head, values)
        before = given.tobytes()
        sample = checked_sample({name: given}, self._manifest)
        assert given.tobytes() == before
        pixels, spec = sample.pixels[name], self._manifest.modalities[name]
        assert isinstance(pixels, np.ndarray)
        with np.errstate(all="ignore"):
            plain = _filled(given, spec.nodata).astype(pixels.dtype)
            assert np.array_equal(pixels, plain, equal_nan=pixels.dtype.kind == "f")
            out = np.full((1, *pixels.shape), np.nan, np.float32)
            stats = preprocess([pixels], spec, out)[0]
            wanted, seen = oracle.preprocess(pixels, spec)
            assert (stats.valid, stats.nonfinite) == (seen["valid"], seen["nonfinite"])
            np.testing.assert_allclose(out[0], wanted, rtol=1e-5, atol=2e-4)


def _array(head: bytes, values: bytes) -> np.ndarray:
    _, kind, channels, height, width, layout = head
    dtype = np.dtype(_DTYPES[kind % len(_DTYPES)])
    shape = (channels % 16, height % 8, width % 8)
    if dtype.hasobject:
        return np.full(shape, None, object)
    needed = math.prod(shape) * dtype.itemsize
    padded = (values * (needed // max(len(values), 1) + 1)).ljust(needed, b"\1")[:needed]
    if dtype.kind == "b":
        padded = bytes(byte & 1 for byte in padded)
    array = np.frombuffer(bytearray(padded), dtype).reshape(shape)
    if layout & 1:
        array = array[:, ::-1, ::-1]
    if layout & 2:
        array = np.asfortranarray(array)
    if layout & 4:
        array = np.repeat(array, 2, axis=2)[:, :, ::2]
    if layout & 8:
        array.setflags(write=False)
    if layout & 16:
        array = np.ma.masked_array(array, np.resize(np.frombuffer(head, np.uint8) & 1, shape))
    return array


def _filled(array: np.ndarray, nodata: float | None) -> np.ndarray:
    """Return a copy in native order, in which a pixel masked in any channel is absent in all."""
    plain = np.array(np.ma.getdata(array))
    absent = np.nan if plain.dtype.kind == "f" else nodata
    plain[:, np.ma.getmaskarray(array).any(axis=0)] = absent
    return plain


TARGETS: dict[str, type[Target]] = {
    "json": Json,
    "manifest": Manifests,
    "decoder": Decoded,
    "onnx": Onnx,
    "index": Index,
    "stac": Stac,
    "raster": Raster,
    "npy": Npy,
    "npz": Npz,
    "arrays": Arrays,
}


@contextlib.contextmanager
def opened(name: str) -> Any:
    """Yield a target by its name, with warnings silent."""
    target = TARGETS[name]()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield target
    finally:
        target.close()
