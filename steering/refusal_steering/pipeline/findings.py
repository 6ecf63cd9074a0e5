"""What a build has found, as the measurements of its report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from refusal_steering.analysis.dissolution import dissolution
from refusal_steering.analysis.phenomena import LabelledRows, TextFrame
from refusal_steering.analysis.separability import roc_curves
from refusal_steering.analysis.shrinkage import shrinkage
from refusal_steering.calibration.activations import collect
from refusal_steering.calibration.model import CalibrationModel
from refusal_steering.detection.detector import LEXICAL
from refusal_steering.pipeline.build import Built
from refusal_steering.pipeline.gate.gating import STRATEGY
from refusal_steering.pipeline.measured import Tried, listed_cases
from refusal_steering.pipeline.prompt_risks import prompt_risks
from refusal_steering.pipeline.trial import Case, Outcome, by_cell
from refusal_steering.prompts.contrast_set import FORMS, Label
from refusal_steering.report.facts import bundle_facts, conformal_of
from refusal_steering.report.gather import (
    dissolution_of,
    projections_of,
    roc_of,
    shrinkage_of,
)
from refusal_steering.report.measurements import (
    Conformal,
    Measurements,
    PromptRisk,
    Timing,
)
from refusal_steering.report.outcomes import (
    Coefficients,
    Evaluation,
    Refused,
    TradeOff,
    TradeOffPoint,
)

_LABELS: tuple[Label, ...] = ("harmful", "harmless")


def findings(
    target: CalibrationModel, built: Built, tried: Tried, model: str, created: str
) -> Measurements:
    """Phenomena on held-out rows, and what the trial of the strategies has found."""
    cases = tried.cases
    with built.stages.stage("held-out rows"):
        rows = _rows(target, cases)
    frame = TextFrame.of(built.sample)
    layer = max(built.adaptive.layers)
    layers = range(len(rows.rows))
    return Measurements(
        title=f"Refusal steering for {model}",
        model=model,
        created=created,
        bundles=tuple(map(bundle_facts, built.bundles.values())),
        projections=projections_of(rows.labels, frame.place(rows.rows)[[layer]], [layer]),
        dissolution=dissolution_of(dissolution(rows, frame), layers),
        shrinkage=shrinkage_of(shrinkage(built.sample), layers),
        roc=roc_of(roc_curves(rows, layer, frame)),
        coefficients=_coefficients(rows, built),
        trade_off=_trade_off(tried),
        evaluation=tuple(e for o in tried.outcomes for e in _evaluations(cases, o)),
        prompt_risks=_prompt_risks(target, built),
        calibration=_conformal(built),
        timings=tuple(Timing(stage, seconds) for stage, seconds in built.stages.seconds.items()),
        notes=(*_NOTES, *(f"{name} is left out: {why}" for name, why in built.left_out.items())),
    )


_NOTES = (
    f"Refusals are found by the detector {LEXICAL}, which reads English; broken text is none.",
    "Harmless rows of the evaluation leave borderline templates out; `refusal-steering evaluate` "
    "measures them apart, over HTTP, with more requests.",
)


def _prompt_risks(target: CalibrationModel, built: Built) -> tuple[PromptRisk, ...]:
    """What the gate of the build sees; nothing where there is none."""
    gate = built.bundles[STRATEGY].gate if STRATEGY in built.bundles else None
    if gate is None:
        return ()
    with built.stages.stage("risk along prompts"):
        return prompt_risks(target, gate)


def _rows(target: CalibrationModel, cases: Sequence[Case]) -> LabelledRows:
    clear = [case for case in cases if not case.borderline]
    depth = len(target.decoder_layers)
    found = collect(target, [case.prompt for case in clear], range(depth))
    return LabelledRows(
        torch.stack([found[layer] for layer in range(depth)]),
        torch.tensor([case.label == "harmful" for case in clear]),
        tuple(case.form for case in clear),
    )


def _trade_off(tried: Tried) -> tuple[TradeOff, ...]:
    cases, swept = tried.cases, tried.swept
    listed = listed_cases(cases)
    places = [place for place, case in enumerate(cases) if case in listed]
    whole = [
        replace(o, answers=tuple(o.answers[place] for place in places))
        for o in tried.outcomes
        if o.name in {other.name for other in swept}
    ]
    return tuple(
        TradeOff(name, tuple(_point(listed, o) for o in sorted(points, key=lambda o: o.strength)))
        for name in dict.fromkeys(o.name for o in swept)
        if (points := [o for o in (*whole, *swept) if o.name == name])
    )


def _point(cases: Sequence[Case], outcome: Outcome) -> TradeOffPoint:
    def share(label: Label) -> float:
        places = [place for place, case in enumerate(cases) if case.label == label]
        return sum(outcome.refused(place) for place in places) / len(places)

    return TradeOffPoint(outcome.strength, share("harmful"), 1.0 - share("harmless"), len(cases))


def _evaluations(cases: Sequence[Case], outcome: Outcome) -> list[Evaluation]:
    cells = by_cell(cases)
    return [
        Evaluation(
            outcome.name,
            label,
            tuple(
                _refused(form, outcome, cells[form, label, False])
                for form in FORMS
                if (form, label, False) in cells
            ),
        )
        for label in _LABELS
    ]


def _refused(form: str, outcome: Outcome, places: Sequence[int]) -> Refused:
    count = sum(outcome.refused(place) for place in places)
    return Refused.counted(form, count, len(places))


def _coefficients(rows: LabelledRows, built: Built) -> tuple[Coefficients, ...]:
    """What the first adapter earns on the unsteered rows of held-out requests."""
    first = min(built.adaptive.layers)
    earned = built.adaptive.layers[first].coefficient(rows.rows[first])
    return tuple(
        Coefficients.sampled(form, label, earned[members].tolist())
        for form in rows.labels.form_names
        for label in _LABELS
        if bool((members := rows.labels.mask(form, label == "harmful")).any())
    )


def _conformal(built: Built) -> tuple[Conformal, ...]:
    kept = {"omnisteer": built.adaptive.threshold}
    if built.gate is not None:
        kept[STRATEGY] = built.gate.opened.threshold
    return tuple(conformal_of(policy, threshold) for policy, threshold in kept.items())
