"""`reference.npz`: a few fixed inputs and the answers of the trained network.

It is the yardstick that travels with the bundle: on any machine, without torch, any later form of
the model can be held against it (`parity`).
"""

from __future__ import annotations

import io
import zipfile

import numpy as np
import numpy.typing as npt

from esccs_edge.contracts.bundle import Bundle
from esccs_edge.contracts.manifest import Manifest, ModalitySpec
from esccs_edge.errors import ArtifactError

Arrays = dict[str, npt.NDArray[np.float32]]

REFERENCE_NAME = "reference.npz"
SEED = 20240229
#: Share of valid pixels (optical, SAR) per row: both present, one absent, partial, none.
AVAILABILITY = ((1.0, 1.0), (1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (0.75, 0.5), (0.0, 0.0))
#: Values lie on this grid so that the file compresses; offset by half a step, so none is 0.
GRID_STEP = 1 / 4


def reference_inputs(manifest: Manifest) -> Arrays:
    """Return simulated, normalized network inputs by name; the same for the same manifest.

    Rows follow `AVAILABILITY`. A field is smooth, correlated between channels and within the
    clip range, like what preprocessing hands over; invalid pixels (the upper rows) are 0.
    """
    rng = np.random.default_rng(SEED)
    tensors = {name: _rows(rng, manifest, name) for name in ("optical", "sar")}
    size = manifest.patch_size
    exact = [[int(share * size) / size for share in row] for row in AVAILABILITY]
    return {**tensors, "availability": np.asarray(exact, np.float32)}


def pack_reference(inputs: Arrays, outputs: Arrays) -> bytes:
    """Return the file's content; equal arrays give equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in {**inputs, **outputs}.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)
            # A fixed date, which numpy.savez does not promise.
            archive.writestr(
                zipfile.ZipInfo(f"{name}.npy"), member.getvalue(), zipfile.ZIP_DEFLATED
            )
    return buffer.getvalue()


def read_reference(bundle: Bundle) -> tuple[Arrays, Arrays]:
    """Return the inputs and the expected outputs of a bundle, by tensor name.

    Raises:
        ArtifactError: The file is missing, altered, or does not fit the manifest.
    """
    content = bundle.read(REFERENCE_NAME)
    wanted = {**bundle.manifest.inputs, **bundle.manifest.outputs}
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in wanted}
    except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise ArtifactError(f"{REFERENCE_NAME} cannot be read: {error}") from error
    rows = len(arrays["availability"])
    for name, shape in wanted.items():
        expected = (rows, *shape[1:])
        if arrays[name].shape != expected or arrays[name].dtype != np.float32:
            raise ArtifactError(
                f"{REFERENCE_NAME} holds {name} as {arrays[name].dtype} {arrays[name].shape}, "
                f"expected float32 {expected}",
                hint="Export the bundle again",
            )
    return ({n: arrays[n] for n in bundle.manifest.inputs},
            {n: arrays[n] for n in bundle.manifest.outputs})  # fmt: skip


def _rows(rng: np.random.Generator, manifest: Manifest, name: str) -> npt.NDArray[np.float32]:
    spec: ModalitySpec = getattr(manifest, name)
    column = ("optical", "sar").index(name)
    size = manifest.patch_size
    rows = np.zeros((len(AVAILABILITY), len(spec.channels), size, size), np.float32)
    for row, shares in zip(rows, AVAILABILITY, strict=True):
        field = _field(rng, spec, size)
        valid = int(shares[column] * size)
        row[:, size - valid :] = field[:, size - valid :]
    return rows


def _field(rng: np.random.Generator, spec: ModalitySpec, size: int) -> npt.NDArray[np.float32]:
    """``(C, size, size)``: one smooth ground shared by all channels, and a little of their own.

    A patch varies less within itself than the training data did as a whole, whose standard
    deviation is the unit here; INT8 ranges would not cover anything wilder.
    """
    channels = len(spec.channels)
    level = 0.5 * rng.normal(size=(1, 1, 1)) + 0.2 * rng.normal(size=(channels, 1, 1))
    texture = 0.5 * _smooth(rng, (1, size, size)) + 0.15 * _smooth(rng, (channels, size, size))
    field = level + texture
    field = (np.floor(field / GRID_STEP) + 0.5) * GRID_STEP
    low, high = (
        ((limit - np.asarray(spec.mean)) / np.asarray(spec.std))[:, None, None]
        for limit in spec.clip
    )
    return np.clip(field, low, high).astype(np.float32)


def _smooth(rng: np.random.Generator, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Unit-variance noise, averaged over 5 x 5 pixels with wrap-around."""
    field = rng.normal(0, 1, shape)
    for axis in (-2, -1):
        field = np.sum([np.roll(field, shift, axis) for shift in range(-2, 3)], axis=0)
    return np.asarray(field / 5.0)
