"""A whole training run: data in, bundle out.

`RUN/` gets ``options.json``, ``checkpoints/`` and ``logs/`` while it runs, then ``heldout/``,
``metrics.json`` and, last, ``bundle/``.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save

from esccs_edge.contracts.bundle import Bundle
from esccs_edge.contracts.bundle_files import MANIFEST, STUDENT_WEIGHTS
from esccs_edge.contracts.manifest import Manifest
from esccs_edge.errors import InputError
from esccs_edge.system.atomic import write_atomic
from esccs_edge.system.working_folder import remove_ownerless

from .datasets.dataset import Dataset
from .datasets.stored_samples import write_samples
from .kept_files import kept_json
from .learning.initial_weights import InitialWeights
from .learning.own_teacher import Teacher
from .learning.tasks import learning_task
from .options import RunOptions
from .options_file import changed_options
from .provenance import provenance
from .run_folder import own_run_folder
from .scene_options import TrainOptions
from .stages.trainer import check_trainer

OPTIONS_NAME = "options.json"
METRICS_NAME = "metrics.json"


def train(
    options: RunOptions,
    *,
    dataset: Dataset | None = None,
    teacher: Teacher | None = None,
    resume: bool = False,
) -> Bundle:
    """Train all stages of a task; write the bundle of its student.

    Args:
        options: The run; ``out`` must be given, and ``data`` unless ``dataset`` is.
        dataset: Your data in place of what ``options.data`` names: a `PairDataset`, `MapDataset`
            or `SeriesDataset` after the task, such as a `MemoryDataset` of arrays
            (`training.datasets`).
        teacher: Teaches in place of one that the run trains: any callable from physical pixels to
            logits, see `learning.own_teacher.Teacher`. Scene classification takes one. Commands
            name its factory instead: ``options.teacher.factory``, ``--teacher``.
        resume: Go on in an existing run folder: finished stages are loaded, a stage that was
            killed goes on after its last finished epoch and gives the same numbers as a run
            that was not.

    Returns:
        The bundle in ``out/bundle``, with ``student.safetensors``; export adds the rest.

    Raises:
        InputError: ``data`` or ``out`` is missing, the folder holds another run or another process
            is at work in it, the task is not known or takes no teacher, the data cannot be
            trained on, the run cannot start at ``init``, or its device or logger cannot be had.
        ManifestError: No model of the task can be run, or not on this data.
    """
    if dataset is not None:
        options = options.evolve(data=options.data or dataset.name)
    if not options.data or not options.out:
        raise InputError("data and out are not both given", hint="Pass --data SOURCE and --out DIR")
    folder = Path(options.out)
    options = _stating(options, teacher)
    with own_run_folder(folder):
        return _train_in(folder, options, dataset, teacher, resume)


def _stating(options: RunOptions, teacher: Teacher | None) -> RunOptions:
    """Return options that state which teacher was brought, so that none else takes its place."""
    if teacher is None:
        return options
    if not isinstance(options, TrainOptions):
        raise InputError(
            f"the task {options.task!r} trains its own teacher, and one was given",
            hint="Leave the teacher out, or train a scene classification",
        )
    kind = teacher if inspect.isroutine(teacher) else type(teacher)
    words = f"object {kind.__module__}.{kind.__qualname__}"
    return options.evolve(teacher=replace(options.teacher, factory=words))


def _train_in(
    folder: Path,
    options: RunOptions,
    dataset: Dataset | None,
    teacher: Teacher | None,
    resume: bool,
) -> Bundle:
    check_folder(folder, options, resume=resume)
    if (folder / "bundle" / MANIFEST).is_file():
        return Bundle.open(folder / "bundle")
    if options.threads:
        torch.set_num_threads(options.threads)
    check_trainer(options)
    task = learning_task(options.task)
    found = task.open_data(options) if dataset is None else dataset
    if not isinstance(found, task.data_class):
        raise InputError(
            f"dataset is a {type(found).__name__}, expected a {task.data_class.__name__}, which "
            f"the task {task.name!r} learns from"
        )
    brought = {} if teacher is None else {"teacher": teacher}  # `_stating` refused other tasks
    run = task.open(options, found, folder, **brought)
    simulated = task.simulated(run)
    announce_simulated(simulated)
    manifest = Manifest(  # before any work, since it may be refused
        name=options.name,
        classes=run.dataset.classes,
        modalities=run.modalities,
        sample=run.sample,
        task=task.name,
        architecture=task.architecture(options),
    )
    if options.init:
        initial = InitialWeights.read(options.init, manifest, task.network)
        run = replace(run, modalities=initial.modalities(run.modalities), initial=initial)
        manifest = manifest.evolve(modalities=run.modalities)
    write_atomic(folder / OPTIONS_NAME, json.dumps(options.as_dict(), indent=2) + "\n")
    networks = task.train(run)
    metrics, temperature = task.judge(run, networks)
    write_atomic(folder / METRICS_NAME, json.dumps(metrics, indent=2) + "\n")
    write_samples(folder / "heldout", tuple(run.modalities), task.held_out(run))
    manifest = manifest.evolve(
        temperature=temperature,
        familiarity=task.familiarity(run, networks),
        provenance=provenance(run, simulated, metrics),
    )
    weights = {name: value.contiguous() for name, value in networks.student.state_dict().items()}
    bundle = Bundle.create(folder / "bundle", manifest, {STUDENT_WEIGHTS: save(weights)})
    announce_simulated(simulated)
    return bundle


def announce_simulated(simulated: Mapping[str, str]) -> None:
    """Say on standard error what of the data is not real; nothing where all of it is."""
    for name, words in simulated.items():
        print(f"SIMULATED {name}: {words}", file=sys.stderr, flush=True)


def check_folder(folder: Path, options: RunOptions, *, resume: bool) -> None:
    """Refuse to mix two runs in one folder.

    Raises:
        InputError: It holds another run or other files, or one run and ``resume`` is false.
    """
    record = folder / OPTIONS_NAME
    remove_ownerless(folder)  # what a process left that was killed before its first file stood
    if not record.is_file():
        if folder.is_dir() and any(folder.iterdir()):
            raise InputError(f"{folder} is not empty and holds no run", hint="Give a new folder")
        return
    if not resume:
        raise InputError(f"{folder} already holds a run", hint="Add --resume or give a new folder")
    planned = kept_json(record, "Give a new folder")
    if changed := changed_options(planned, options):
        raise InputError(
            f"the run in {folder} was started with other options: {', '.join(changed)}",
            hint="Resume with the same options, or give a new folder",
        )
