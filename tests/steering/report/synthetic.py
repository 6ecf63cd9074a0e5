"""Plausible measurements of a build that never took place."""

from __future__ import annotations

import numpy as np

from refusal_steering.prompts.contrast_set import Label
from refusal_steering.report.measurements import (
    BundleFacts,
    Conformal,
    Heard,
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
from refusal_steering.report.phenomena import (
    CosineMatrix,
    Direction,
    Dissolution,
    Projections,
    Roc,
    Separability,
    ShrinkageRow,
)

FORMS = ("plain", "carrier", "image", "text + image", "audio", "video")
LAYERS = range(28)
_LABELS: tuple[Label, ...] = ("harmful", "harmless")


def measurements() -> Measurements:
    """The same values every time."""
    rng = np.random.default_rng(0)
    return Measurements(
        title="Calibration of demo-omni",
        model="example/demo-omni (hidden size 1536, 28 layers)",
        created="2026-11-21T12:00:00Z",
        bundles=(
            BundleFacts("omni", "omnisteer", "8c1f" * 16, (12, 13, 14, 16), "all answer tokens"),
            BundleFacts("flat", "static", "03ab" * 16, (14,), "last prompt token and 8 more"),
        ),
        heard=(
            Heard("image", 12, 0.91, 0.84, 0.95, 60, 60, True),
            Heard("audio", 12, 0.52, 0.41, 0.62, 60, 60, False),
        ),
        separability=tuple(_separability()),
        cosines=tuple(_cosines()),
        projections=tuple(_projections(rng)),
        dissolution=tuple(_dissolution(rng)),
        shrinkage=tuple(_shrinkage(rng)),
        roc=tuple(_roc()),
        coefficients=tuple(_coefficients(rng)),
        trade_off=(_trade_off("omni", 0.9), _trade_off("flat", 0.5), _trade_off("prompt", 0.3)),
        evaluation=(*_evaluation(), *_changed()),
        prompt_risks=tuple(_prompt_risks(rng)),
        calibration=(
            Conformal("omni", 0.05, 412, 0.1371, "at most 5 % of harmless requests steered"),
            Conformal("flat", 0.05, 17, None, "none: too few requests for this budget", "image"),
        ),
        timings=(
            Timing("rows", 412.31),
            Timing("adapters", 38.2, 812.0),
            Timing("evaluation", 1271.9),
        ),
        notes=("Answers were judged by the lexical detector.", "Seed 0.\nOne machine."),
    )


def _prompt_risks(rng: np.random.Generator) -> list[PromptRisk]:
    found = []
    for label in _LABELS:
        for form, count in (("plain", 12), ("long preamble", 180)):
            risks = rng.uniform(0.0, 0.2, count)
            risks[count // 2] = 0.95 if label == "harmful" else 0.3
            tokens = tuple(f" word{place}" for place in range(count))
            span = (count // 3, count // 2 + 2)
            opening = float(label == "harmful")
            found.append(
                PromptRisk(label, form, 1.5, opening, 0.6, tokens, tuple(risks.tolist()), span)
            )
    return found


def _projections(rng: np.random.Generator) -> list[Projections]:
    return [
        Projections.sampled(
            layer,
            form,
            label,
            rng.normal(0.12 * place + (label == "harmful") * (1 - 0.1 * place), 0.22, 520).tolist(),
        )
        for layer in (12, 16)
        for place, form in enumerate(FORMS)
        for label in _LABELS
    ]


def _separability() -> list[Separability]:
    found = []
    ways: tuple[Direction, ...] = ("own", "plain text")
    for along in ways:
        for place, form in enumerate(FORMS):
            areas = [0.5 + (0.45 - 0.07 * place) * min(1.0, layer / 9) for layer in LAYERS]
            low = tuple(area - 0.05 for area in areas)
            high = tuple(min(1.0, area + 0.04) for area in areas)
            found.append(
                Separability(
                    form,
                    along,
                    260,
                    255,
                    tuple(LAYERS),
                    (None, *areas[1:]),
                    tuple(low),
                    tuple(high),
                )
            )
    return found


def _cosines() -> list[CosineMatrix]:
    count = len(FORMS)
    return [
        CosineMatrix(
            layer,
            FORMS,
            tuple(tuple(1 - 0.15 * abs(a - b) for b in range(count)) for a in range(count)),
            (*(0.9 - 0.1 * place for place in range(count - 1)), None),
        )
        for layer in LAYERS
    ]


def _dissolution(rng: np.random.Generator) -> list[Dissolution]:
    depth = np.linspace(0, 1, len(LAYERS))
    curves = []
    for place, form in enumerate(FORMS):
        for label in _LABELS:
            base = np.tanh(4 * depth) - 0.09 * place * depth if label == "harmful" else 0 * depth
            values = base + 0.04 * place * (label == "harmless") + rng.normal(0, 0.02, len(LAYERS))
            curves.append(Dissolution(form, label, 520, tuple(LAYERS), tuple(values.tolist())))
    return curves


def _shrinkage(rng: np.random.Generator) -> list[ShrinkageRow]:
    rows = []
    for place, form in enumerate(FORMS):
        for layer in LAYERS:
            rho = 1.0 if place == 0 else 1 - 0.08 * place + float(rng.normal(0, 0.02))
            cosine = 1.0 if place == 0 else 0.98 - 0.05 * place + 0.002 * layer
            share = None if place == 0 else float(np.log(rho) / np.log(rho * cosine))
            rows.append(ShrinkageRow(form, layer, rho, cosine, rho * cosine, share))
    return rows


def _roc() -> list[Roc]:
    fpr = np.linspace(0, 1, 41)
    curves = []
    for place, name in enumerate((*FORMS, "all forms", "all forms, re-centred")):
        power = 0.04 + 0.04 * place
        curves.append(Roc(name, tuple(fpr.tolist()), tuple((fpr**power).tolist()), 1 / (1 + power)))
    return curves


def _coefficients(rng: np.random.Generator) -> list[Coefficients]:
    return [
        Coefficients.sampled(
            form,
            label,
            np.clip(rng.normal(6 - place if label == "harmful" else -1, 1.5, 520), 0, 8).tolist(),
        )
        for place, form in enumerate(FORMS)
        for label in _LABELS
    ]


def _trade_off(policy: str, skill: float) -> TradeOff:
    return TradeOff(
        policy,
        tuple(
            TradeOffPoint(
                strength,
                0.62 + 0.36 * (1 - 2.0 ** (-strength * (1 + skill))),
                0.97 - (1 - skill) * 0.11 * strength**1.5,
                840,
            )
            for strength in (0.0, 0.5, 1.0, 1.5, 2.0)
        ),
    )


def _changed() -> list[Evaluation]:
    cells = tuple(Refused.counted(form, 26, 520) for form in FORMS)
    return [Evaluation("omni", label, cells, "changed") for label in _LABELS]


def _evaluation() -> list[Evaluation]:
    return [
        Evaluation(
            policy,
            label,
            tuple(
                Refused(form, share, 520, max(0.0, share - 0.02), min(1.0, share + 0.02))
                for place, form in enumerate(FORMS[: 4 if policy == "flat" else 6])
                for share in [base - 0.01 * place]
            ),
        )
        for policy, base, label in (
            ("off", 0.71, _LABELS[0]),
            ("off", 0.07, _LABELS[1]),
            ("omni", 0.985, _LABELS[0]),
            ("omni", 0.09, _LABELS[1]),
            ("flat", 0.91, _LABELS[0]),
        )
    ]
