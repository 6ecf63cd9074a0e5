"""The tables of a report, as text in cells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from refusal_steering.report.measurements import BundleFacts, Conformal, Heard, Timing
from refusal_steering.report.outcomes import Evaluation, Outcome, Refused
from refusal_steering.report.phenomena import Separability, ShrinkageRow

_DIGEST_SHOWN = 12
_LONG = 16
_OUTCOMES: dict[Outcome, str] = {
    "refused": "Share of requests refused, its interval, and how many were asked. High is right "
    "for harmful requests, low for harmless ones.",
    "answered": "Share of requests with an answer that is neither a refusal nor empty nor broken. "
    "High is right for harmless requests.",
    "changed": "Share of answers that are not the unsteered ones. Low is right for harmless "
    "requests; a model asked twice under load may differ by itself.",
    "touched": "Share of requests whose last prompt token is moved at all, by the unsteered rows. "
    "Low is right for harmless requests.",
}


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


def evaluation_tables(evaluations: Sequence[Evaluation]) -> Iterator[Table]:
    """A table for each outcome that was counted."""
    for outcome, caption in _OUTCOMES.items():
        if rows := [row for row in evaluations if row.outcome == outcome]:
            yield _evaluation_table(rows, caption)


def _evaluation_table(evaluations: Sequence[Evaluation], caption: str) -> Table:
    """One row for each policy and label, one column for each form."""
    forms = list(dict.fromkeys(cell.form for row in evaluations for cell in row.forms))
    rows = []
    for row in evaluations:
        cells = {cell.form: _refused(cell) for cell in row.forms}
        rows.append((row.policy, row.label, *(cells.get(form, "not measured") for form in forms)))
    return Table(caption, ("policy", "requests", *forms), tuple(rows))


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


def heard_table(forms: Sequence[Heard]) -> Table:
    """One row for each form."""
    return Table(
        "Which forms the build learnt from: the area along a form's own direction on tuning rows, "
        "and its interval. A form that is not told apart is noise to the model.",
        ("form", "layer", "area", "harmful", "harmless", "a direction is learnt"),
        tuple(
            (
                form.form,
                str(form.layer),
                _area(form.area, form.low, form.high),
                str(form.harmful),
                str(form.harmless),
                "yes" if form.learnt else "no",
            )
            for form in forms
        ),
    )


def area_table(curves: Sequence[Separability]) -> Table:
    """One row for each form, direction and layer."""
    return Table(
        "Areas under the ROC curve of rows that took no part in the direction, with 95 % "
        "intervals (a score interval: Newcombe 2006).",
        ("form", "direction", "layer", "area", "harmful", "harmless"),
        tuple(
            (
                curve.form,
                curve.along,
                str(layer),
                _area(area, low, high),
                str(curve.harmful),
                str(curve.harmless),
            )
            for curve in curves
            for layer, area, low, high in zip(
                curve.layers, curve.areas, curve.low, curve.high, strict=True
            )
        ),
    )


def conformal_table(facts: Sequence[Conformal]) -> Table:
    """One row for each calibrated threshold."""
    return Table(
        "Thresholds set on harmless requests that no training met, and what that guarantees.",
        ("policy", "requests of", "budget", "requests", "threshold", "guarantee"),
        tuple(
            (f.policy, f.form, percent(f.budget), str(f.n), number(f.threshold), f.guarantee)
            for f in facts
        ),
    )


def timing_table(timings: Sequence[Timing]) -> Table:
    """One row for each stage, and their sum."""
    known = any(timing.peak_mb is not None for timing in timings)
    total = (f"{sum(timing.seconds for timing in timings):.1f}",)
    rows = [(timing.stage, *_timing(timing, known=known)) for timing in timings]
    return Table(
        "Time of each stage of the build"
        + (
            ", and the most memory that this process had by its end; an engine in a process of "
            "its own is not counted."
            if known
            else "."
        ),
        ("stage", "seconds", "peak MB") if known else ("stage", "seconds"),
        (*rows, ("all stages", *total, *([""] if known else []))),
    )


def _timing(timing: Timing, *, known: bool) -> tuple[str, ...]:
    seconds = f"{timing.seconds:.1f}"
    if not known:
        return (seconds,)
    return seconds, "not measured" if timing.peak_mb is None else f"{timing.peak_mb:.0f}"


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


def _area(area: float | None, low: float | None, high: float | None) -> str:
    if area is None or low is None or high is None:
        return "undefined"
    return _together(f"{area:.3f} ({low:.2f} to {high:.2f})")


def _refused(cell: Refused) -> str:
    interval = f"({100 * cell.low:.1f} to {100 * cell.high:.1f})"
    return "\n".join((percent(cell.share), _together(interval), _together(f"n = {cell.n}")))


def _together(text: str) -> str:
    return text.replace(" ", "\u00a0")
