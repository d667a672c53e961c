"""Manifests of time series, without a network."""

from __future__ import annotations

from esccs_edge.contracts.calendar import months
from esccs_edge.contracts.manifest import BatchProfile, Manifest
from esccs_edge.contracts.modality import ModalitySpec, SampleSpec

OPTICAL = ModalitySpec(
    channels=("B04", "B08", "B11"), sensor="Sentinel-2 MSI", level="L2A", unit="reflectance",
    dn_scale=1e-4, dn_offset=0.0, nodata=0.0, clip=(0.0, 1.1), mean=(0.1, 0.3, 0.2),
    std=(0.05, 0.1, 0.1),
)  # fmt: skip
SAR = ModalitySpec(
    channels=("VV", "VH"), sensor="Sentinel-1 SAR-C", level="GRD IW", unit="dB", dn_scale=None,
    dn_offset=0.0, nodata=0.0, clip=(-35.0, 5.0), mean=(-12.0, -19.0), std=(3.0, 3.0),
)  # fmt: skip


def series_manifest(dates: int = 12, size: int = 1, sensors=("optical", "sar"), **changes):
    known = {"optical": OPTICAL, "sar": SAR}
    task = "series-classification" if size == 1 else "series-segmentation"
    return Manifest(
        name="series",
        classes=("Maize", "Grass", "Other"),
        modalities={name: known[name] for name in sensors},
        sample=SampleSpec(size, size, 10.0, dates, months(9, dates)),
        task=task,
        batch=BatchProfile(1, 2, 4),
    ).evolve(**changes)
