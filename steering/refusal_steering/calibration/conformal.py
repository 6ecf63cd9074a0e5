"""Split conformal prediction: a threshold that touches at most a stated share of requests.

If harmless calibration requests and a new harmless request are exchangeable, the new one's score
exceeds the returned threshold with probability at most ``budget`` (marginally over calibration
sets and the new request). For one given calibration set the share is a Beta variable; its upper
quantile is reported beside the guarantee.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import beta
from torch import Tensor

from refusal_steering.errors import SteeringError


@dataclass(frozen=True, slots=True)
class Threshold:
    """``value`` that a share of at most ``budget`` of harmless requests exceeds.

    ``count`` scores set it. With 95 % confidence over calibration sets, this one's true share is
    at most ``worst_share``.
    """

    value: float
    budget: float
    count: int
    worst_share: float


def budget_threshold(harmless: Tensor, budget: float) -> Threshold:
    """The smallest threshold with the guarantee, from independent harmless scores [n].

    Raises :class:`SteeringError` when ``n`` is too small for the budget.
    """
    scores = np.sort(harmless.double().numpy())
    count = len(scores)
    check_budget(budget, count)
    rank = math.ceil((count + 1) * (1.0 - budget) - 1e-9)
    if not np.isfinite(scores).all():
        raise SteeringError("a calibration score is NaN or infinite; check the activations")
    worst = float(beta.ppf(0.95, count + 1 - rank, rank))
    return Threshold(float(scores[rank - 1]), budget, count, worst)


def check_budget(budget: float, count: int) -> None:
    """Raise :class:`SteeringError` unless ``count`` harmless scores can guarantee ``budget``."""
    needed = fewest_harmless(budget)
    if count < needed:
        raise SteeringError(
            f"{count} harmless requests for tuning cannot guarantee a budget of {budget:g}; it "
            f"takes at least {needed}. Give more requests or a larger budget."
        )


def fewest_harmless(budget: float) -> int:
    """How many harmless scores it takes to guarantee ``budget``.

    Raises :class:`SteeringError` for a budget that is no share.
    """
    if not 0.0 < budget < 1.0:
        raise SteeringError(f"the budget is {budget}; expected a share between 0 and 1")
    return math.ceil(1.0 / budget - 1e-9) - 1
