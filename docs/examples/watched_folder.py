"""Watch a folder and classify each new pair of files, read by several threads.

A pair is ``NAME_s2.tif`` and ``NAME_s1.tif`` (or ``.npy``), the latter optional, of the size that
the model takes. Each becomes one line of JSON: the answer, or the error with its code and hint.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from esccs_edge import Classifier, EsccsError, Overloaded, example_pair, read_sample


def new_pairs(folder: Path, known: set[str]) -> Iterator[str]:
    """Yield names that were not there at an earlier look.

    Writers should give a file its name when it is whole, the optical one last.
    """
    for path in sorted(folder.glob("*_s2.*")):
        name = path.name.partition("_s2.")[0]
        if name not in known:
            known.add(name)
            yield name


def judged(classifier: Classifier, folder: Path, name: str) -> dict[str, Any]:
    """Read a pair and return its answer in JSON form; runs in a thread of the pool."""
    manifest = classifier.manifest
    paths = {
        modality: next(folder.glob(f"{name}_{sensor}.*"), None)
        for modality, sensor in (("optical", "s2"), ("sar", "s1"))
    }
    try:  # both on one grid, of the model's pixel size and bands, or an error
        pixels = read_sample(paths, manifest.modalities, manifest.sample.pixel_size_m)
        try:
            answer = classifier.submit(**pixels, deadline_ms=5000).result()
        except Overloaded:  # the queue is full: answer it in this thread
            answer = classifier.classify(**pixels)
    except EsccsError as error:
        return {"name": name, "code": error.code, "message": error.message, "hint": error.hint}
    return {"name": name, **answer.to_dict()}


def main() -> None:
    """Classify what lies in a folder of three pairs, one of them broken; look twice."""
    pair = example_pair()
    with tempfile.TemporaryDirectory() as inbox, Classifier() as classifier:
        folder, known = Path(inbox), set[str]()
        for name, optical in (("a", pair.optical), ("b", pair.optical[:12]), ("c", pair.optical)):
            np.save(folder / f"{name}_s2.npy", optical)
            np.save(folder / f"{name}_s1.npy", pair.sar)
        (folder / "c_s1.npy").unlink()
        classifier.warmup()
        with ThreadPoolExecutor(4) as pool:
            for _ in range(2):  # for ever, with `time.sleep` between
                names = list(new_pairs(folder, known))
                for line in pool.map(lambda name: judged(classifier, folder, name), names):
                    print(json.dumps(line))


if __name__ == "__main__":
    main()
