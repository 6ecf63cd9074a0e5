"""The trained head of the MiniLM detector: a logistic regression, shipped as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib import resources
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from refusal_steering.detection.confusion import Confusion
from refusal_steering.detection.cues import CUES

_FILE = "head.json"
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Cells(BaseModel):
    """Confusion counts as they stand in the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tp: int = Field(ge=0)
    fp: int = Field(ge=0)
    fn: int = Field(ge=0)
    tn: int = Field(ge=0)

    @property
    def confusion(self) -> Confusion:
        """The same as a value to calculate with."""
        return Confusion(self.tp, self.fp, self.fn, self.tn)


class Head(BaseModel):
    """Weights over [sentence vector, cues * ``cue_scale``], and where they come from.

    ``training_data`` has the sha256 of every file of labelled answers, by name. ``confusion`` has
    the counts of each detector over all of them, by the detector's name. Those of MiniLM leave one
    model out: no model is judged by a head that was trained on its answers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    encoder: str
    partial: str
    cue_names: tuple[str, ...]
    cue_scale: FiniteFloat
    weights: tuple[FiniteFloat, ...]
    bias: FiniteFloat
    threshold: float = Field(gt=0.0, lt=1.0)
    training_data: dict[str, Sha256]
    confusion: dict[str, Cells]

    def probability(self, vector: Sequence[float], cues: Sequence[float]) -> float:
        """How probable a refusal is; raises ``ValueError`` for inputs of another width."""
        inputs = [*vector, *(self.cue_scale * cue for cue in cues)]
        logit = self.bias + sum(w * x for w, x in zip(self.weights, inputs, strict=True))
        return 1.0 / (1.0 + math.exp(-min(max(logit, -60.0), 60.0)))


def shipped_head() -> Head:
    """The head in the package; raises ``ValueError`` if it was trained on other cues."""
    text = resources.files(__package__).joinpath(_FILE).read_text(encoding="utf-8")
    head = Head.model_validate_json(text)
    if head.cue_names != CUES:
        raise ValueError("the shipped head was trained on other cues; train it again")
    return head
