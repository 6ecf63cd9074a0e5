"""The sections of a report: what each shows of the measurements."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from refusal_steering.report import tables
from refusal_steering.report.doubts import with_doubts
from refusal_steering.report.measurements import Measurements
from refusal_steering.report.pictures import (
    Picture,
    coefficient_picture,
    cosine_picture,
    dissolution_picture,
    projection_picture,
    prompt_risk_picture,
    roc_picture,
    separability_picture,
    shrinkage_picture,
    trade_off_picture,
)
from refusal_steering.report.tables import Table

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with pictures, tables and paragraphs; without any of them, not measured."""

    slug: str
    heading: str
    pictures: tuple[Picture, ...] = ()
    tables: tuple[Table, ...] = ()
    paragraphs: tuple[str, ...] = ()

    @property
    def measured(self) -> bool:
        """Whether there is anything to show."""
        return bool(self.pictures or self.tables or self.paragraphs)


def sections(m: Measurements) -> Iterator[Section]:
    """All sections in reading order: results first, then their reasons, then the record."""
    m = with_doubts(m)
    if m.about == "build":
        yield from _results(m)
    yield from _phenomena(m)
    if m.about == "build":
        yield from _thresholds(m)
        yield Section("timings", "Timings", tables=_table(tables.timing_table, m.timings))
    yield Section("notes", "Notes", paragraphs=m.notes)


def _results(m: Measurements) -> Iterator[Section]:
    yield Section("bundles", "Bundles", tables=_table(tables.bundle_table, m.bundles))
    yield Section("evaluation", "Evaluation", tables=tuple(tables.evaluation_tables(m.evaluation)))
    yield Section("trade-off", "Trade-off", _picture(trade_off_picture, "trade-off", m.trade_off))


def _phenomena(m: Measurements) -> Iterator[Section]:
    yield Section("projections", "Projections", tuple(_projections(m)))
    yield Section(
        "dissolution", "Dissolution", _picture(dissolution_picture, "dissolution", m.dissolution)
    )
    yield Section(
        "shrinkage",
        "Shrinkage",
        _picture(shrinkage_picture, "shrinkage", m.shrinkage),
        _table(tables.shrinkage_table, m.shrinkage),
    )
    yield Section("cosines", "Cosines", tuple(_cosines(m)))
    yield Section("roc", "Separation", _picture(roc_picture, "roc", m.roc))
    yield Section(
        "separability",
        "Areas",
        _picture(separability_picture, "separability", m.separability),
        (*_table(tables.heard_table, m.heard), *_table(tables.area_table, m.separability)),
    )


def _thresholds(m: Measurements) -> Iterator[Section]:
    yield Section(
        "coefficients",
        "Coefficients",
        _picture(coefficient_picture, "coefficients", m.coefficients),
    )
    yield Section(
        "prompt-risks",
        "Risk along prompts",
        _picture(prompt_risk_picture, "prompt-risks", m.prompt_risks),
    )
    yield Section(
        "calibration", "Calibration", tables=_table(tables.conformal_table, m.calibration)
    )


def _projections(m: Measurements) -> Iterator[Picture]:
    for layer in sorted({group.layer for group in m.projections}):
        groups = [group for group in m.projections if group.layer == layer]
        yield projection_picture(f"projections-{layer}", layer, groups)


def _cosines(m: Measurements) -> Iterator[Picture]:
    """Of the layers whose single positions are shown; a matrix of one form says nothing."""
    shown = {group.layer for group in m.projections}
    for matrix in m.cosines:
        if matrix.layer in shown and len(matrix.forms) > 1:
            yield cosine_picture(f"cosines-{matrix.layer}", matrix)


def _picture(
    draw: Callable[[str, Sequence[T]], Picture], slug: str, measured: Sequence[T]
) -> tuple[Picture, ...]:
    return (draw(slug, measured),) if measured else ()


def _table(make: Callable[[Sequence[T]], Table], measured: Sequence[T]) -> tuple[Table, ...]:
    return (make(measured),) if measured else ()
