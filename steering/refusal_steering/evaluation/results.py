"""The results of a run as one JSON object: settings, data, every answer, every score."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from refusal_steering import __version__
from refusal_steering.detection.detector import Detector, verdict_on
from refusal_steering.evaluation.arms.arm import Arm
from refusal_steering.evaluation.right_answers.utility import utility
from refusal_steering.evaluation.scoring import grade
from refusal_steering.evaluation.scoring.coherence import is_degenerate
from refusal_steering.evaluation.scoring.fidelity import Fidelity, signature
from refusal_steering.evaluation.scoring.grade import Pair
from refusal_steering.evaluation.scoring.outcome import Outcome
from refusal_steering.evaluation.scoring.rubrics import RUBRICS
from refusal_steering.evaluation.scoring.score import METRICS, Score
from refusal_steering.evaluation.suites.suites import Suite

FORMAT = 1

_LIBRARIES = ("openai", "sacrebleu", "scipy")


def collect(
    settings: dict[str, Any],
    arms: Sequence[Arm],
    suites: Sequence[Suite],
    outcomes: Sequence[Outcome],
    judge: str | None,
    prepared: Mapping[str, Any],
) -> dict[str, Any]:
    """Everything that a reader needs to check the numbers; the first arm is the baseline.

    ``prepared`` is what was found before the first request: leaks, and a paper's absent sets.
    """
    found = {(outcome.arm, *outcome.key): outcome for outcome in outcomes}
    pairs = {
        (arm.name, suite.name): [(case, found[arm.name, *case.key]) for case in suite.cases]
        for arm in arms
        for suite in suites
    }
    return {
        "format": FORMAT,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {
            "refusal-steering": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in _LIBRARIES},
        },
        "settings": settings,
        "chrf": signature(),
        "detectors": [
            *{suite.detector.name: None for suite in suites},
            *([judge] if judge else []),
        ],
        "baseline": arms[0].name,
        **prepared,
        "suites": [suite.to_json() for suite in suites],
        "summary": [
            _summary(arm, suite.name, pairs[arm.name, suite.name], pairs[arms[0].name, suite.name])
            | _scores(suite, pairs[arm.name, suite.name], pairs[arms[0].name, suite.name], judge)
            for suite in suites
            for arm in arms
        ],
        "answers": [
            _answer(pair, suite.detector)
            for arm in arms
            for suite in suites
            for pair in pairs[arm.name, suite.name]
        ],
    }


def _summary(
    arm: Arm, suite: str, pairs: Sequence[Pair], baseline: Sequence[Pair]
) -> dict[str, Any]:
    return {
        "suite": suite,
        "arm": arm.name,
        "policy": arm.policy,
        "system_prompt": arm.system is not None,
        "defence": grade.defences(pairs) if arm.defence else None,
        "cases": len(pairs),
        "failed_requests": sum(outcome.reply.error is not None for _, outcome in pairs),
        "cut_at_max_tokens": sum(outcome.reply.finish_reason == "length" for _, outcome in pairs),
        "steering": grade.steering(pairs),
        "touched": grade.touched(pairs),
        "coherence": grade.coherence(pairs),
        "fidelity": _fidelity(pairs, baseline),
        "utility": utility(pairs),
    }


def _fidelity(pairs: Sequence[Pair], baseline: Sequence[Pair]) -> dict[str, Any]:
    labels = ("harmless", "borderline")
    return {
        label: asdict(Fidelity.between(grade.replies(baseline, label), grade.replies(pairs, label)))
        for label in labels
    }


def _scores(
    suite: Suite, pairs: Sequence[Pair], baseline: Sequence[Pair], judge: str | None
) -> dict[str, Any]:
    detector, rubric = suite.detector, suite.rubric
    new, old = grade.graded_by(detector, pairs), grade.graded_by(detector, baseline)
    scores = {detector.name: _score(Score(new), Score(old))}
    if judge is None:
        return {"scores": scores, "judge": None}
    new, old = (grade.graded_by_judge(one, rubric) for one in (pairs, baseline))
    scores[judge] = _score(Score(new), Score(old))
    judged = {
        "rule": RUBRICS[rubric].rule,
        "scores": grade.scores(pairs),
        "rulings": grade.rulings(pairs),
        "replies": grade.replies_by_ruling(pairs),
        "replies_by_form": grade.replies_by_form(pairs),
    }
    return {"scores": scores, "judge": judged}


def _score(new: Score, old: Score) -> dict[str, Any]:
    against = {metric: new.paired(old, metric).to_json() for metric in METRICS}
    return new.to_json() | {"against_baseline": against}


def _answer(pair: Pair, detector: Detector) -> dict[str, Any]:
    case, outcome = pair
    text = outcome.reply.text
    return {
        "suite": case.suite,
        "id": case.id,
        "form": case.form,
        "label": case.label,
        "modality": case.modality,
        "request": case.request,
        "verdict": None if text is None else verdict_on(text, detector),
        "degenerate": None if text is None else is_degenerate(text),
        **{key: value for key, value in outcome.to_json().items() if key not in ("suite", "id")},
    }
