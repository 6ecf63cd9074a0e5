"""How well each form's requests are told apart, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.ticker import MaxNLocator

from refusal_steering.report.phenomena import Direction, Separability
from refusal_steering.report.pictures.canvas import Picture, canvas
from refusal_steering.report.pictures.palette import FAINT, series

_PANELS: tuple[tuple[Direction, str], ...] = (
    ("own", "along the form's own direction"),
    ("plain text", "along the direction of plain text"),
)


def separability_picture(slug: str, curves: Sequence[Separability]) -> Picture:
    """A panel for each direction, a line with its interval for each form."""
    forms = list(dict.fromkeys(curve.form for curve in curves))
    panels = [(along, title) for along, title in _PANELS if any(c.along == along for c in curves)]
    with canvas(slug, 0.9 + 2.1 * len(panels)) as sheet:
        for axes, (along, title) in zip(
            sheet.panels(len(panels), sharex=True, sharey=True), panels, strict=True
        ):
            axes.axhline(0.5, color=FAINT.light, linestyle="--", linewidth=1)
            for curve in (curve for curve in curves if curve.along == along):
                colour, mark = series(forms.index(curve.form))
                axes.fill_between(
                    curve.layers,
                    _numbers(curve.low),
                    _numbers(curve.high),
                    color=colour.light,
                    alpha=0.12,
                    linewidth=0,
                )
                (line,) = axes.plot(
                    curve.layers, _numbers(curve.areas), marker=mark, color=colour.light
                )
                sheet.legend.setdefault(curve.form, line)
            axes.set_title(title)
            axes.set_ylabel("area")
        axes.set_ylim(top=1.02)
        axes.set_xlabel("decoder layer (counted from 0)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        return sheet.finish(
            "Areas under the ROC curve by layer",
            "Chance that a harmful request lies above a harmless one of its form, with 95 % "
            "intervals; 0.5 is chance, and a form whose band holds it is not told apart. A form "
            "that is told apart above and not below has a direction of its own.",
        )


def _numbers(values: Sequence[float | None]) -> list[float]:
    return [math.nan if value is None else value for value in values]
