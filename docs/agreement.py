"""How often does the answer on a cloudy image equal the answer on the clear image of the place?

Reads one real place from SEN12MS-CR (Sentinel-2 clear and cloudy, Sentinel-1; no labels), cuts it
into the bundle's patches and counts. There is no truth here: the clear answer stands in for it.

    python docs/agreement.py ../shared/data/sen12ms-cr/triplet [BUNDLE]
"""

from __future__ import annotations

import sys
from pathlib import Path

from esccs_edge import Classifier
from esccs_edge.rasters.reader import read_patch


def agreement(folder: Path, bundle: str) -> tuple[int, dict[str, int]]:
    """Return the tiles of the first place, and in how many the label is that of the clear image."""
    name = min(path.name for path in (folder / "s1").glob("*.tif"))
    with Classifier(bundle) as classifier:
        spec, size = classifier.manifest.modalities, classifier.manifest.sample.height
        clear = tiles(read_patch(folder / "s2_cloudfree" / name, spec["optical"]), size)
        cloudy = tiles(read_patch(folder / "s2_cloudy" / name, spec["optical"]), size)
        sar = tiles(read_patch(folder / "s1" / name, spec["sar"]), size)
        wanted = labels(classifier, clear, None)
        found = {
            "cloudy optical alone": labels(classifier, cloudy, None),
            "SAR alone": labels(classifier, None, sar),
            "cloudy optical + SAR": labels(classifier, cloudy, sar),
            "clear optical + SAR": labels(classifier, clear, sar),
        }
    return len(wanted), {
        inputs: sum(a == b for a, b in zip(wanted, answers, strict=True))
        for inputs, answers in found.items()
    }


def main(folder: Path, bundle: str) -> None:
    """Print the counts."""
    tiles, same = agreement(folder, bundle)
    print(f"{tiles} tiles; same label as clear optical alone:")
    for inputs, count in same.items():
        print(f"  {inputs:22s} {count:3d} of {tiles}")


def tiles(image, size: int) -> list:
    """Cut ``(C, H, W)`` into patches without overlap; what does not fill a patch is left out."""
    _, height, width = image.shape
    return [
        image[:, row : row + size, column : column + size]
        for row in range(0, height - size + 1, size)
        for column in range(0, width - size + 1, size)
    ]


def labels(classifier: Classifier, opticals: list | None, sars: list | None) -> list[str]:
    """Classify patches, of which one modality may be None throughout."""
    return [answer.label for answer in classifier.classify_batch(opticals, sars)]


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "default")
