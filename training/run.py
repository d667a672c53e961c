"""A whole training run: data in, bundle out.

`RUN/` gets ``options.json``, ``checkpoints/`` and ``logs/`` while it runs, then ``heldout/``,
``metrics.json`` and, last, ``bundle/``.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save

from esccs_edge.contracts.bundle import Bundle
from esccs_edge.contracts.bundle_files import MANIFEST, STUDENT_WEIGHTS
from esccs_edge.contracts.manifest import Manifest
from esccs_edge.errors import InputError
from esccs_edge.system.atomic import write_atomic

from .judging.heldout import write_heldout
from .learning.tasks import learning_task
from .options import RunOptions
from .options_file import changed_options
from .provenance import provenance

OPTIONS_NAME = "options.json"
METRICS_NAME = "metrics.json"


def train(options: RunOptions, *, resume: bool = False) -> Bundle:
    """Train all stages of a task; write the bundle of its student.

    Args:
        options: The run; ``data`` and ``out`` must be given.
        resume: Go on in an existing run folder: finished stages are loaded, a stage that was
            killed goes on after its last finished epoch and gives the same numbers as a run
            that was not.

    Returns:
        The bundle in ``out/bundle``, with ``student.safetensors``; export adds the rest.

    Raises:
        InputError: ``data`` or ``out`` is missing, the folder holds another run, the task is not
            known, or the data cannot be trained on.
        ManifestError: No model of the task can be run, or not on this data.
    """
    if not options.data or not options.out:
        raise InputError("data and out are not both given", hint="Pass --data SOURCE and --out DIR")
    folder = Path(options.out)
    check_folder(folder, options, resume=resume)
    if (folder / "bundle" / MANIFEST).is_file():
        return Bundle.open(folder / "bundle")
    if options.threads:
        torch.set_num_threads(options.threads)
    task = learning_task(options.task)
    run = task.open(options, folder)
    manifest = Manifest(  # before any work, since it may be refused
        name=options.name,
        classes=run.dataset.classes,
        modalities=run.modalities,
        sample=run.sample,
        task=task.name,
        architecture=task.architecture(options),
    )
    write_atomic(folder / OPTIONS_NAME, json.dumps(options.as_dict(), indent=2) + "\n")
    networks = task.train(run)
    metrics, temperature = task.judge(run, networks)
    write_atomic(folder / METRICS_NAME, json.dumps(metrics, indent=2) + "\n")
    write_heldout(folder / "heldout", tuple(run.modalities), task.held_out(run))
    manifest = manifest.evolve(
        temperature=temperature,
        familiarity=task.familiarity(run, networks),
        provenance=provenance(run, task.simulated(run), metrics),
    )
    weights = {name: value.contiguous() for name, value in networks.student.state_dict().items()}
    return Bundle.create(folder / "bundle", manifest, {STUDENT_WEIGHTS: save(weights)})


def check_folder(folder: Path, options: RunOptions, *, resume: bool) -> None:
    """Refuse to mix two runs in one folder.

    Raises:
        InputError: It holds another run or other files, or one run and ``resume`` is false.
    """
    record = folder / OPTIONS_NAME
    if not record.is_file():
        if folder.is_dir() and any(folder.iterdir()):
            raise InputError(f"{folder} is not empty and holds no run", hint="Give a new folder")
        return
    if not resume:
        raise InputError(f"{folder} already holds a run", hint="Add --resume or give a new folder")
    if changed := changed_options(json.loads(record.read_text(encoding="utf-8")), options):
        raise InputError(
            f"the run in {folder} was started with other options: {', '.join(changed)}",
            hint="Resume with the same options, or give a new folder",
        )
