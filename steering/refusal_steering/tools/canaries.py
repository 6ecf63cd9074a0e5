"""The boot canary of a bundle that a command writes, on the model of its option ``--model``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from refusal_steering.bundle import Canary, ModelIdentity
from refusal_steering.errors import BundleMismatchError
from refusal_steering.spec import SteeringSpec

if TYPE_CHECKING:
    from refusal_steering.calibration.model import CalibrationModel

WITHOUT_CANARY = (
    "no canary: the server refuses this bundle until it is written again with --model PATH"
)


def check_sizes(found: ModelIdentity, wanted: ModelIdentity) -> None:
    """Raise :class:`BundleMismatchError` unless the model at hand has the sizes of ``wanted``."""
    if (found.hidden_size, found.num_layers) != (wanted.hidden_size, wanted.num_layers):
        raise BundleMismatchError(
            f"the model {found.id} has hidden size {found.hidden_size} and {found.num_layers} "
            f"layers; the vectors are for {wanted.id} with {wanted.hidden_size} and "
            f"{wanted.num_layers}"
        )


def model_for_canary(
    path: Path | None, wanted: ModelIdentity, template_arguments: str
) -> CalibrationModel | None:
    """The model in ``path``, which must have the sizes of ``wanted``; ``None`` without a path.

    ``template_arguments`` are those of its chat template, as JSON.
    """
    if path is None:
        return None
    # Loads transformers, which takes seconds and is needed with a model only.
    from refusal_steering.tools.models import open_model

    folder = open_model(path, template_arguments)
    check_sizes(folder.identity(), wanted)
    return folder.load()


def canary_on(target: CalibrationModel | None, spec: SteeringSpec) -> Canary | None:
    """The canary of a bundle's ``spec`` on ``target``, or none without one."""
    if target is None:
        return None
    from refusal_steering.calibration.canary import measured_canary

    return measured_canary(target, spec)
