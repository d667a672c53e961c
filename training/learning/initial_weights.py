"""Weights that a run starts at: those of a bundle trained before, on other data or classes.

What is drawn per class starts anew for classes that the bundle does not know; a class of the same
name keeps its weights wherever it stands in the list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from safetensors.torch import load
from torch import Tensor, nn

from esccs_edge.contracts.bundle import Bundle
from esccs_edge.contracts.bundle_files import STUDENT_WEIGHTS
from esccs_edge.contracts.manifest import Manifest
from esccs_edge.contracts.modality import Modalities, ModalitySpec
from esccs_edge.errors import InputError

#: What of a modality's contract says what the numbers are; the weights hold for no others.
_NUMBERS = ("channels", "unit", "dn_scale", "dn_offset", "nodata", "clip")


@dataclass(frozen=True)
class InitialWeights:
    """The student of a bundle, and which of its weights belong to classes.

    Attributes:
        bundle: Where they come from.
        tensors: Its weights by name.
        class_axes: Name -> axis along which a tensor has one entry per class.
        classes: Of the run that starts here.
    """

    bundle: Bundle
    tensors: Mapping[str, Tensor]
    class_axes: Mapping[str, int]
    classes: tuple[str, ...]

    @classmethod
    def read(
        cls, path: str, manifest: Manifest, network: Callable[[Manifest], nn.Module]
    ) -> InitialWeights:
        """Read the weights of a bundle for a run.

        Args:
            path: Folder of the bundle.
            manifest: Contract of the run as its data ask for it.
            network: Builds the network of a contract; see `LearningTask.network`.

        Raises:
            InputError: The bundle has no weights, does another task, reads other numbers, or its
                network has other sizes.
        """
        bundle = Bundle.open(path)
        _require_same(bundle, manifest)
        tensors = load(bundle.read(STUDENT_WEIGHTS))
        before = manifest.evolve(classes=bundle.manifest.classes, familiarity={})
        more = before.evolve(classes=(*before.classes, "one more"))
        wider = network(more).state_dict()
        axes = {}
        for name, value in network(before).state_dict().items():
            if name not in tensors or tensors[name].shape != value.shape:
                found = tuple(tensors[name].shape) if name in tensors else "missing"
                raise InputError(
                    f"{path}: the tensor {name} is {found}, expected {tuple(value.shape)}",
                    hint="Give the sizes that this bundle was trained with",
                )
            if value.shape != wider[name].shape:
                sizes = zip(value.shape, wider[name].shape, strict=True)
                axes[name] = next(i for i, (less, more) in enumerate(sizes) if less != more)
        return cls(bundle, tensors, axes, manifest.classes)

    def modalities(self, measured: Modalities) -> dict[str, ModalitySpec]:
        """Return the contracts of a run, normalized as the weights are used to."""
        known = self.bundle.manifest.modalities
        return {
            name: replace(spec, mean=known[name].mean, std=known[name].std)
            for name, spec in measured.items()
        }

    def start(self, net: nn.Module, parts: Mapping[str, str] | None = None) -> bool:
        """Set the weights of a network; those it has beside ours stay as they were drawn.

        Args:
            net: The student, or a network that shares parts with it.
            parts: Its prefixes of names -> ours, such as ``{"encoder.": "optical."}``; None: the
                student.

        Returns:
            Whether it started here: False, and nothing was set, where sizes differ.
        """
        own = net.state_dict()
        if parts is None:
            sources = {name: name for name in own if name in self.tensors}
        else:
            sources = {
                name: theirs + name.removeprefix(ours)
                for name in own
                for ours, theirs in parts.items()
                if name.startswith(ours)
            }
        placed = {name: self._placed(source, own[name]) for name, source in sources.items()}
        if not placed or any(value is None for value in placed.values()):
            return False
        net.load_state_dict({**own, **placed})
        return True

    def described(self) -> dict[str, Any]:
        """Return what the provenance of the run says."""
        manifest = self.bundle.manifest
        return {
            "name": manifest.name,
            "digest": self.bundle.digest,
            "data": manifest.provenance.get("data", {}).get("name", "not known"),
            "classes_kept": [name for name in self.classes if name in manifest.classes],
        }

    def _placed(self, name: str, drawn: Tensor) -> Tensor | None:
        value = self.tensors.get(name)
        if value is None or name not in self.class_axes:
            return value if value is not None and value.shape == drawn.shape else None
        axis, known = self.class_axes[name], self.bundle.manifest.classes
        kept = [(k, known.index(c)) for k, c in enumerate(self.classes) if c in known]
        placed = drawn.clone()
        for ours, theirs in kept:
            placed.select(axis, ours).copy_(value.select(axis, theirs))
        return placed


def _require_same(bundle: Bundle, manifest: Manifest) -> None:
    known, where = bundle.manifest, str(bundle.folder)
    if STUDENT_WEIGHTS not in known.files:
        raise InputError(
            f"{where} has no {STUDENT_WEIGHTS}, expected the weights that training goes on from",
            hint="Give the bundle of a training run, RUN/bundle; one made for devices, as the one "
            "in the package, goes without them",
        )
    if known.task != manifest.task:
        raise InputError(
            f"{where} does {known.task}, expected {manifest.task}", hint=f"Add --task {known.task}"
        )
    for what, found, expected in (
        ("modalities", list(known.modalities), list(manifest.modalities)),
        ("architecture", _plain(known.architecture), _plain(manifest.architecture)),
    ):
        if found != expected:
            raise InputError(
                f"{what} of {where}: {found}, expected those of this run: {expected}",
                hint="Give this run the options that the bundle was trained with; "
                "`esccs-edge inspect` prints them",
            )
    for name, spec in manifest.modalities.items():
        for field in _NUMBERS:
            found, expected = getattr(known.modalities[name], field), getattr(spec, field)
            if found != expected:
                raise InputError(
                    f"{where} reads {name} with {field} {found}, expected {expected} as in the "
                    "data of this run",
                    hint="Bring the data to what the bundle reads, or train without --init",
                )


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
