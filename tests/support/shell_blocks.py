"""The shell blocks of the pages: what in them stands for something, and what is not run.

`test_90_pages.py` runs every line of every ``sh`` block of README and docs, page by page and in
order, in a folder that `page_sandbox.py` fills. Both tables here are read by a person first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple


class StandIn(NamedTuple):
    """What a line says, and what is run instead; ``page`` is empty where it holds for all."""

    page: str
    said: str
    run: str


class NotRun(NamedTuple):
    """Lines of a page that begin so are not run, and why."""

    page: str
    line: str
    reason: str


S2 = "S2B_MSIL1C_20230823T095559_N0509_R122_T34UCF_20230823T120234.SAFE"
S1 = "S1A_IW_GRDH_1SDV_20230824T163512_20230824T163537_050018_0604F3_24EE.zip"
MAPS = "--out runs/maps --methods ours --config maps.toml"
ENCODER = "esccs_edge.training.learning.networks:convolutional"
PAIRS = "data/index.csv"
#: In this order, each on what the ones before have left. Sizes and lengths of training are small in
#: `training/configs` of the folder; here only names and numbers are replaced.
STAND_INS = [
    # Public data sets are pairs, maps and series of a few pixels.
    StandIn("docs/comparison.md", "ombria:../shared/data/ombria", PAIRS),
    StandIn("docs/comparison.md", "eurosat:../shared/data/eurosat-ms", "wide/index.csv"),
    StandIn("", "eurosat:../shared/data/eurosat-ms", PAIRS),
    StandIn("", "sen12ms-cr:../shared/data/sen12ms-cr/triplets.npz", "sen12ms-cr:chips"),
    StandIn("", "sen12ms-cr:../shared/data/sen12ms-cr", "sen12ms-cr:chips"),
    StandIn("", "../shared/data/sen12ms-cr/judge.npz", "chips/judge.npz"),
    StandIn("", "../shared/data/sen12ms-cr/cloudy-clear", "chips"),
    StandIn("", "../shared/data/worldcereal", "crops-of-places"),
    StandIn("", "ombria:FOLDER", "maps/index.csv"),
    StandIn("", "FILE.geoparquet", "crops-of-places/2023_FRA_LPIS_POLY_110.geoparquet"),
    StandIn("", "FILE.hdf5", "fields.hdf5 --set network.widths=[4,4,6,8]"),
    StandIn("", "simulated:0", "fcn3d:fields.hdf5 --set network.widths=[4,4,6,8]"),
    # Files of the reader's own.
    
    StandIn("", "labeled/index.csv", PAIRS),
    StandIn("", "S2A_MSIL1C_....SAFE", S2),
    StandIn("", "S1A_IW_GRDH_....SAFE", S1),
    StandIn("", "S2B_MSIL1C_20230823.SAFE", S2),
    StandIn("", "S1A_IW_GRDH_20230824.zip", S1),
    StandIn("docs/security.md", "BUNDLE", "runs/first/bundle"),
    StandIn("docs/security.md", "5f2c...", "$DIGEST"),
    StandIn("docs/training.md", "my_package.module:factory", ENCODER),
    # Alternatives that a reader would not run both, or into an empty folder each.
    StandIn("", f"{S1} map.tif", f"{S1} product.tif"),
    StandIn("docs/products.md", "pair/sar.tif map.tif", "pair/sar.tif pair.tif"),
    StandIn("docs/performance.md", "pytest --esccs", "pytest test_speed.py --esccs"),
    # Fewer and shorter: of rows, seeds, workers, pixels and epochs.
    StandIn("", "esccs-edge train --data", "esccs-edge train --config small.toml --data"),
    StandIn("", "--seeds 5 --other-seeds 2 --trials 2 --jobs 2", "--seeds 1"),
    StandIn("", "--seeds 6", "--seeds 1"),
    StandIn("", "--jobs 2", ""),
    StandIn("docs/training.md", "--folds 4", "--folds 2"),
    StandIn("docs/comparison.md", "headline,ends,halves", "source-only,esccs"),
    StandIn("docs/comparison.md", ",halves,esccs-no-step-two,esccs-no-irm,esccs-three-losses", ""),
    StandIn("docs/comparison.md", ",esccs-skill,esccs-trusting,headline", ""),
    StandIn("docs/segmentation.md", "--out runs/maps --seeds 5", MAPS),
    StandIn("docs/training.md", "--out runs/maps --seeds 5", MAPS),
    StandIn("docs/training.md", "student.schedule.epochs=20", "student.schedule.epochs=1"),
    StandIn("docs/training.md", "run.toml --logger csv", "run.toml --out runs/logged --logger csv"),
    StandIn("docs/archive.md", "range(60)", "range(2)"),
    StandIn("docs/archive.md", "--workers 4", "--workers 1"),
    StandIn("docs/performance.md", "--threads 2 --out bench", "--seconds 0 --out bench"),
    StandIn("docs/performance.md", "median:10%", "median:100000%"),
    StandIn("docs/series.md", "--part crops --part elsewhere", "--part elsewhere --seeds 1"),
    # Ports that another test may hold.
    StandIn("", "esccs-edge serve", "esccs-edge serve --port 0"),
    StandIn("docs/service.md", "--port 8000", ""),
    StandIn("docs/service.md", "127.0.0.1:8000", "127.0.0.1:$PORT"),
]  # fmt: skip

INSTALLS = "installs packages from the network"
CI = "what CI itself runs, or longer"
HOURS = "an hour and more of training on the whole sample data"
NOWHERE = "names a catalog that does not exist"
DOCKER = "needs a Docker daemon"
BOARD = "needs a Jetson"
GPU = "needs an NVIDIA GPU"
NOT_RUN = [
    NotRun("README.md", "make demo", INSTALLS),
    NotRun("README.md", "make test", CI),
    NotRun("", "pip install", INSTALLS),
    NotRun("docs/archive.md", 'esccs-edge map --catalog "https://', NOWHERE),
    NotRun("docs/contributing.md", "make ", CI),
    NotRun("docs/crop-series-card.md", "make crop-series", HOURS),
    NotRun("docs/land-cover-card.md", "make land-cover", HOURS),
    NotRun("docs/model-card.md", "make model", HOURS),
    NotRun("docs/docker.md", "docker ", DOCKER),
    NotRun("docs/docker.md", "pipx run cibuildwheel", DOCKER),
    NotRun("docs/hardware/README.md", "", GPU),
    NotRun("docs/jetson.md", "sudo ", BOARD),
    NotRun("docs/jetson.md", "export PATH=", BOARD),
    NotRun("docs/jetson.md", "python3 -m venv", BOARD),
    NotRun("docs/jetson.md", ". ~/esccs", BOARD),
    NotRun("docs/jetson.md", "git clone", BOARD),
    NotRun("docs/jetson.md", "cd ~ && esccs-edge doctor", BOARD),
    NotRun("docs/jetson.md", "pip wheel", BOARD),
    NotRun("docs/jetson.md", "python3 -m zipfile", BOARD),
    NotRun("docs/jetson.md", "esccs-edge build", GPU),
    NotRun("docs/jetson.md", "esccs-edge bench", GPU),
    NotRun("docs/performance.md", "make bench", CI),
    NotRun("docs/performance.md", "pytest tests/benchmarks", CI),
    NotRun("docs/performance.md", "python docs/pareto.py", HOURS),
    NotRun("docs/series.md", "python -m benchmarks.series_speed", CI),
    NotRun("docs/reliability.md", "", CI),
    NotRun("docs/soak.md", "", CI),
]  # fmt: skip


def blocks(language: str, text: str) -> list[str]:
    """Return the fenced blocks of a page."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def steps(block: str) -> Iterator[str]:
    """Yield the commands of a block, without comments: continued lines and here-documents whole."""
    lines = iter(block.replace("\\\n", " ").splitlines())
    for line in lines:
        if here := re.search(r"<<'(\w+)'", line):
            whole = [line]
            for inner in lines:
                whole.append(inner)
                if inner == here[1]:
                    break
            yield "\n".join(whole)
        elif bare := re.sub(r"(^|\s+)#\s.*", "", line).strip():
            yield bare


def reason_not_to_run(page: str, step: str) -> str:
    """Return why a step is not run; empty where it is."""
    return next(
        (row.reason for row in NOT_RUN if row.page in ("", page) and step.startswith(row.line)), ""
    )


def stood_in(page: str, step: str) -> tuple[str, list[StandIn]]:
    """Return what is run in place of a step, and the rows that it used."""
    used = []
    for row in STAND_INS:
        if row.page in ("", page) and row.said in step:
            step = step.replace(row.said, row.run)
            used.append(row)
    return step, used
