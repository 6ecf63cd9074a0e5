"""Canaries for bundles that the offline commands write."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from refusal_steering.bundle import Canary, ModelIdentity
from refusal_steering.calibration.canary import choose_canary
from refusal_steering.calibration.model import CalibrationModel
from refusal_steering.errors import BundleMismatchError, SteeringError
from refusal_steering.prompts import contrast_set
from refusal_steering.spec import SteeringSpec

_EVERY = 24


class NoCanaryError(SteeringError):
    """No prompt is moved enough by the layers of a bundle to prove that steering works."""

    code: ClassVar[str] = "no_canary"


def model_identity(path: Path, name: str | None) -> ModelIdentity:
    """Sizes of the model in a folder, under ``name`` or the folder's own."""
    return CalibrationModel.load(path).identity(name or path.resolve().name)


def measured_canary(path: Path, spec: SteeringSpec, model: ModelIdentity) -> Canary:
    """The canary of a bundle's ``spec`` on the model in folder ``path``.

    Its prompts are harmful ones of the contrast set.

    Raises :class:`BundleMismatchError` for a model of other sizes than ``model``, and
    :class:`NoCanaryError`.
    """
    target = CalibrationModel.load(path)
    found = target.identity(model.id)
    if (found.hidden_size, found.num_layers) != (model.hidden_size, model.num_layers):
        raise BundleMismatchError(
            f"the model in {path} has hidden size {found.hidden_size} and {found.num_layers} "
            f"layers; the vectors are for {model.id} with {model.hidden_size} and "
            f"{model.num_layers}"
        )
    harmful = [item for item in contrast_set.load_items() if item.harmful and item.split == "train"]
    prompts = [contrast_set.render(item, "list", 0) for item in harmful[::_EVERY]]
    try:
        return choose_canary(target, prompts, spec)
    except ValueError as error:
        raise NoCanaryError(f"{error}; give a larger dose or k_max") from error
