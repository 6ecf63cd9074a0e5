"""The sections of a report: what each shows of the measurements."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from refusal_steering.report import tables
from refusal_steering.report.measurements import Measurements
from refusal_steering.report.pictures import (
    Picture,
    coefficient_picture,
    dissolution_picture,
    projection_picture,
    prompt_risk_picture,
    roc_picture,
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
    table: Table | None = None
    paragraphs: tuple[str, ...] = ()

    @property
    def measured(self) -> bool:
        """Whether there is anything to show."""
        return bool(self.pictures or self.table or self.paragraphs)


def sections(m: Measurements) -> Iterator[Section]:
    """All sections in reading order: results first, then their reasons, then the record."""
    yield Section("bundles", "Bundles", table=_table(tables.bundle_table, m.bundles))
    yield Section("evaluation", "Evaluation", table=_table(tables.evaluation_table, m.evaluation))
    yield Section("trade-off", "Trade-off", _picture(trade_off_picture, "trade-off", m.trade_off))
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
    yield Section("roc", "Separation", _picture(roc_picture, "roc", m.roc))
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
    yield Section("calibration", "Calibration", table=_table(tables.conformal_table, m.calibration))
    yield Section("timings", "Timings", table=_table(tables.timing_table, m.timings))
    yield Section("notes", "Notes", paragraphs=m.notes)


def _projections(m: Measurements) -> Iterator[Picture]:
    for layer in sorted({group.layer for group in m.projections}):
        groups = [group for group in m.projections if group.layer == layer]
        yield projection_picture(f"projections-{layer}", layer, groups)


def _picture(
    draw: Callable[[str, Sequence[T]], Picture], slug: str, measured: Sequence[T]
) -> tuple[Picture, ...]:
    return (draw(slug, measured),) if measured else ()


def _table(make: Callable[[Sequence[T]], Table], measured: Sequence[T]) -> Table | None:
    return make(measured) if measured else None
