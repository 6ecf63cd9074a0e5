"""The trials of a build, and what of them is kept in its bundles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from refusal_steering.bundle import save_measured
from refusal_steering.calibration.model import CalibrationModel
from refusal_steering.pipeline.build import Built
from refusal_steering.pipeline.trial import (
    TRIED,
    Case,
    Outcome,
    held_out_cases,
    refused_share,
    run_trial,
)
from refusal_steering.prompts.corpus import Corpus

_SWEPT = ("static", "omnisteer", "promptgate")
_STRENGTHS = (0.5, 1.5)


@dataclass(frozen=True, slots=True)
class Tried:
    """``outcomes`` answer all ``cases``, the unsteered model's first; ``swept`` the listed ones."""

    cases: Sequence[Case]
    outcomes: Sequence[Outcome]
    swept: Sequence[Outcome]


def try_out(target: CalibrationModel, corpus: Corpus, built: Built) -> Tried:
    """Try the strategies at strength 1, and those of the residual stream at others, too."""
    cases = held_out_cases(corpus)
    with built.stages.stage("trial of the strategies"):
        outcomes = [run_trial(target, cases, None)]
        outcomes += [
            run_trial(target, cases, built.bundles[name]) for name in TRIED if name in built.bundles
        ]
    with built.stages.stage("other strengths"):
        swept = [
            run_trial(target, listed_cases(cases), built.bundles[name], strength)
            for name in _SWEPT
            if name in built.bundles
            for strength in _STRENGTHS
        ]
    return Tried(cases, outcomes, swept)


def listed_cases(cases: Sequence[Case]) -> list[Case]:
    """Those of the list form, borderline ones left out."""
    return [case for case in cases if case.form == "list" and not case.borderline]


def keep_measured(built: Built, tried: Tried, out: Path) -> Built:
    """Write the refused shares into the bundles under ``out``; they get other digests by it."""
    bundles = dict(built.bundles)
    for outcome in tried.outcomes:
        if outcome.name in bundles:
            share = refused_share(tried.cases, outcome)
            name = outcome.name
            bundles[name] = save_measured(out / name, bundles[name], [share])
    return replace(built, bundles=bundles)
