"""The quicklook: every panel shows what its caption says, also for odd scenes."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rasterio.crs import CRS
from support.mapping_parts import FakeClassifier
from support.rasters import NORTH_UP, north_up, random_scene, write_raster
from support.tiny import CLASSES, linear_sar, tiny_manifest

from esccs_edge.errors import InputError, RasterError
from esccs_edge.rasters.channels import narrowed
from esccs_edge.rasters.grid import Grid
from esccs_edge.scenes.map_reader import read_map
from esccs_edge.scenes.map_writer import scores_path_of
from esccs_edge.scenes.mapping import classify_scene
from esccs_edge.scenes.palette import class_colors
from esccs_edge.view import sheet
from esccs_edge.view.map_scale import bar_length_m, ground_pixel_m, length_text
from esccs_edge.view.pictures import (
    ABSENT_COLOR,
    class_picture,
    optical_picture,
    resized,
    sar_picture,
    true_color_channels,
)
from esccs_edge.view.quicklook import draw_quicklook
from esccs_edge.view.sheet import Sheet

MANIFEST = tiny_manifest(8)
RGB = narrowed(MANIFEST.modalities["optical"], ("B04", "B03", "B02"))


def pixels_of(png: bytes) -> np.ndarray:
    from matplotlib.image import imread

    return np.rint(imread(io.BytesIO(png))[:, :, :3] * 255).astype(np.uint8)


@pytest.fixture
def drawn(tmp_path):
    """Draw a simulated scene; returns a function of what to change."""

    def draw(optical=True, sar=True, size=(40, 30), picture="quick.png", **profile):
        pixels = random_scene(MANIFEST, *size)
        paths = {
            name: write_raster(tmp_path / f"{i}.tif", array, **profile) if given else None
            for i, (name, given, array) in enumerate(
                zip(MANIFEST.modalities, (optical, sar), pixels, strict=True)
            )
        }
        out = tmp_path / "map.tif"
        classify_scene(FakeClassifier(), *paths.values(), out, overwrite=True)
        return draw_quicklook(tmp_path / picture, out, paths, MANIFEST, note="simulated")

    return draw


# Pictures


def test_true_color_takes_the_natural_bands_in_one_stretch():
    assert true_color_channels(MANIFEST.modalities["optical"]) == ("B04", "B03", "B02")
    ramp = np.linspace(200, 3000, 64).astype(np.uint16).reshape(8, 8)
    picture = optical_picture(np.stack([ramp, ramp // 2, ramp // 4]), RGB).astype(int)
    assert (picture[7, 7] == picture.max(axis=(0, 1))).all()
    assert picture[7, 7, 0] > picture[7, 7, 1] > picture[7, 7, 2]


def test_clouds_do_not_take_the_contrast_of_the_ground():
    ground = np.random.default_rng(0).integers(300, 2500, (3, 64, 64)).astype(np.uint16)
    cloudy = ground.copy()
    cloudy[:, :, 32:] = 9000
    spread = optical_picture(cloudy, RGB)[:, :32].std()
    assert spread > 0.5 * optical_picture(ground, RGB)[:, :32].std()


@pytest.mark.parametrize("case", ["nodata", "nan"])
def test_absent_pixels_have_their_own_color(case):
    pixels = np.random.default_rng(0).integers(300, 2500, (3, 8, 8)).astype(np.uint16)
    if case == "nan":
        pixels = pixels.astype(np.float32) * 1e-4
    pixels[:, 2, 3] = np.nan if case == "nan" else 0
    assert tuple(optical_picture(pixels, RGB)[2, 3]) == ABSENT_COLOR
    everything = np.full_like(pixels, np.nan if case == "nan" else 0)
    assert (optical_picture(everything, RGB) == ABSENT_COLOR).all()


def test_sar_is_a_composite_of_two_polarizations_or_gray():
    vv, vh = np.meshgrid(np.linspace(-20, 0, 32), np.linspace(-30, -10, 32))
    picture = sar_picture(np.stack([vv, vh]).astype(np.float32), MANIFEST.modalities["sar"]).astype(
        int
    )
    assert picture[0, -1, 0] > picture[0, 0, 0]  # red grows with VV
    assert picture[-1, 0, 1] > picture[0, 0, 1]  # green grows with VH
    gray = sar_picture(vv[None].astype(np.float32), narrowed(MANIFEST.modalities["sar"], ["VV"]))
    assert (gray == gray[:, :, :1]).all() and np.ptp(gray) > 200


def test_linear_backscatter_looks_as_it_does_in_decibel():
    manifest = tiny_manifest(8)
    values = np.random.default_rng(0).uniform(-30, 0, (2, 8, 8)).astype(np.float32)
    stored = 10 ** (values / 10)
    values[:, 0, 0], stored[:, 0, 0] = -50, 1e-9  # shown as the lowest that preprocessing takes
    pictures = [
        sar_picture(pixels, given.modalities["sar"]).astype(int)
        for pixels, given in ((values, manifest), (stored, linear_sar(manifest)))
    ]
    assert np.ptp(pictures[0]) > 100
    assert np.abs(pictures[0] - pictures[1]).max() <= 1  # one level of rounding


def test_a_class_map_keeps_exact_colors_at_any_size():
    classes = np.random.default_rng(0).integers(0, 4, (20, 30)).astype(np.uint8)
    classes[3, 4] = 255
    allowed = {*class_colors(CLASSES), ABSENT_COLOR}
    for side in (7, 30, 211):
        picture = resized(class_picture(classes, CLASSES), side, smooth=False)
        assert max(picture.shape) == side
        assert {tuple(color) for color in picture.reshape(-1, 3).tolist()} <= allowed


@given(st.lists(st.text(), min_size=2, max_size=40, unique=True))
def test_classes_have_colors_of_their_own(names):
    colors = class_colors(names)
    assert len(colors) == len(names)
    unfamiliar = [c for c, name in zip(colors, names, strict=True) if len(name) < 3]
    assert len(set(unfamiliar)) == len(unfamiliar)


# Scale


def test_degrees_become_meters_at_their_latitude():
    grid = Grid(CRS.from_epsg(4326), north_up(10.0, 60.005, 1e-4, 1e-4), 100, 100)
    across, down = ground_pixel_m(grid)
    assert down == pytest.approx(11.132) and across == pytest.approx(down / 2, rel=1e-3)
    assert ground_pixel_m(Grid(CRS.from_epsg(32630), NORTH_UP, 9, 9)) == (10, 10)
    assert ground_pixel_m(Grid(CRS.from_epsg(2263), NORTH_UP, 9, 9))[0] == pytest.approx(
        3.048, 1e-4
    )
    assert ground_pixel_m(Grid(None, NORTH_UP, 9, 9)) is None


@given(st.floats(0.01, 1e8))
def test_a_scale_bar_is_a_round_number_that_fits(width_m):
    length = bar_length_m(width_m)
    assert width_m / 10 * 0.999 < length <= width_m / 4 * 1.001
    assert f"{length:e}"[0] in "125" and f"{length:e}"[2:8] == "000000"


def test_lengths_are_written_as_people_do():
    assert [length_text(x) for x in (0.5, 500.0, 1000.0, 20_000.0)] == [
        "0.5 m", "500 m", "1 km", "20 km"]  # fmt: skip


# The sheet


def test_a_quicklook_shows_every_class_of_the_map_and_its_legend(drawn, tmp_path):
    png = drawn()
    assert png == tmp_path / "quick.png"
    pixels = pixels_of(png.read_bytes())
    result = read_map(tmp_path / "map.tif", 40)
    colors = class_colors(CLASSES)
    swatches = pixels[:, -round(sheet._RIGHT * sheet._DPI) :].reshape(-1, 3)
    for i in np.unique(result.classes):
        exact = (pixels == colors[i]).all(axis=2).sum()
        assert exact > 500, CLASSES[i]
        assert (swatches == colors[i]).all(axis=1).any(), CLASSES[i]
        shown = exact / sum((pixels == c).all(axis=2).sum() for c in colors)
        assert shown == pytest.approx(np.mean(result.classes == i), abs=0.06)


@pytest.mark.parametrize("present", [(True, False), (False, True)])
def test_an_absent_modality_is_said_to_be_absent(drawn, present):
    whole = pixels_of(drawn().read_bytes())
    png = pixels_of(drawn(*present, picture="one.png").read_bytes())
    assert png.shape == whole.shape
    gray = (png == ABSENT_COLOR).all(axis=2).sum()
    assert gray > 0.1 * png.shape[0] * png.shape[1]
    assert (whole == ABSENT_COLOR).all(axis=2).sum() < 0.01 * gray


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (60, 2), (8, 300)])
def test_odd_scenes_are_drawn(drawn, size):
    pixels = pixels_of(drawn(size=size).read_bytes())
    assert 300 < pixels.shape[0] < 2500 and 500 < pixels.shape[1] < 2500


def test_a_scene_without_a_place_is_drawn_in_pixels(drawn):
    assert drawn(crs=None, transform=None).stat().st_size > 10_000


def test_the_same_scene_gives_the_same_file(drawn):
    assert drawn(picture="a.png").read_bytes() == drawn(picture="b.png").read_bytes()


def test_drawing_leaves_the_callers_plots_alone(drawn):
    import matplotlib
    import matplotlib.pyplot as plt

    before = dict(matplotlib.rcParams), matplotlib.get_backend(), plt.get_fignums()
    drawn()
    assert (dict(matplotlib.rcParams), matplotlib.get_backend(), plt.get_fignums()) == before


def test_many_classes_are_summed_up_in_the_legend():
    names = [f"class {i}" for i in range(30)]
    classes = np.arange(900, dtype=np.int64).reshape(30, 30) % 30
    page = Sheet(Grid(None, NORTH_UP, 30, 30))
    page.picture((0, 1), "Class map", class_picture(classes.astype(np.uint8), names), smooth=False)
    page.class_legend((0, 1), classes.astype(np.uint8), names)
    (legend,) = page.figure.legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert len(texts) == 15 and texts[-1] == "53 %  16 more"


def test_a_large_scene_is_read_at_reduced_size(tmp_path):
    optical = write_raster(tmp_path / "o.tif", random_scene(MANIFEST, 1700, 900)[0])
    classify_scene(FakeClassifier(tiny_manifest(64)), optical, None, tmp_path / "map.tif")
    result = read_map(tmp_path / "map.tif", 800)
    assert result.classes.shape == result.confidence.shape == (800, 424)
    assert (result.grid.height, result.grid.width) == (1700, 900)
    draw_quicklook(tmp_path / "q.png", tmp_path / "map.tif", {"optical": optical}, MANIFEST)


# Refusals


def test_a_raster_of_another_place_is_refused(tmp_path, drawn):
    drawn()
    moved = north_up(0.0, 0.0, 10.0, 10.0)
    other = write_raster(tmp_path / "other.tif", random_scene(MANIFEST, 40, 30)[0], transform=moved)
    before = (tmp_path / "quick.png").read_bytes()
    with pytest.raises(RasterError, match="other.tif has transform .* and the class map"):
        draw_quicklook(tmp_path / "quick.png", tmp_path / "map.tif", {"optical": other}, MANIFEST)
    assert (tmp_path / "quick.png").read_bytes() == before


def test_a_file_that_is_no_class_map_is_refused(tmp_path, drawn):
    drawn()
    with pytest.raises(RasterError, match="not a map of this package"):
        draw_quicklook(tmp_path / "q.png", tmp_path / "0.tif", {}, MANIFEST)
    scores_path_of(tmp_path / "map.tif").unlink()
    with pytest.raises(RasterError, match="map.scores.tif"):
        draw_quicklook(tmp_path / "q.png", tmp_path / "map.tif", {}, MANIFEST)
    with pytest.raises(InputError, match=r"ending in \.png"):
        draw_quicklook(tmp_path / "q.jpg", tmp_path / "map.tif", {}, MANIFEST)
    assert not list(tmp_path.glob("q.*"))
