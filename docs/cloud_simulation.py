"""Hold simulated clouds and the cloud estimate against real cloudy images.

Writes `cloud-simulation.md` and `images/cloud-simulation.png`. Give a checkout of an earlier
version's `training/simulate/clouds.py` to have it told apart from real clouds as well.

    python docs/cloud_simulation.py ../shared/data [EARLIER_CLOUDS.py]
"""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import matplotlib
import numpy as np
import rasterio
from cloud_estimate import Triplets, agreement, labeled_images
from real_or_simulated_clouds import as_compared, forest, net, told_apart

from esccs_edge.contracts.sensors import SENTINEL2_L1C_BANDS as BANDS
from esccs_edge.training.samples import cloud_cover as estimate
from esccs_edge.training.simulate.clouds import simulate_clouds
from esccs_edge.training.simulate.noise import box_mean
from esccs_edge.view.markdown import markdown_table

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

FOLDER = Path(__file__).parent
SIZE, LEAST_COVER = 64, 0.05
BLUE = BANDS.index("B02")
#: Cloudy and clear images of places that no figure of the simulator comes from.
UNFITTED = {
    "1970 fall 136": ("cloudy-clear/high_cp/s2_cloudy", "cloudy-clear/high_cp/s2"),
    "1158 spring 39": ("cloudy-clear/untagged/s2_cloudy", "cloudy-clear/untagged/s2"),
    "1970 fall 139": ("triplet/s2_cloudy", "triplet/s2_cloudfree"),
}
LIGHTS = {
    "as it is": (1.0, 0.0),
    "x 0.8": (0.8, 0.0),
    "x 1.2": (1.2, 0.0),
    "haze 0.02": (1.0, 0.02),
}


def main(data: Path, earlier: Path | None) -> None:
    """Write the page and its picture."""
    triplets = Triplets.read(data)
    fitted = list(chips(triplets.cloudy, triplets.clear, triplets.mask, triplets.place))
    unfitted = list(chips(*unfitted_images(data)))
    draw(fitted, unfitted, FOLDER / "images" / "cloud-simulation.png")
    simulators = {"this version": simulate_clouds}
    if earlier:
        simulators = {"earlier version": loaded(earlier)} | simulators
    images = list(labeled_images(triplets, data))
    text = page(fitted, unfitted, simulators, images)
    (FOLDER / "cloud-simulation.md").write_text(text, encoding="utf-8")
    print(text)


def unfitted_images(data: Path):
    """Return cloudy, clear, mask and place; the masks are the estimate, since none is published."""
    cloudy, clear = ([], [])
    for folders in UNFITTED.values():
        for images, folder in zip((cloudy, clear), folders, strict=True):
            with rasterio.open(next((data / "sen12ms-cr" / folder).glob("*.tif"))) as raster:
                images.append(raster.read())
    masks = [estimate.cloud_likelihood(image * np.float32(1e-4), BANDS) > 0.5 for image in cloudy]
    return cloudy, clear, masks, list(UNFITTED)


def chips(cloudy, clear, masks, places):
    """Yield cloudy and clear chip, mask and place where clouds cover at least `LEAST_COVER`."""
    for images in zip(cloudy, clear, masks, places, strict=True):
        for row in range(0, 256, SIZE):
            for column in range(0, 256, SIZE):
                window = (..., slice(row, row + SIZE), slice(column, column + SIZE))
                if images[2][window].mean() >= LEAST_COVER:
                    yield *(image[window] for image in images[:3]), images[3]


def simulated(found, simulate=simulate_clouds, seed: int = 0):
    """Return cloudy chips and masks: clouds over the clear image at the cover of the real one."""
    drawn = [
        simulate(clear, BANDS, float(mask.mean()), np.random.default_rng((seed, number)))
        for number, (_, clear, mask, _) in enumerate(found)
    ]
    return np.stack([chip for chip, _, _ in drawn]), np.stack([mask for _, _, mask in drawn])


def loaded(path: Path):
    """Return `simulate_clouds` of another version's file, beside this version's neighbors."""
    source = re.sub(r"from \.(\w+)", r"from esccs_edge.training.simulate.\1", path.read_text())
    module = types.ModuleType("earlier_clouds")
    sys.modules[module.__name__] = module
    exec(compile(source, str(path), "exec"), module.__dict__)
    return module.simulate_clouds


def figures(cloudy, masks) -> dict[str, str]:
    """Return what is compared: blue light of cloudy pixels, bands against it, structure."""
    light = np.asarray(cloudy, np.float32) * np.float32(1e-4)
    pixels = light.transpose(1, 0, 2, 3)[:, masks]
    fine = (light[:, BLUE] - box_mean(light[:, BLUE], 1)).std(axis=(1, 2))
    edges = (masks[:, 1:] != masks[:, :-1]).mean(axis=(1, 2))
    blue = np.quantile(pixels[BLUE], [0.1, 0.5, 0.9])
    ratios = np.median(pixels / pixels[BLUE], axis=1)
    rows = {"B02 of cloudy pixels, 10 / 50 / 90 %": " / ".join(f"{value:.2f}" for value in blue)}
    for band in ("B01", "B04", "B08", "B09", "B11", "B12"):
        rows[f"{band} / B02, median"] = f"{ratios[BANDS.index(band)]:.2f}"
    high = np.quantile(pixels[BANDS.index("B10")], [0.1, 0.5, 0.9])
    rows["B10 of cloudy pixels, 10 / 50 / 90 %"] = " / ".join(f"{value:.3f}" for value in high)
    rows["B02 against its 3 x 3 mean, std, median"] = f"{np.median(fine):.4f}"
    rows["mask edges per pixel down a column, mean"] = f"{edges.mean():.3f}"
    return rows


