"""Which faults are promised to do no harm, which test proves it, and what a run of them said.

A test says by `@pytest.mark.fault(ROW, ...)` what it proves; whether it passed stands in the report
of a run, which may be told in parts.

    pytest -m fault --junitxml=build/faults.xml
    python docs/reliability.py build/faults.xml [MORE.xml ...]
"""

from __future__ import annotations

import ast
import sys
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
TESTS = REPOSITORY / "tests"
PAGE = Path(__file__).with_name("reliability.md")

#: Chapter -> row -> (what goes wrong, what holds then).
FAULTS: Mapping[str, Mapping[int, tuple[str, str]]] = {
    "Arrays": {
        1: ("some pixels are NaN", "they count as absent and are flagged"),
        2: ("infinite or absurdly large pixels", "absent if infinite; else flagged or refused"),
        3: ("a patch without one valid pixel", "`NODATA`, and no network is run"),
        4: ("one modality is absent", "the other one answers; absent pixels cannot reach it"),
        5: ("both modalities are absent", "`NODATA`, and no network is run"),
        6: ("all pixels are equal", "an answer without a division by zero"),
        7: ("wrong number of bands", "refused, naming both numbers"),
        8: ("bands in another order", "names decide; without names unlikely orders are flagged"),
        9: ("channels last instead of first", "refused, with how to turn the array"),
        10: ("optical and SAR exchanged", "refused"),
        11: ("another height or width", "refused, with what cuts or maps it"),
        12: ("nothing to judge", "an empty patch is refused; no patches give no answers"),
        13: ("lists of different length", "refused"),
        14: ("any NumPy type", "cast if the values stay; otherwise refused"),
        15: ("digital numbers where reflectance is due", "refused, with the likely scale"),
        16: ("reflectance where digital numbers are due", "flagged or refused"),
        17: ("offset of the baseline missing or twice", "as told or tagged; otherwise flagged"),
        18: ("linear backscatter for dB, dB for linear", "refused, with the option that reads it"),
        19: ("logarithm of zero backscatter", "absent pixels"),
        20: ("VV and VH exchanged", "names decide; without names flagged"),
        21: ("bytes in foreign order", "the answer of the native array"),
        22: ("strided, reversed, broadcast arrays", "the answer of a plain copy"),
        23: ("read-only and mapped arrays", "read; no input is ever written to"),
        24: ("the caller overwrites an array after `submit`", "the answer is for what was there"),
        25: ("lists, masked arrays, tensors, DLPack", "read with their mask, or refused"),
        26: ("a buffer that is not aligned", "the answer of a plain copy"),
        27: ("more patches than fit a batch", "split in order; streams read a little ahead only"),
        28: ("output memory that does not fit", "refused untouched; answers are the caller's own"),
        29: ("the network answers NaN", "an error for that patch alone, never a class"),
        30: ("values beyond what the model has seen", "counted and flagged"),
    },
    "Rasters and scenes": {
        31: ("no file, a folder, a pipe, a device", "refused at once"),
        32: ("a file cut short", "an error, at every length tried"),
        33: ("flipped bits", "an answer or an error; TIFF has no checksum, so no detection"),
        34: ("a small file that declares a huge image", "refused before memory is taken"),
        35: ("another format behind `.tif`, addresses, GDAL's own paths", "refused"),
        36: ("rasters on two grids", "refused, naming both; nothing is resampled in silence"),
        37: ("rasters shifted by part of a pixel", "refused beyond rounding"),
        38: ("rotated, south-up, placed by points only", "refused"),
        39: ("rasters that overlap in part or not", "refused"),
        40: ("nodata untagged, NaN, per band, out of range", "absent as documented, or flagged"),
        41: ("scenes of any size", "each pixel is written once, as a plain loop would"),
        42: ("very large scenes", "memory does not grow with the height"),
        43: ("masks, tags of scale, complex numbers, palettes", "honored, or refused"),
        44: ("an input that changes while it is read", "an error and no map"),
        45: ("an output that exists, or is an input", "kept; inputs even with `--overwrite`"),
        46: ("disk full, or a write lost", "an error; the old map stays, nothing is left over"),
        47: ("a process killed while it maps", "old files stay; `--resume` gives equal bytes"),
        48: ("tags that lie", "read or refused, in bounded time and memory"),
        49: ("a baseline against the metadata", "refused"),
    },
    "Models, caches, disks": {
        50: ("a manifest that is damaged, hostile or huge", "refused with its reason, size first"),
        51: ("paths out of a bundle, links", "refused"),
        52: ("one bit of a model differs", "refused before any parser runs"),
        53: ("a model with other inputs or classes", "refused when it is loaded"),
        54: ("a model that refers to other files", "refused, however it is spelled"),
        55: ("operators, loops or sizes that exhaust", "refused before they are compiled"),
        56: ("pickled objects in a raster", "refused; nothing is ever unpickled"),
        57: ("pickled objects in training data or checkpoints", "refused; no code of theirs runs"),
        58: ("weights with a hostile header", "refused, nothing is written"),
        59: ("a kept compiled model is damaged", "made anew, with one warning"),
        60: ("an engine of another GPU, version or power mode", "built anew"),
        61: ("killed at any step of an update", "the old content or the new; rests are swept"),
        62: ("power cut", "data is on the disk before its name, if the disk does not lie"),
        63: ("cache disk full or read-only", "one warning, and the run goes on"),
        64: ("many processes build one engine", "one builds, the others wait or go their own way"),
        65: ("a process dies with a lock", "the lock is free"),
        66: ("a build is interrupted or dies", "an error, nothing kept"),
        67: ("a cache folder of others, or open to them", "not used"),
        68: ("the clock jumps", "deadlines and sweeping do not depend on it"),
        69: ("the bundle of a running model is replaced", "it goes on with what it loaded"),
        70: ("a calibration of another model", "dropped or left out"),
    },
    "Threads, processes, devices": {
        71: ("many threads, slow backend", "a bounded queue; each request ends exactly once"),
        72: ("a deadline passes in the queue", "`DeadlineExceeded`, and it is not run"),
        73: ("a request is canceled", "as futures do; its place is free, others unharmed"),
        74: ("a callback raises, submits, waits", "no deadlock; others get their answers"),
        75: ("answers that nobody fetches", "memory is released"),
        76: ("a coroutine is canceled, loops come and go", "its request is canceled; no noise"),
        77: ("close under load, twice, use afterwards", "drained or canceled; then `ClosedError`"),
        78: ("fork with a live model", "`ForkedProcessError`; parent and child end well"),
        79: ("a model is copied or pickled", "a clear error"),
        80: ("Ctrl-C anywhere", "`KeyboardInterrupt`; the model is usable afterwards"),
        81: ("a command is told to end", "cleans up, says how to go on, ends by the signal"),
        82: ("the interpreter ends with work pending", "it is answered; no hang, no traceback"),
        83: ("libraries absent or broken", "import works; the error names what to install"),
        84: ("threads share a model", "the answers of one thread"),
        85: ("the backend hangs", "deadlines pass, close comes back, a watch fails what hangs"),
        86: ("GPU memory runs out (fake GPU)", "refused with what helps; others work on"),
        87: ("the GPU is lost (fake GPU)", "a reason for all, `restart` as remedy, no more calls"),
        88: ("a passing failure of the backend", "one second try, flagged"),
        89: ("backend and network disagree", "found by verification; NaN already at the start"),
        90: ("weights change", "`health()` turns red, a watch loads them anew, `verify` finds it"),
        91: ("the board is too hot", "answers carry `THROTTLED` where the kernel or NVML tells"),
        92: ("GPU memory is short (fake GPU)", "lanes beyond a budget are refused"),
        93: ("no thread or descriptor is left", "refused as overload, later taken"),
        94: ("any allocation fails", "an error of that call; the next call works"),
        95: ("streams closed or full", "answers unaffected; an answer lost is no success"),
        96: ("odd surroundings: umask, locale, home, names", "works, or a clear error"),
        97: ("long load with faults (seconds here)", "counts balance; memory, threads stay flat"),
    },
}  # fmt: skip
ROWS = {row: words for chapter in FAULTS.values() for row, words in chapter.items()}

