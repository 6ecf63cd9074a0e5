"""The trial of a build: what its bundles do to requests that were held out, by group.

The engine answers every held-out request unsteered and under every bundle, steered as a server
would steer it: media re-centred, and the risk of RAS measured, by a cascade for requests in doubt.
Counted are refusals by the lexical detector, answers that are not the unsteered ones, and coherent
answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from refusal_steering.bundle import RefusedShare, SteeringBundle
from refusal_steering.detection.detector import LEXICAL, verdict_on
from refusal_steering.detection.lexical import LexicalDetector
from refusal_steering.engine import ServedModel, Steered, in_batches
from refusal_steering.evaluation.scoring.rate import Rate
from refusal_steering.pipeline.media.blending.cascade import forward_risks
from refusal_steering.pipeline.media.blending.risk import similarities
from refusal_steering.pipeline.media.collecting import StoredRows
from refusal_steering.pipeline.media.requests import Requests, digest_of
from refusal_steering.pipeline.media.work import Kept, Work
from refusal_steering.report.outcomes import Outcome
from refusal_steering.spec import SteeringSpec

OFF = "off"
TRIAL_TOKENS = 24


@dataclass(frozen=True, slots=True)
class Cell:
    """What one strategy does to the held-out requests of one group and label.

    ``answered`` counts answers that are neither refusals nor broken nor empty.
    """

    strategy: str
    group: str
    harmful: bool
    refused: Rate
    changed: Rate
    answered: Rate

    @property
    def rates(self) -> Mapping[Outcome, Rate]:
        """What was counted, by name."""
        return {"refused": self.refused, "answered": self.answered, "changed": self.changed}

    def to_json(self) -> dict[str, Any]:
        """For the build's report."""
        return {
            "strategy": self.strategy,
            "group": self.group,
            "label": "harmful" if self.harmful else "harmless",
            **{outcome: rate.to_json() for outcome, rate in self.rates.items()},
        }

    @property
    def line(self) -> str:
        """For people, with the interval of the refused share."""
        low, high = self.refused.interval or (0.0, 1.0)
        label = "harmful" if self.harmful else "harmless"
        return (
            f"{self.strategy:10} {self.group:12} {label:8} refused {self.refused.hits:3} of "
            f"{self.refused.n:3} ({low:.0%} to {high:.0%}), {self.changed.hits} changed"
        )


def tried(
    model: ServedModel,
    requests: Requests,
    bundles: Mapping[str, SteeringBundle],
    work: Work,
    apart: StoredRows,
) -> list[Cell]:
    """Cells of the held-out ones of ``requests``, of the unsteered model first.

    ``apart`` are their rows.
    """
    held = requests.part("held")
    plain = _kept(model, held, None, work, apart)
    answers = {OFF: plain} | {
        name: _kept(model, held, bundle, work, apart) for name, bundle in bundles.items()
    }
    return [
        _cell(name, group, harmful, held, found, plain)
        for name, found in answers.items()
        for group in held.groups
        for harmful in (True, False)
    ]


def refused_share(requests: Requests, cells: Sequence[Cell], strategy: str) -> RefusedShare:
    """What a bundle keeps of its trial: its refusals of harmful requests, over all groups."""
    held = requests.part("held")
    harmful = [held.all[place] for place in held.chosen(harmful=True)]
    refused = sum(one.refused.hits for one in cells if one.strategy == strategy and one.harmful)
    return RefusedShare(
        strength=1.0,
        refused=refused,
        requests=len(harmful),
        requests_sha256=digest_of(harmful),
        detector=LEXICAL,
        answer_tokens=TRIAL_TOKENS,
    )


def _kept(
    model: ServedModel,
    held: Requests,
    bundle: SteeringBundle | None,
    work: Work,
    apart: StoredRows,
) -> list[str]:
    inputs = {
        "model": model.facts.digest,
        "requests": held.sha256,
        "bundle": None if bundle is None else bundle.digest,
        "tokens": TRIAL_TOKENS,
    }

    def ask() -> Kept:
        if bundle is not None:
            model.load(bundle)
        return Kept(facts={"answers": _answers(model, held, bundle, apart)})

    found: list[str] = work.kept("trial", inputs, ask).facts["answers"]
    return found


def _answers(
    model: ServedModel, held: Requests, bundle: SteeringBundle | None, apart: StoredRows
) -> list[str]:
    answers = [""] * len(held.all)
    for places, steered in _alike(model, held, bundle, apart):
        conversations = [held.all[place].messages() for place in places]
        found = [
            answer.text
            for part in in_batches(model, conversations, "trial")
            for answer in model.answers(part, TRIAL_TOKENS, steered)
        ]
        for place, text in zip(places, found, strict=True):
            answers[place] = text
    return answers


def _alike(
    model: ServedModel, held: Requests, bundle: SteeringBundle | None, apart: StoredRows
) -> Iterator[tuple[list[int], Steered | None]]:
    """Places of requests that are steered under the same terms, and those terms."""
    if bundle is None:
        yield held.chosen(), None
        return
    if bundle.prototypes is not None:
        yield from _blended(model, held, bundle, apart)
        return
    for media, places in held.by_media.items():
        yield places, Steered(bundle, SteeringSpec.of(bundle, media=media))


def _blended(
    model: ServedModel, held: Requests, bundle: SteeringBundle, apart: StoredRows
) -> Iterator[tuple[list[int], Steered]]:
    how, prototypes = bundle.manifest.risk_pass, bundle.prototypes
    assert how is not None and prototypes is not None
    shares = _certain(bundle, apart)
    asked = [place for place in held.chosen() if place not in shares]
    conversations = [held.all[place].messages() for place in asked]
    found = similarities(
        model, conversations, prototypes, how.discount, how.risk_prompt, how.tokens
    )
    for place, similarity in zip(asked, found.tolist(), strict=True):
        shares[place] = how.share(how.risk(similarity), 1.0)
    for place in held.chosen():
        yield [place], Steered(bundle, SteeringSpec.of(bundle, blend=shares[place]))


def _certain(bundle: SteeringBundle, apart: StoredRows) -> dict[int, float]:
    """Shares of the requests whose risk in the forward pass lies outside of a grey zone."""
    how, zone = bundle.manifest.risk_pass, bundle.manifest.grey_zone
    if how is None or zone is None:
        return {}
    ((at, layer),) = bundle.layers.items()
    full = how.share(how.cap, 1.0)
    return {
        place: full if risk > zone.high else 0.0
        for place, risk in enumerate(forward_risks(layer, apart.layer(at), apart.requests).tolist())
        if not zone.low <= risk <= zone.high
    }


def _cell(
    strategy: str,
    group: str,
    harmful: bool,
    held: Requests,
    answers: Sequence[str],
    plain: Sequence[str],
) -> Cell:
    places = held.chosen(group=group, harmful=harmful)
    lexical = LexicalDetector()
    verdicts = Counter(verdict_on(answers[place], lexical) for place in places)
    changed = sum(answers[place] != plain[place] for place in places)
    counts = (verdicts["refusal"], changed, verdicts["answer"])
    return Cell(strategy, group, harmful, *(Rate(count, len(places)) for count in counts))