def page(fitted, unfitted, simulators, images) -> str:
    """Return the text."""
    sections = [
        "# Clouds: simulated against real",
        "Written by `python docs/cloud_simulation.py`. Real images are SEN12MS-CR (CC-BY 4.0). "
        "s2cloudless made the masks of the six triplet places and is the reference here, not the "
        "truth. Simulated clouds lie over the clear image of the same place at the cover of the "
        "real chip; what grew or dried between the two dates stays as a difference.",
        "![Spectra and structure](images/cloud-simulation.png)",
        "## Spectra and structure",
        "Constants of the simulator come from the six places of the triplets; the three other "
        "places gave none, and their masks are the estimate below.",
    ]
    columns = {}
    for name, found in (("six places", fitted), ("three places not used", unfitted)):
        columns[f"real, {name}"] = figures(*(np.stack([c[k] for c in found]) for k in (0, 2)))
        columns[f"simulated, {name}"] = figures(*simulated(found))
    keys = list(next(iter(columns.values())))
    sections.append(
        markdown_table(["", *columns], [[k, *(c[k] for c in columns.values())] for k in keys])
    )
    sections += [
        "## Told apart",
        "Balanced accuracy on places never seen; 0.5 means that it cannot. "
        f"{len(fitted)} real and as many simulated chips of the six places.",
        told_apart_table(fitted, simulators),
        "## The estimate: agreement with s2cloudless",
        "Folds by place: each place is judged by coefficients fitted on the others, at a "
        "likelihood of 0.5. The shipped coefficients are those of all places. EuroSAT patches and "
        "clear partners have no clouds: what is cloudy there is a false alarm.",
    ]
    rows = []
    for used in estimate.COEFFICIENTS:
        for light, found in agreement(images, used, LIGHTS).items():
            wanted = found if light == "as it is" else {"all": found["all"]}
            rows += [[", ".join(used), light, place, *(f"{v:.3f}" for v in row.values())]
                     for place, row in wanted.items()]  # fmt: skip
    heads = ["bands", "light", "place", "cover", "recall", "precision", "false alarms, clear",
             "false alarms, EuroSAT"]  # fmt: skip
    return "\n\n".join([*sections, markdown_table(heads, rows)]) + "\n"


def told_apart_table(fitted, simulators) -> str:
    """Return how well both judges tell each simulator from real clouds."""
    real, places = as_compared([c[0] for c in fitted]), np.array([c[3] for c in fitted])
    rows = []
    for name, simulate in simulators.items():
        drawn = as_compared(simulated(fitted, simulate)[0])
        for kind, judge in (("random forest", forest), ("small net", net)):
            score = told_apart(judge, real, drawn, places)
            overall = [f"{score.pop(key):.2f}" for key in ("all", "places")]
            by_place = ", ".join(f"{key} {value:.2f}" for key, value in score.items())
            rows.append([name, kind, *overall, by_place])
    return markdown_table(["simulator", "judge", "chips", "mean of places", "by place"], rows)


def draw(fitted, unfitted, path: Path) -> None:
    """Draw spectra by brightness, brightness, cirrus, and chips side by side."""
    figure = plt.figure(figsize=(13, 10), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(1, 1.1))
    axes = top.subplots(2, 3)
    places = {"six places": fitted, "three places not used": unfitted}
    for line, (name, found) in zip(axes, places.items(), strict=True):
        for kind, color, (cloudy, masks) in (
            ("real", "black", [np.stack([c[k] for c in found]) for k in (0, 2)]),
            ("simulated", "tab:orange", simulated(found)),
        ):
            pixels = cloudy.transpose(1, 0, 2, 3)[:, masks] * 1e-4
            edges = np.quantile(pixels[BLUE], [0.05, 0.35, 0.65, 0.95])
            for low, high, style in zip(edges, edges[1:], (":", "--", "-"), strict=False):
                inside = (pixels[BLUE] >= low) & (pixels[BLUE] < high)
                line[0].plot(BANDS, np.median(pixels[:, inside], axis=1), style, color=color)
            line[1].hist(pixels[BLUE], np.linspace(0, 1.2, 50), density=True, histtype="step",
                         color=color, label=kind)  # fmt: skip
            line[2].hist(np.log10(np.maximum(pixels[10], 2e-4)), 50, density=True, histtype="step",
                         color=color)  # fmt: skip
        line[0].set(title=f"cloudy pixels by thirds of brightness, {name}", ylabel="reflectance")
        line[0].tick_params("x", labelsize=7)
        line[1].set(title="B02 of cloudy pixels")
        line[1].legend()
        line[2].set(title="log10 B10 of cloudy pixels")
    shown = fitted[:: max(1, len(fitted) // 8)][:8]
    rows = [[c[1] for c in shown], [c[0] for c in shown], simulated(shown)[0]]
    for axis, kind, pictures in zip(bottom.subplots(3, 1), ("clear", "real", "simulated"), rows,
                                    strict=True):  # fmt: skip
        strip = np.concatenate([picture[[3, 2, 1]] for picture in pictures], axis=2)
        axis.imshow(np.clip(strip.transpose(1, 2, 0) / 4500, 0, 1))
        axis.set(xticks=[], yticks=[], ylabel=kind)
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
