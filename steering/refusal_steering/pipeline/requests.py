"""What a build asks of its requests, beyond what their files say."""

from __future__ import annotations

from refusal_steering.calibration.model import CalibrationModel
from refusal_steering.errors import SteeringError
from refusal_steering.methods.ras import refused_of
from refusal_steering.pipeline.plan import BuildPlan
from refusal_steering.prompts import contrast_set
from refusal_steering.prompts.contrast_set import Label
from refusal_steering.prompts.corpus import Corpus
from refusal_steering.prompts.examples import Examples

_ASKED = 40


def every_prompt(corpus: Corpus, plan: BuildPlan) -> list[str]:
    """The prompts of a build's examples, and the requests that it holds out."""
    examples = Examples.draw(corpus.items, plan.seed, plan.forms)
    return [*examples.prompts, *(item.text for item in corpus.split("held"))]


def refuse_swapped(target: CalibrationModel, corpus: Corpus) -> None:
    """Raise :class:`SteeringError` where the model refuses the harmless requests, not the others.

    Only users' files are looked at; a model that refuses nothing tells nothing.
    """
    if corpus.sha256 == contrast_set.digest():
        return
    harmful, harmless = _refused(target, corpus, "harmful"), _refused(target, corpus, "harmless")
    if harmless > max(0.25, 2 * harmful):
        raise SteeringError(
            f"the model refuses {harmless:.0%} of the requests that are given as harmless and "
            f"{harmful:.0%} of the harmful ones; the files are swapped, or hold the wrong requests"
        )


def _refused(target: CalibrationModel, corpus: Corpus, label: Label) -> float:
    asked = [item.text for item in corpus.split("train", label)[:_ASKED]]
    return len(refused_of(target, asked)) / max(1, len(asked))
