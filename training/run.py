"""A whole training run: data in, bundle out.

`RUN/` gets ``options.json``, ``checkpoints/`` and ``logs/`` while it runs, then ``heldout/``,
``metrics.json`` and, last, ``bundle/``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from esccs_edge.contracts.bundle import Bundle
from esccs_edge.contracts.bundle_files import MANIFEST
from esccs_edge.contracts.manifest import Manifest
from esccs_edge.contracts.modality import SampleSpec
from esccs_edge.errors import InputError
from esccs_edge.system.atomic import write_atomic

from .datasets import open_source
from .judging.heldout import write_heldout
from .judging.judge import bimodal, has_labels, held_out, judge, unimodal
from .options import TrainOptions
from .provenance import architecture, provenance
from .stages.chain import Chain

OPTIONS_NAME = "options.json"
METRICS_NAME = "metrics.json"
WEIGHTS_NAME = "student.safetensors"


def train(options: TrainOptions, *, resume: bool = False) -> Bundle:
    """Train teacher, auxiliaries and student; write the bundle.

    Args:
        options: The run; ``data`` and ``out`` must be given.
        resume: Go on in an existing run folder: finished steps are loaded, a step that was
            killed goes on after its last finished epoch and gives the same numbers as a run
            that was not.

    Returns:
        The bundle in ``out/bundle``, with ``student.safetensors``; export adds the rest.

    Raises:
        InputError: ``data`` or ``out`` is missing, the folder holds another run, or the data
            cannot be trained on.
    """
    if not options.data or not options.out:
        raise InputError("data and out are not both given", hint="Pass --data SOURCE and --out DIR")
    folder = Path(options.out)
    _check_folder(folder, options, resume)
    if (folder / "bundle" / MANIFEST).is_file():
        return Bundle.open(folder / "bundle")
    if options.threads:
        torch.set_num_threads(options.threads)
    source = open_source(options.data, options.seed)
    chain = Chain(options, source, folder)
    write_atomic(folder / OPTIONS_NAME, _options_text(options))
    student = chain.student
    metrics, temperature = measure(chain)
    write_atomic(folder / METRICS_NAME, json.dumps(metrics, indent=2) + "\n")
    write_heldout(
        folder / "heldout", source, simulate=options.clouds.simulate, textures=chain.textures,
        seed=options.seed,
    )  # fmt: skip
    weights = {name: value.contiguous() for name, value in student.state_dict().items()}
    manifest = Manifest(
        name=options.name,
        classes=source.classes,
        modalities={"optical": chain.optical_spec, "sar": chain.sar_spec},
        sample=SampleSpec(chain.patch_size, chain.patch_size, options.pixel_size_m),
        architecture=architecture(chain),
        temperature=temperature,
        provenance=provenance(chain, metrics),
    )
    return Bundle.create(folder / "bundle", manifest, {WEIGHTS_NAME: save(weights)})


def measure(chain: Chain) -> tuple[dict[str, Any], float]:
    """Fit the student's temperature on the validation split and judge all networks.

    Returns:
        ``{split: {network: {overall, by_cloud}}, "pseudo_labels": {...}}`` and the temperature;
        1 where there is no labeled validation pair.
    """
    temperature = 1.0
    metrics: dict[str, Any] = {"pseudo_labels": chain.pseudo_labels[1]}
    for split in ("val", "test"):
        if not has_labels(chain, split):
            continue
        if split == "val":
            both = [*held_out(chain, split, clear=True), *held_out(chain, split)]
            temperature = judge(bimodal(chain.student), both).temperature()
        metrics[split] = _judge_all(chain, split, temperature)
    return metrics, temperature


def _judge_all(chain: Chain, split: str, temperature: float) -> dict[str, Any]:
    clear, cloudy = held_out(chain, split, clear=True), held_out(chain, split)
    student, optical, sar = chain.student, chain.optical_auxiliary, chain.sar_auxiliary
    optical_only = bimodal(student, use_sar=False)
    asked: dict[str, tuple[Callable[..., Any], Any]] = {
        "teacher on clear images": (unimodal(chain.teacher, "clear"), clear),
        "source-only": (unimodal(chain.teacher, "optical"), cloudy),
        "optical auxiliary on clear images": (unimodal(optical, "optical"), clear),
        "optical auxiliary": (unimodal(optical, "optical"), cloudy),
        "SAR auxiliary": (unimodal(sar, "sar"), clear),
        "student on clear images": (bimodal(student), clear),
        "student": (bimodal(student), cloudy),
        "student, optical only, on clear images": (optical_only, clear),
        "student, optical only": (optical_only, cloudy),
        "student, SAR only": (bimodal(student, use_optical=False), clear),
    }
    reports = {}
    for name, (predict, parts) in asked.items():
        answers = judge(predict, parts)
        if name.startswith("student"):
            answers = answers.tempered(temperature)
        reports[name] = answers.report()
    return reports


def _options_text(options: TrainOptions) -> str:
    return json.dumps(options.as_dict(), indent=2) + "\n"


def _check_folder(folder: Path, options: TrainOptions, resume: bool) -> None:
    """Refuse to mix two runs in one folder."""
    record = folder / OPTIONS_NAME
    if not record.is_file():
        if folder.is_dir() and any(folder.iterdir()):
            raise InputError(f"{folder} is not empty and holds no run", hint="Give a new folder")
        return
    if not resume:
        raise InputError(f"{folder} already holds a run", hint="Add --resume or give a new folder")
    before = json.loads(record.read_text(encoding="utf-8"))
    now = json.loads(_options_text(options))
    changed = sorted(k for k in now if k not in ("data", "out") and before.get(k) != now[k])
    if changed:
        raise InputError(
            f"the run in {folder} was started with other options: {', '.join(changed)}",
            hint="Resume with the same options, or give a new folder",
        )
