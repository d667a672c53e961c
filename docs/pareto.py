"""Which size of the student is worth its time? Accuracy against INT8 latency, with a picture.

Trains one student per size with the recipe of a configuration file; teacher and auxiliaries are
trained once and shared. Each student is exported and calibrated, its INT8 graph judged on the
*validation* pairs with simulated clouds (sizes are chosen here, so the test pairs stay unseen) and
then timed on the CPU, all sizes in turns. What is finished is not done again.

    python docs/pareto.py CONFIG.toml DATA OUT [clouds.textures=FOLDER] [student.schedule.epochs=60]
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from esccs_edge import Bundle, Classifier
from esccs_edge.calibration.budget import Budget
from esccs_edge.calibration.quantize import quantize_student
from esccs_edge.cli.training_options import training_options
from esccs_edge.contracts.bundle_files import INT8_ONNX, STUDENT_ONNX
from esccs_edge.export.to_onnx import export_student
from esccs_edge.pixels.synthetic import random_samples
from esccs_edge.training.datasets import open_dataset
from esccs_edge.training.judging.evaluate import evaluate
from esccs_edge.training.run import OPTIONS_NAME, train
from esccs_edge.training.scene_options import EncoderOptions, TrainOptions

#: Optical and SAR branch of every size. Two reparameterized blocks have as many 3 x 3 convolutions
#: as one residual block.
SIZES = {
    f"w{width} s{stride}{f'/{sar_stride}' * (sar_stride != stride)} "
    f"{'+'.join(map(str, blocks))}{' rep' * (block != 'residual')}": (
        EncoderOptions(width, blocks, stride, block),
        EncoderOptions(max(8, width * 4 // 7), blocks, sar_stride, block),
    )
    for block, width, stride, sar_stride, blocks in (
        ("residual", 14, 4, 4, (1, 1, 1)),
        ("residual", 28, 4, 4, (1, 1, 1)),
        ("residual", 28, 2, 2, (1, 1, 1)),
        ("residual", 28, 4, 2, (1, 1, 1)),
        ("reparameterized", 28, 4, 2, (2, 2, 2)),
        ("residual", 28, 4, 2, (1, 1)),
    )
}
SHARED = ("teacher", "sar-auxiliary", "optical-auxiliary")
#: INT8 may cost anything here: what it costs is what is looked for.
ANY_COST = Budget(max_loss=100.0, min_agreement=0.0)
CLOUDS_SEED = 1
ROUNDS = 15


def main(config: str, data: str, out: Path, assignments: list[str]) -> None:
    """Train what is missing, judge, time, draw."""
    options = training_options(Path(config), {"data": data}, tuple(assignments))
    bundles = {name: trained(name, options, out) for name in SIZES}
    dataset = open_dataset(data, options.seed)
    rows = [judged(name, bundle, dataset) for name, bundle in bundles.items()]
    for row, times in zip(rows, timed(list(bundles.values())), strict=True):
        row |= times
    (out / "pareto.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    draw(rows, out / "pareto.png")
    print(table(rows))


def trained(name: str, options: TrainOptions, out: Path) -> Bundle:
    """Return the INT8 bundle of one size."""
    folder = out / name.replace(" ", "-").replace("/", "-")
    finished = folder / "bundle"
    if not (finished / INT8_ONNX).is_file():
        shared = out / "shared"
        if shared.is_dir() and not folder.is_dir():
            shutil.copytree(shared, folder / "checkpoints")
        optical, sar = SIZES[name]
        student = replace(options.student, optical=optical, sar=sar)
        run = options.evolve(student=student, out=str(folder))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / OPTIONS_NAME).write_text(json.dumps(run.as_dict()), encoding="utf-8")
        train(run, resume=True)
        if not shared.is_dir():
            shared.mkdir()
            for stage in SHARED:
                shutil.copy(folder / "checkpoints" / f"{stage}.safetensors", shared)
        export_student(Bundle.open(finished))
        quantize_student(Bundle.open(finished), folder / "heldout" / "index.csv", budget=ANY_COST)
    return Bundle.open(finished)


def judged(name: str, bundle: Bundle, dataset: Any) -> dict[str, Any]:
    """Accuracy of the INT8 graph on the validation pairs, clear and by cloud; sizes in bytes."""
    with Classifier(bundle, backend="cpu") as classifier:
        cloudy = evaluate(classifier, dataset, split="val", clouds_seeds=[CLOUDS_SEED])
        clear = evaluate(classifier, dataset, split="val")
    quantized = bundle.manifest.quantization or {}
    sizes = {n: len(bundle.read(n)) for n in (STUDENT_ONNX, INT8_ONNX)}
    return {
        "size": name,
        "clouds": cloudy["overall"]["balanced_accuracy"],
        "cloudiest": cloudy["by_cloud"]["80-100"]["balanced_accuracy"],
        "clear": clear["overall"]["balanced_accuracy"],
        "label_agreement": quantized.get("label_agreement"),
        "int8_loss": _loss(quantized),
        "fp32_bytes": sizes[STUDENT_ONNX],
        "int8_bytes": sizes[INT8_ONNX],
    }


def timed(bundles: list[Bundle]) -> list[dict[str, float]]:
    """Median milliseconds of one pair and pairs per second of 32, the bundles in turns."""
    opened = [Classifier(bundle, backend="cpu", max_batch=32) for bundle in bundles]
    samples: list[list[tuple[float, float]]] = [[] for _ in bundles]
    try:
        pairs = random_samples(opened[0].manifest, 32)
        opticals, sars = [p.pixels["optical"] for p in pairs], [p.pixels["sar"] for p in pairs]
        for classifier in opened:
            classifier.warmup()
        for _ in range(ROUNDS):
            for classifier, found in zip(opened, samples, strict=True):
                start = time.perf_counter()
                for _ in range(10):
                    classifier.classify(opticals[0], sars[0])
                middle = time.perf_counter()
                classifier.classify_batch(opticals, sars)
                found.append(((middle - start) / 10, time.perf_counter() - middle))
    finally:
        for classifier in opened:
            classifier.close()
    medians = [np.median(np.array(found), axis=0) for found in samples]
    return [{"one_ms": 1e3 * one, "pairs_per_s": 32 / batch} for one, batch in medians]


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw accuracy under clouds against the time of 32 pairs; the front is joined."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    x = np.array([1e3 / row["pairs_per_s"] for row in rows])
    y = np.array([row["clouds"] for row in rows])
    order = np.argsort(x)
    front = [k for rank, k in enumerate(order) if y[k] > max(y[order[:rank]], default=0.0)]
    axes.plot(x[front], y[front], color="C0", linewidth=1, zorder=1)
    axes.scatter(x, y, color=["C0" if k in front else "0.6" for k in range(len(rows))], zorder=2)
    for row, here, there in zip(rows, x, y, strict=True):
        axes.annotate(row["size"], (here, there), (4, 4), textcoords="offset points", fontsize=7)
    axes.set_xlabel("milliseconds per pair, INT8, batches of 32")
    axes.set_ylabel("balanced accuracy, validation, all cloud bins")
    axes.set_title(
        "SAR and clouds are simulated; w width, s stride of the stem (optical/SAR), blocks",
        fontsize=9,
    )
    figure.savefig(path, dpi=120)
    plt.close(figure)


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as Markdown."""
    lines = [
        "| size | all clouds | 80-100 % | clear | INT8 costs | same labels "
        "| one pair | pairs/s | INT8 kB |",
        "|" + "---|" * 9,
    ]
    lines += [
        f"| {r['size']} | {r['clouds']:.3f} | {r['cloudiest']:.3f} | {r['clear']:.3f} | "
        f"{r['int8_loss']:+.2f} points | {r['label_agreement']:.1%} | {r['one_ms']:.2f} ms | "
        f"{r['pairs_per_s']:.0f} | {r['int8_bytes'] / 1e3:.0f} |"
        for r in rows
    ]
    return "\n".join(lines)


def _loss(quantized: dict[str, Any]) -> float:
    balanced = quantized.get("balanced_accuracy", {})
    return 100 * (balanced.get("fp32", float("nan")) - balanced.get("int8", float("nan")))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4:])
