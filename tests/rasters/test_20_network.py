"""Rasters at addresses: read by ranges when asked for, and never waited for without end."""

from __future__ import annotations

import socket
import time

import numpy as np
import pytest
import rasterio
from support import tiny
from support.rasters import write_raster
from support.web_server import web_server

from esccs_edge.errors import RasterError
from esccs_edge.rasters.products import network
from esccs_edge.rasters.products.product import Stating
from esccs_edge.rasters.products.stacking import stack_products

MANIFEST = tiny.tiny_manifest()
REMOTE = Stating(remote=True)


@pytest.fixture
def served(tmp_path):
    """A folder with two rasters, and its address."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(1, 9000, (len(MANIFEST.modalities["optical"].channels), 200, 200))
    (tmp_path / "served").mkdir()
    for name in ("optical.tif", "silent.tif"):
        write_raster(tmp_path / "served" / name, pixels.astype(np.uint16))
    with web_server(tmp_path / "served") as address:
        yield address


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(network, "SILENCE_S", 1)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def stack(address, folder):
    return stack_products({"optical": address}, MANIFEST, folder, stating=REMOTE)


def test_a_served_raster_is_read_like_the_file(served, impatient, tmp_path):
    there = stack(f"{served}/optical.tif", tmp_path / "there")
    here = stack_products({"optical": tmp_path / "served" / "optical.tif"}, MANIFEST,
                          tmp_path / "here")  # fmt: skip
    read = []
    for stacked in (there, here):
        with rasterio.open(stacked.paths["optical"]) as dataset:
            read.append(dataset.read())
    assert read[0].any() and (read[0] == read[1]).all()


@pytest.mark.parametrize("how", ["mute", "midway", "nobody", "absent"])
def test_an_address_that_does_not_answer_is_given_up_within_seconds(
    how, served, impatient, tmp_path
):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = {
            "mute": f"http://127.0.0.1:{mute.getsockname()[1]}/a.tif",
            "midway": f"{served}/silent.tif",
            "nobody": "http://127.0.0.1:9/a.tif",
            "absent": f"{served}/none.tif",
        }[how]
        begin = time.monotonic()
        with pytest.raises(RasterError, match="cannot read /vsicurl/") as caught:
            stack(address, tmp_path / "out")
    assert time.monotonic() - begin < 20
    assert "network" in caught.value.hint
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_what_the_environment_says_is_left_to_it(monkeypatch):
    name = "GDAL_HTTP_LOW_SPEED_TIME"
    assert int(network.network_options(remote=True)[name]) == network.SILENCE_S
    monkeypatch.setenv(name, "120")
    assert name not in network.network_options(remote=True)
    assert not network.network_options(remote=False)
