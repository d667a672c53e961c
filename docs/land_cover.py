"""Write the data that the land cover model in the package learns from.

EuroSAT patches side by side (SAR simulated), and real triplets whose clear images a patch
classifier labeled; see `training.datasets.pixel_labels`. `make land-cover` calls it.

    python docs/land_cover.py --eurosat FOLDER --triplets FILE.npz --bundle default --out FOLDER
"""

from __future__ import annotations

import argparse
from itertools import chain
from pathlib import Path

from esccs_edge import Classifier
from esccs_edge.training.datasets.eurosat import open_eurosat
from esccs_edge.training.datasets.pixel_labels import labeled_triplets, mosaics
from esccs_edge.training.datasets.sen12ms_cr import open_sen12ms_cr
from esccs_edge.training.datasets.stored_samples import write_samples


def main() -> None:
    """Write ``index.csv`` and its files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--eurosat", required=True)
    parser.add_argument("--triplets", required=True)
    parser.add_argument("--bundle", default="default", help="the patch classifier")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    with Classifier(given.bundle, backend="cpu") as classifier:
        scenes = chain(
            mosaics(open_eurosat(given.eurosat)),
            labeled_triplets(classifier, open_sen12ms_cr(given.triplets)),
        )
        print(write_samples(given.out, ("optical", "sar"), scenes))


if __name__ == "__main__":
    main()
