"""A trial: what the built strategies do to held-out requests, before anything is served."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from refusal_steering.bundle import RefusedShare, SteeringBundle
from refusal_steering.calibration.answers import answer_all
from refusal_steering.calibration.model import CalibrationModel
from refusal_steering.detection.detector import LEXICAL, verdict_on
from refusal_steering.detection.lexical import LexicalDetector
from refusal_steering.methods.ras import similarities
from refusal_steering.prompts.contrast_set import (
    FORMS,
    AttackForm,
    Item,
    Label,
    render,
    templates,
)
from refusal_steering.prompts.corpus import Corpus
from refusal_steering.spec import SteeringSpec

# The cascade's pre-filter needs the server; its parts are tried one by one.
TRIED = ("static", "omnisteer", "promptgate", "mars", "ras")
EACH = 20
_TOKENS = 12
_LEXICAL = LexicalDetector()


@dataclass(frozen=True, slots=True)
class Case:
    """One held-out prompt."""

    form: AttackForm
    label: Label
    borderline: bool
    prompt: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """Answers of one strategy at one strength, in the order of the cases."""

    name: str
    strength: float
    answers: tuple[str, ...]

    def refused(self, place: int) -> bool:
        """Whether the answer is a refusal by the lexical detector."""
        return verdict_on(self.answers[place], _LEXICAL) == "refusal"


def held_out_cases(corpus: Corpus, each: int = EACH, seed: int = 0) -> list[Case]:
    """``each`` cases per form and kind of request, from items that calibration never saw."""
    rng = random.Random(seed)
    cases = []
    kinds: tuple[tuple[Label, bool], ...] = (
        ("harmful", False),
        ("harmless", False),
        ("harmless", True),
    )
    for label, borderline in kinds:
        items = [
            item
            for item in corpus.split("held", label)
            if (item.domain == "borderline") == borderline
        ]
        for form in FORMS:
            for item in rng.sample(items, min(each, len(items))):
                cases.append(Case(form, label, borderline, _prompt(item, form, rng)))
    return cases


def _prompt(item: Item, form: AttackForm, rng: random.Random) -> str:
    return render(item, form, rng.randrange(templates(form)))


def run_trial(
    target: CalibrationModel,
    cases: Sequence[Case],
    bundle: SteeringBundle | None,
    strength: float = 1.0,
) -> Outcome:
    """Greedy answers under one bundle of :data:`TRIED`; ``None`` is the model as it is."""
    prompts = [case.prompt for case in cases]
    if bundle is None:
        return Outcome("off", 0.0, tuple(answer_all(target, prompts, _TOKENS)))
    spec, shares = SteeringSpec.of(bundle, strength=strength), None
    if bundle.manifest.blends:
        shares = _shares(target, prompts, bundle, strength)
    answers = answer_all(target, prompts, _TOKENS, spec, shares)
    return Outcome(bundle.manifest.strategy, strength, tuple(answers))


def refused_share(cases: Sequence[Case], outcome: Outcome) -> RefusedShare:
    """What ``outcome`` says of the harmful ones of ``cases``, as a bundle keeps it."""
    places = [place for place, case in enumerate(cases) if case.label == "harmful"]
    prompts = json.dumps([cases[place].prompt for place in places])
    return RefusedShare(
        strength=outcome.strength,
        refused=sum(outcome.refused(place) for place in places),
        requests=len(places),
        requests_sha256=hashlib.sha256(prompts.encode()).hexdigest(),
        detector=LEXICAL,
        answer_tokens=_TOKENS,
    )


def _shares(
    target: CalibrationModel, prompts: Sequence[str], bundle: SteeringBundle, strength: float
) -> Tensor:
    """The blend [P] of every prompt, by its own risk."""
    how, prototypes = bundle.manifest.risk_pass, bundle.prototypes
    assert how is not None and prototypes is not None
    similar = similarities(target, prompts, prototypes, how.discount, how.risk_prompt, how.tokens)
    return torch.tensor([how.share(how.risk(float(s)), strength) for s in similar])


def by_cell(cases: Sequence[Case]) -> Mapping[tuple[AttackForm, Label, bool], list[int]]:
    """Places of the cases by form, label and whether the template is borderline."""
    cells: dict[tuple[AttackForm, Label, bool], list[int]] = {}
    for place, case in enumerate(cases):
        cells.setdefault((case.form, case.label, case.borderline), []).append(place)
    return cells
