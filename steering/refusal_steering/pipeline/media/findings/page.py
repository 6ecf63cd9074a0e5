"""The measurements of a build through the engine: phenomena by modality, trial, thresholds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from refusal_steering.analysis.areas import area_interval
from refusal_steering.analysis.survey import survey
from refusal_steering.bundle import ModelIdentity, SteeringBundle
from refusal_steering.calibration.conformal import Threshold
from refusal_steering.calibration.stored_rows.sources import StoredSources
from refusal_steering.detection.detector import LEXICAL
from refusal_steering.pipeline.media.collecting import StoredRows
from refusal_steering.pipeline.media.findings.earned import coefficients_of, touched
from refusal_steering.pipeline.media.requests import TEXT
from refusal_steering.pipeline.media.trial import OFF, Cell
from refusal_steering.pipeline.media.vectors import Vectors
from refusal_steering.prompts.contrast_set import Label
from refusal_steering.report.facts import bundle_facts, conformal_of
from refusal_steering.report.gather import with_survey
from refusal_steering.report.measurements import Conformal, Heard, Measurements, Timing
from refusal_steering.report.outcomes import Evaluation, Outcome, Refused

_LABELS: tuple[Label, ...] = ("harmful", "harmless")
_ADAPTERS = "omnisteer"
_COUNTED: tuple[Outcome, ...] = ("refused", "answered", "changed")
_LONGEST_NAME = 120
_LONGEST_NOTE = 2000


@dataclass(frozen=True, slots=True)
class Found:
    """What a build has made and seen; ``rows`` are those it learnt from, ``held`` the others."""

    model: ModelIdentity
    rows: StoredRows
    held: StoredRows
    vectors: Vectors
    bundles: Mapping[str, SteeringBundle]
    cells: Sequence[Cell]
    seconds: Mapping[str, float]
    peaks: Mapping[str, float]
    left_out: Mapping[str, str]
    notes: Sequence[str] = field(default_factory=tuple)


def media_findings(found: Found, created: str) -> Measurements:
    """Phenomena on held-out rows by group, and what the trial of the bundles has found.

    One layer of rows is read at a time.
    """
    sizes, name = found.model, found.model.id[:_LONGEST_NAME]
    adapters = found.bundles.get(_ADAPTERS)
    measurements = Measurements(
        title=f"Refusal steering for {name}",
        model=f"{name} ({sizes.num_layers} layers of width {sizes.hidden_size})",
        created=created,
        bundles=tuple(map(bundle_facts, found.bundles.values())),
        heard=tuple(_heard(found)),
        coefficients=() if adapters is None else coefficients_of(adapters, found.held),
        evaluation=(*evaluations(found.cells), *touched(found.bundles, found.held)),
        calibration=tuple(_thresholds(found)),
        timings=tuple(
            Timing(stage, seconds, found.peaks.get(stage))
            for stage, seconds in found.seconds.items()
        ),
        notes=tuple(_notes(found)),
    )
    both = StoredSources.open([found.rows.folder, found.held.folder])
    return with_survey(measurements, survey(both, TEXT), max(found.vectors.chosen))


def evaluations(cells: Sequence[Cell]) -> Iterator[Evaluation]:
    """What was counted of the trial, by outcome, strategy and label; empty cells are left out."""
    strategies = dict.fromkeys(cell.strategy for cell in cells)
    for outcome in _COUNTED:
        for strategy in strategies:
            if (outcome, strategy) == ("changed", OFF):
                continue
            for label in _LABELS:
                counted = tuple(
                    Refused.counted(cell.group, rate.hits, rate.n)
                    for cell in cells
                    if (cell.strategy, cell.harmful) == (strategy, label == "harmful")
                    for rate in [cell.rates[outcome]]
                    if rate.n
                )
                if counted:
                    yield Evaluation(strategy, label, counted, outcome)


def _heard(found: Found) -> Iterator[Heard]:
    vectors, requests = found.vectors, found.rows.requests
    for group, area in vectors.areas.items():
        bad, good = (len(requests.chosen("tune", group, harmful)) for harmful in (True, False))
        low, high = area_interval(area, bad, good)
        yield Heard(group, vectors.layer, area, low, high, bad, good, group in vectors.heard)


def _thresholds(found: Found) -> Iterator[Conformal]:
    """Of every bundle that keeps a budget by group, as its manifest says."""
    for name, bundle in found.bundles.items():
        kept: Mapping[str, Mapping[str, float]] = bundle.manifest.calibration.get("thresholds", {})
        for group in (group for group in found.rows.requests.groups if group in kept):
            threshold = kept[group]
            how = Threshold(
                threshold["value"],
                threshold["budget"],
                int(threshold["count"]),
                threshold["worst_share"],
            )
            yield conformal_of(name, how, group)


def _notes(found: Found) -> Iterator[str]:
    yield (
        f"Refusals are found by the detector {LEXICAL}, which reads English; broken text is "
        "neither a refusal nor an answer. Every strategy was tried at strength 1 alone."
    )
    if _ADAPTERS in found.bundles:
        yield (
            f"{_ADAPTERS} has one threshold: the largest of its groups', so that each keeps the "
            "budget."
        )
    left_out = (f"{name} is left out: {why}" for name, why in found.left_out.items())
    # Reasons are words of libraries, too: a page shows them on a line of bounded length.
    yield from (" ".join(note.split())[:_LONGEST_NOTE] for note in (*found.notes, *left_out))
