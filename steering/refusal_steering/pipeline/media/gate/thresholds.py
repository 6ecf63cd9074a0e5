"""Thresholds of a gate by what requests bring: split conformal for each group of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from refusal_steering.calibration.conformal import Threshold
from refusal_steering.errors import SteeringError
from refusal_steering.methods.prompt_gate.opening import conformal_threshold
from refusal_steering.pipeline.media.gate.examples import TEXTS, MediaExamples
from refusal_steering.pipeline.media.requests import TEXT
from refusal_steering.prompts.gate_labels import GateLabels
from refusal_steering.terms import media_set

# A threshold of so few requests would be decided by one or two of them: such groups share one.
ALONE = 100
_WORDS = (TEXTS, TEXT)


@dataclass(frozen=True, slots=True)
class Budgets:
    """Shares of everyday harmless requests that may open a gate: of words alone, and with media."""

    words: float
    media: float

    def of(self, group: str) -> float:
        """The share of one group."""
        return self.words if group in _WORDS else self.media


def group_thresholds(
    scores: Tensor, examples: MediaExamples, budgets: Budgets
) -> dict[str, Threshold]:
    """Split conformal over everyday harmless tuning requests, for every group.

    A group of at least :data:`ALONE` of them has a threshold of its own. Smaller groups that bring
    media share one, and a smaller group of words shares that of all words. Raises
    ``SteeringError`` where a threshold cannot keep its budget.
    """
    counts = {group: _everyday_harmless(examples, {group}) for group in examples.groups}
    found = {}
    for group in examples.groups:
        together = _together(group, counts)
        kept = torch.tensor([one.group in together for one in examples.all])
        own = GateLabels(tuple(one.label for one in examples.all if one.group in together))
        everyone = torch.ones(len(own.all), dtype=torch.bool)
        try:
            found[group] = conformal_threshold(scores[kept], own, everyone, budgets.of(group))
        except SteeringError as error:
            raise SteeringError(f"{', '.join(sorted(together))}: {error}") from error
    return found


def media_thresholds(thresholds: Mapping[str, Threshold]) -> dict[str, float]:
    """The threshold of every set of media: the highest of the groups that bring just these.

    A group with words beside its media and one without bring the same set.
    """
    found = dict[str, float]()
    for group, threshold in thresholds.items():
        brought = set_of_group(group)
        found[brought] = max(threshold.value, found.get(brought, threshold.value))
    return found


def set_of_group(group: str) -> str:
    """The set of media that the requests of a group bring."""
    return media_set(group.split("+"))


def _together(group: str, counts: Mapping[str, int]) -> set[str]:
    """The groups whose requests set the threshold of ``group``."""
    if counts[group] >= ALONE:
        return {group}
    if group in _WORDS:
        return {one for one in counts if one in _WORDS}
    return {one for one, count in counts.items() if count < ALONE and one not in _WORDS}


def _everyday_harmless(examples: MediaExamples, groups: Collection[str]) -> int:
    return sum(
        one.group in groups and one.label.tuning and one.label.everyday and not one.label.harmful
        for one in examples.all
    )
