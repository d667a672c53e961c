"""How a command that answers runs its model: the same seven options, passed on as one value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import reduce, wraps
from typing import TYPE_CHECKING, Any

from ..contracts.bundle_files import Precision
from .options import (
    backend_option,
    baseline_option,
    bundle_option,
    device_option,
    dn_offset_of,
    flavor_option,
    open_bundle,
    precision_option,
    sar_unit_option,
)

if TYPE_CHECKING:
    from ..backends.device_choice import FlavorChoice
    from ..contracts.bundle import Bundle
    from ..contracts.manifest import Manifest
    from ..runtime.model import ModelRuntime

_OPTIONS = (
    bundle_option,
    backend_option,
    precision_option,
    device_option,
    flavor_option,
    baseline_option,
    sar_unit_option,
)


@dataclass(frozen=True)
class ModelOptions:
    """Values of the options that `model_options` adds.

    Attributes:
        bundle: ``--bundle``.
        backend: ``--backend``.
        precision: ``--precision``.
        device: ``--device``.
        flavor: ``--flavor``.
        baseline: ``--baseline``.
        sar_unit: ``--sar-unit``.
    """

    bundle: str
    backend: str
    precision: Precision
    device: str | None
    flavor: FlavorChoice | None
    baseline: str | None
    sar_unit: str | None

    @property
    def dn_offset(self) -> int | None:
        """What to add to digital numbers, or None to follow the manifest."""
        return dn_offset_of(self.baseline)

    @property
    def how_it_runs(self) -> str:
        """What answers may depend on beside the bundle and the pixels."""
        return f"{self.backend} {self.precision} {self.device} {self.flavor}"

    def open_bundle(self) -> Bundle:
        """Open the bundle under the digest that was given."""
        return open_bundle(self.bundle)

    def as_stored(self, manifest: Manifest) -> Manifest:
        """Return the contract for pixels that are stored as the options say."""
        from ..contracts.stored_units import as_stored

        return as_stored(manifest, dn_offset=self.dn_offset, sar_unit=self.sar_unit)

    def open_model(self, opened: Bundle, manifest: Manifest, **others: Any) -> ModelRuntime[Any]:
        """Open a model that obeys a contract; see `esccs_edge.any_task.open_model`."""
        from ..any_task import open_model

        return open_model(
            opened,
            self.backend,
            precision=self.precision,
            device=self.device,
            flavor=self.flavor,
            manifest=manifest,
            **others,
        )


def model_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of `ModelOptions`, which the command takes as its parameter ``model``."""
    names = [field.name for field in fields(ModelOptions)]

    @wraps(function)
    def gathered(**given: Any) -> Any:
        model = ModelOptions(**{name: given.pop(name) for name in names})
        return function(model=model, **given)

    return reduce(lambda made, option: option(made), reversed(_OPTIONS), gathered)
