"""The boot canary of a bundle: a prompt whose first-token log-probabilities it must move."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import ClassVar

import torch
from torch import Tensor

from refusal_steering.bundle import Canary
from refusal_steering.calibration.model import CalibrationModel
from refusal_steering.errors import SteeringError
from refusal_steering.prompts import contrast_set
from refusal_steering.reference import greedy
from refusal_steering.spec import SteeringSpec

_EVERY = 24
_TOP = 20
_TOKENS = 6
_FEWEST = 4
_TOLERANCE = 0.5
_RELATIVE_TOLERANCE = 0.15


class NoCanaryError(SteeringError):
    """No prompt is moved by the layers of a bundle in a way that proves that steering works."""

    code: ClassVar[str] = "no_canary"


class Unfit(Enum):
    """Why a prompt cannot be a canary; what to do about it."""

    STILL = "its tokens move too little: give a larger dose"
    LOST = f"fewer than {_FEWEST} of its {_TOP} likeliest tokens stay likely: give a smaller dose"


def choose_canary(target: CalibrationModel, prompts: Iterable[str], spec: SteeringSpec) -> Canary:
    """The prompt whose tokens move most for certain, measured with the reference.

    ``spec`` is a request's under the bundle; the canary's own terms follow from it. Raises
    :class:`NoCanaryError` when no prompt moves enough tokens well beyond the tolerance.
    """
    return surest(_measure(target, prompt, spec.canary) for prompt in prompts)


def surest(found: Iterable[Canary | Unfit]) -> Canary:
    """The canary that is moved furthest beyond its tolerance; raises :class:`NoCanaryError`."""
    tried = list(found)
    usable = [one for one in tried if isinstance(one, Canary)]
    if not usable:
        # Prompts that stay as they are say nothing about those that are moved.
        reason = Unfit.LOST if Unfit.LOST in tried else Unfit.STILL
        raise NoCanaryError(
            f"no prompt proves that steering works; {tried.count(reason)} of {len(tried)} cannot "
            f"because {reason.value}"
        )
    return max(usable, key=_certainty)


def measured_canary(target: CalibrationModel, spec: SteeringSpec) -> Canary:
    """The canary of a bundle's ``spec`` from harmful prompts of the contrast set.

    Raises :class:`NoCanaryError`.
    """
    harmful = [item for item in contrast_set.load_items() if item.harmful and item.split == "train"]
    prompts = [contrast_set.render(item, "list", 0) for item in harmful[::_EVERY]]
    return choose_canary(target, prompts, spec)


def moved_tokens(plain: Tensor, steered: Tensor) -> dict[int, float]:
    """Shifts in nats of the tokens that moved most, of log-probabilities [V] without and with.

    Only tokens among the likeliest on both sides count: far down the tail a shift is noise.
    """
    return most_moved(_likeliest(plain), _likeliest(steered))


def most_moved(plain: Mapping[int, float], steered: Mapping[int, float]) -> dict[int, float]:
    """The same of the likeliest 20 tokens' log-probabilities on both sides."""
    shift = {token: steered[token] - plain[token] for token in plain if token in steered}
    most = sorted(shift, key=lambda token: (-abs(shift[token]), token))[:_TOKENS]
    return {token: round(shift[token], 4) for token in most}


def canary_of(ids: Sequence[int], shift: Mapping[int, float]) -> Canary | Unfit:
    """A canary for the prompt ``ids``, or why its tokens' ``shift`` proves nothing."""
    if len(shift) < _FEWEST:
        return Unfit.LOST
    largest = max(map(abs, shift.values()))
    canary = Canary(
        token_ids=tuple(ids),
        shift={str(token): value for token, value in shift.items()},
        tolerance=round(_TOLERANCE + _RELATIVE_TOLERANCE * largest, 2),
    )
    return canary if _certainty(canary) > 2.0 else Unfit.STILL


def _likeliest(logprobs: Tensor) -> dict[int, float]:
    top = logprobs.topk(_TOP)
    return dict(zip(top.indices.tolist(), top.values.tolist(), strict=True))


def _measure(target: CalibrationModel, prompt: str, spec: SteeringSpec) -> Canary | Unfit:
    ids = target.encode(prompt)
    inputs = {"input_ids": torch.tensor([ids])}
    plain = greedy(target.model, inputs, 1).logprobs[0]
    steered = greedy(target.model, inputs, 1, spec).logprobs[0]
    return canary_of(ids, moved_tokens(plain, steered))


def _certainty(canary: Canary) -> float:
    return max(map(abs, canary.shift.values())) / canary.tolerance
