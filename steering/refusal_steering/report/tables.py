"""The tables of a report, as text in cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from refusal_steering.report.measurements import (
    BundleFacts,
    Conformal,
    Evaluation,
    Refused,
    ShrinkageRow,
    Timing,
)

_DIGEST_SHOWN = 12
_LONG = 16


@dataclass(frozen=True, slots=True)
class Table:
    """A caption, a head, and rows whose first cell names them."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @property
    def long(self) -> bool:
        """Whether the page folds it."""
        return len(self.rows) > _LONG


def bundle_table(bundles: Sequence[BundleFacts]) -> Table:
    """One row for each bundle."""
    return Table(
        f"Bundles of this build; of each digest the first {_DIGEST_SHOWN} figures.",
        ("bundle", "strategy", "digest", "layers", "steered tokens", "gate"),
        tuple(
            (b.name, b.strategy, b.digest[:_DIGEST_SHOWN], spans(b.layers), b.window, b.gate)
            for b in bundles
        ),
    )


def evaluation_table(evaluations: Sequence[Evaluation]) -> Table:
    """One row for each policy and label, one column for each form."""
    forms = list(dict.fromkeys(cell.form for row in evaluations for cell in row.forms))
    rows = []
    for row in evaluations:
        cells = {cell.form: _refused(cell) for cell in row.forms}
        rows.append((row.policy, row.label, *(cells.get(form, "not measured") for form in forms)))
    return Table(
        "Share of requests refused, its interval, and how many were asked. High is right for "
        "harmful requests, low for harmless ones.",
        ("policy", "requests", *forms),
        tuple(rows),
    )


def shrinkage_table(rows: Sequence[ShrinkageRow]) -> Table:
    """One row for each form and layer."""
    return Table(
        "Each form's refusal vector against that of plain text. The last column is the part of "
        "the loss that is length and not direction; it is undefined where nothing is lost.",
        ("form", "layer", "length", "cosine", "projection", "loss in length"),
        tuple(
            (
                row.form,
                str(row.layer),
                number(row.rho),
                number(row.cosine),
                number(row.ratio),
                "undefined" if row.magnitude_share is None else percent(row.magnitude_share),
            )
            for row in rows
        ),
    )


def conformal_table(facts: Sequence[Conformal]) -> Table:
    """One row for each calibrated threshold."""
    return Table(
        "Thresholds set on held-out harmless requests, and what that guarantees.",
        ("policy", "budget", "requests", "threshold", "guarantee"),
        tuple(
            (f.policy, percent(f.budget), str(f.n), number(f.threshold), f.guarantee) for f in facts
        ),
    )


def timing_table(timings: Sequence[Timing]) -> Table:
    """One row for each stage, and their sum."""
    stages = tuple((timing.stage, f"{timing.seconds:.1f}") for timing in timings)
    total = ("all stages", f"{sum(timing.seconds for timing in timings):.1f}")
    return Table("Time of each stage of the build.", ("stage", "seconds"), (*stages, total))


def spans(layers: Sequence[int]) -> str:
    """Layer numbers with runs joined: ``3, 5-8``."""
    runs: list[list[int]] = []
    for layer in sorted(set(layers)):
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ", ".join(str(r[0]) if len(r) == 1 else f"{r[0]}-{r[-1]}" for r in runs)


def number(value: float | None) -> str:
    """Three figures, or a word where there is no number."""
    return "undefined" if value is None else f"{value:.3g}"


def percent(share: float) -> str:
    """A share in percent with one decimal."""
    return _together(f"{100 * share:.1f} %")


def _refused(cell: Refused) -> str:
    interval = f"({100 * cell.low:.1f} to {100 * cell.high:.1f})"
    return "\n".join((percent(cell.share), _together(interval), _together(f"n = {cell.n}")))


def _together(text: str) -> str:
    return text.replace(" ", "\u00a0")
