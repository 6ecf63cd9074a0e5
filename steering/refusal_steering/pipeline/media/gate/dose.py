"""The dose of an open gate, by what the engine answers to harmful tuning requests.

Pushed too far, directions that nobody has refined lead into sentences that refuse nothing. So some
doses are tried, with the gate taken away, and the smallest of those that refuse most is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from refusal_steering.bundle import SteeringBundle, make_bundle
from refusal_steering.detection.detector import LEXICAL, verdict_on
from refusal_steering.detection.lexical import LexicalDetector
from refusal_steering.engine import ServedModel, Steered, in_batches
from refusal_steering.pipeline.media.gate.teaching import Push
from refusal_steering.pipeline.media.requests import Requests
from refusal_steering.pipeline.media.work import Kept, Work
from refusal_steering.spec import SteeringSpec

# Harmful tuning requests of each group, and tokens of each answer.
_ASKED = 12
DOSE_TOKENS = 24


@dataclass(frozen=True, slots=True)
class Dose:
    """A share of the residual stream's length, and how many requests each dose tried refused."""

    value: float
    refused: Mapping[str, int]
    asked: int

    @property
    def refuses(self) -> bool:
        """Whether any dose that was tried made a refusal."""
        return any(self.refused.values())

    @property
    def facts(self) -> dict[str, object]:
        """For the bundle's manifest."""
        return {"refused": dict(self.refused), "of": self.asked, "detector": LEXICAL}


def places_for_dose(requests: Requests, groups: Sequence[str]) -> list[int]:
    """The requests that every dose is tried on: some harmful tuning ones of each of ``groups``."""
    return [place for group in groups for place in requests.chosen("tune", group, True)[:_ASKED]]


def best_dose(
    model: ServedModel,
    requests: Requests,
    places: Sequence[int],
    doses: Sequence[float],
    push: Callable[[float], Push],
    work: Work,
    otherwise: float,
) -> Dose:
    """The dose of ``doses`` whose ``push`` refuses most of the requests at ``places``.

    It is ``otherwise`` where none of them makes a refusal that the detector knows.
    """

    def measure() -> Kept:
        refused = {str(dose): _refused(model, requests, places, push(dose)) for dose in doses}
        return Kept(facts={"refused": refused})

    example = push(1.0)
    inputs = {
        "model": model.facts.digest,
        "requests": requests.sha256,
        "places": list(places),
        "doses": list(doses),
        "push": _draft(model, example).digest,
        "tokens": DOSE_TOKENS,
    }
    refused: dict[str, int] = work.kept("doses", inputs, measure).facts["refused"]
    best = max(sorted(doses), key=lambda dose: refused[str(dose)])
    return Dose(best if refused[str(best)] else otherwise, refused, len(places))


def _refused(model: ServedModel, requests: Requests, places: Sequence[int], push: Push) -> int:
    draft, detector = _draft(model, push), LexicalDetector()
    model.load(draft)
    steered = Steered(draft, SteeringSpec.of(draft))
    conversations = [requests.all[place].messages() for place in places]
    answers = (
        answer.text
        for part in in_batches(model, conversations, "dose")
        for answer in model.answers(part, DOSE_TOKENS, steered)
    )
    return sum(verdict_on(answer, detector) == "refusal" for answer in answers)


def _draft(model: ServedModel, push: Push) -> SteeringBundle:
    spec = SteeringSpec.of_parts(push.layers, push.window, dose_limit=push.dose_limit)
    manifest = {
        "name": "draft",
        "strategy": "static",
        "model": model.facts.identity,
        **spec.manifest_terms,
    }
    return make_bundle(spec.layers, manifest)