Proofs = Mapping[int, list[str]]
_WORDS = {"passed": "passed", "failed": "FAILED", "": "not run here"}


def marked_tests(tests: Path = TESTS) -> Proofs:
    """Return row -> its tests as ``folder/file.py::name``, read from the sources.

    Reading them needs none of the packages that some tests import.
    """
    found = defaultdict(list)
    for path in sorted(tests.rglob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                for row in _rows(node):
                    found[row].append(f"{path.relative_to(tests).as_posix()}::{node.name}")
    return dict(found)


def _rows(test: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[int]:
    for mark in test.decorator_list:
        if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.fault":
            yield from map(ast.literal_eval, mark.args)


def outcomes(reports: Iterable[Path]) -> tuple[dict[str, str], str]:
    """Return test -> "passed" or "failed" of JUnit reports, and the day of the last one.

    A test that ran with several parameters passed if one of them ran and none failed; one that was
    skipped altogether is not named. Of a test in several reports the last one counts.
    """
    told: dict[str, str] = {}
    days = [""]
    for report in reports:
        suites = list(ElementTree.parse(report).iter("testsuite"))
        days += [suite.get("timestamp", "")[:10] for suite in suites]
        told |= _told_by(case for suite in suites for case in suite.iter("testcase"))
    return told, max(days)


def _told_by(cases: Iterable[ElementTree.Element]) -> dict[str, str]:
    told: dict[str, str] = {}
    for case in cases:
        file = case.get("classname", "").removeprefix("tests.").replace(".", "/")
        name = f"{file}.py::{case.get('name', '').partition('[')[0]}"
        if case.find("failure") is not None or case.find("error") is not None:
            told[name] = "failed"
        elif case.find("skipped") is None:
            told.setdefault(name, "passed")
    return told


def page(proofs: Proofs, told: Mapping[str, str], day: str) -> str:
    """Return the page."""
    counts = [[told.get(test, "") for test in proofs.get(row, [])] for row in ROWS]
    ran = sum(bool(row) and all(one == "passed" for one in row) for row in counts)
    lines = [
        "# Reliability",
        "",
        "What may go wrong, what holds then, and the test that proves it. Nothing here needs a",
        "GPU: rows of GPUs run on a driver and a TensorRT of our own that fail as told, and say",
        "nothing of a real device. Made by `docs/reliability.py` from the marks of the tests and",
        f"the reports of a run of {day}.",
        "",
        f"{len(ROWS)} faults, {sum(map(bool, counts))} with a test, {ran} of these passed whole in"
        " that run.",
        "",
        "```sh",
        "pytest -m fault --junitxml=build/faults.xml",
        "python docs/reliability.py build/faults.xml",
        "```",
    ]
    for chapter, rows in FAULTS.items():
        lines += ["", f"## {chapter}", "", "| row | fault | what holds | test | run |"]
        lines += ["|---|---|---|---|---|"]
        lines += [_line(row, *words, proofs.get(row, []), told) for row, words in rows.items()]
    return "\n".join(lines) + "\n"


def _line(row: int, fault: str, promise: str, tests: list[str], told: Mapping[str, str]) -> str:
    cells = "<br>".join(f"`{test}`" for test in tests) or "none"
    run = "<br>".join(_WORDS[told.get(test, "")] for test in tests) or "not automated"
    if len(set(run.split("<br>"))) == 1:
        run = run.split("<br>")[0]
    return f"| {row} | {fault} | {promise} | {cells} | {run} |"


if __name__ == "__main__":
    PAGE.write_text(page(marked_tests(), *outcomes(map(Path, sys.argv[1:]))), encoding="utf-8")
