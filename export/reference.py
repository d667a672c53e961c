"""`reference.npz`: a few fixed inputs and the answers of the trained network.

It travels with the bundle, so that any later form of the model can be compared with the trained
network on any machine and without torch (`parity`).
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

import numpy as np

from esccs_edge.contracts.bundle import Bundle
from esccs_edge.contracts.bundle_files import REFERENCE
from esccs_edge.contracts.manifest import Manifest
from esccs_edge.contracts.modality import ModalitySpec
from esccs_edge.contracts.npz_file import read_npz
from esccs_edge.contracts.types import Array, Doubles, Floats
from esccs_edge.errors import ArtifactError
from esccs_edge.pixels.synthetic import smooth

Arrays = dict[str, Floats]

SEED = 20240229
#: Shares of valid pixels of modalities that are there in part, in turn.
PARTIAL = (0.75, 0.5)
#: Of an answer per pixel, the file keeps a grid of pixels with about this many a side: as telling
#: as all of them, and a sixteenth of the bytes where an image has 128.
PIXELS_A_SIDE = 32
#: Values lie on this grid so that the file compresses; offset by half a spacing, so none is 0.
GRID_STEP = 1 / 4


def reference_inputs(manifest: Manifest) -> Arrays:
    """Return simulated, normalized network inputs by name; the same for the same manifest.

    Rows follow `availability_rows`. A field is smooth, correlated between channels and within the
    clip range, like what preprocessing hands over; invalid pixels (the upper rows) are 0.
    """
    rng = np.random.default_rng(SEED)
    shares = availability_rows(len(manifest.modalities))
    height = manifest.sample.grid[0]
    tensors = {
        name: _rows(rng, spec, manifest.inputs[name].row, shares[:, column])
        for column, (name, spec) in enumerate(manifest.modalities.items())
    }
    exact = np.floor(shares * height) / height
    return {**tensors, manifest.availability: exact.astype(np.float32)}


def availability_rows(modalities: int) -> Doubles:
    """Return the share of valid pixels per row: all present, one alone, all partial, none."""
    alone = np.eye(modalities) if modalities > 1 else np.empty((0, 1))
    partial = np.resize(PARTIAL, (1, modalities))
    return np.concatenate([np.ones((2, modalities)), alone, partial, np.zeros((1, modalities))])


def pack_reference(inputs: Arrays, outputs: Arrays) -> bytes:
    """Return the file's content; equal arrays give equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in {**inputs, **thinned(outputs)}.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)
            # A fixed date, which numpy.savez does not promise.
            archive.writestr(
                zipfile.ZipInfo(f"{name}.npy"), member.getvalue(), zipfile.ZIP_DEFLATED
            )
    return buffer.getvalue()


def thinned(outputs: Mapping[str, Array]) -> dict[str, Array]:
    """Return what is compared of answers, whole or thinned already: of images a grid of pixels."""
    return {name: _thinned(array) for name, array in outputs.items()}


def _thinned(array: Array) -> Array:
    if array.ndim < 3:
        return array
    step = max(1, min(array.shape[-2:]) // PIXELS_A_SIDE)
    return array[..., ::step, ::step]


def read_reference(bundle: Bundle) -> tuple[Arrays, Arrays]:
    """Return the inputs and the expected outputs of a bundle, by tensor name.

    The outputs are `thinned`.

    Raises:
        ArtifactError: The file is missing, altered, or does not fit the manifest.
    """
    content = bundle.read(REFERENCE)
    outputs = bundle.manifest.outputs
    wanted = {**bundle.manifest.inputs, **outputs}
    try:
        arrays = read_npz(content, wanted)
    except ValueError as error:
        raise ArtifactError(f"{REFERENCE} cannot be read: {error}") from error
    rows = len(arrays[bundle.manifest.availability])
    for name, tensor in wanted.items():
        expected = (rows, *tensor.row)
        if name in outputs:
            expected = _thinned(np.broadcast_to(0, expected)).shape
        if arrays[name].shape != expected or arrays[name].dtype != np.float32:
            raise ArtifactError(
                f"{REFERENCE} holds {name} as {arrays[name].dtype} {arrays[name].shape}, "
                f"expected float32 {expected}",
                hint="Export the bundle again",
            )
    return ({n: arrays[n] for n in bundle.manifest.inputs},
            {n: arrays[n] for n in bundle.manifest.outputs})  # fmt: skip


def _rows(
    rng: np.random.Generator,
    spec: ModalitySpec,
    shape: tuple[int, ...],
    shares: Doubles,
) -> Floats:
    height = shape[1]
    rows = np.zeros((len(shares), *shape), np.float32)
    for row, share in zip(rows, shares, strict=True):
        field = _field(rng, spec, shape)
        valid = int(share * height)
        row[:, height - valid :] = field[:, height - valid :]
    return rows


def _field(rng: np.random.Generator, spec: ModalitySpec, shape: tuple[int, ...]) -> Floats:
    """``(C, H, W)``: one smooth ground shared by all channels, and a little of their own.

    A patch varies less within itself than the training data did as a whole, whose standard
    deviation is the unit here; INT8 ranges would not cover anything wilder.
    """
    channels, height, width = shape
    level = 0.5 * rng.normal(size=(1, 1, 1)) + 0.2 * rng.normal(size=(channels, 1, 1))
    shared, own = (1, height, width), (channels, height, width)
    texture = 0.5 * smooth(rng, shared) + 0.15 * smooth(rng, own)
    field = level + texture
    field = (np.floor(field / GRID_STEP) + 0.5) * GRID_STEP
    low, high = (
        ((limit - np.asarray(spec.mean)) / np.asarray(spec.std))[:, None, None]
        for limit in spec.clip
    )
    return np.clip(field, low, high).astype(np.float32)
