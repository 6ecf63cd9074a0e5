"""Where single requests lie along the direction of plain text."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from refusal_steering.report.phenomena import Projections
from refusal_steering.report.pictures.canvas import Canvas, Picture, canvas, shown
from refusal_steering.report.pictures.palette import FAINT, LABEL_COLOURS

_LANES = {"harmful": -0.19, "harmless": 0.19}


def projection_picture(slug: str, layer: int, groups: Sequence[Projections]) -> Picture:
    """One row for each form, one tick for each request after ``layer``."""
    forms = list(dict.fromkeys(group.form for group in groups))
    with canvas(slug, 1.2 + 0.5 * len(forms)) as sheet:
        (axes,) = sheet.panels()
        for anchor in (0, 1):
            axes.axvline(anchor, color=FAINT.light, linestyle="--", linewidth=1)
        for group in groups:
            _lane(sheet, axes, forms.index(group.form), group)
        axes.set_yticks(range(len(forms)), [shown(form) for form in forms])
        axes.set_ylim(len(forms) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("position (plain text: 0 to 1)")
        axes.set_ylabel("form")
        return sheet.finish(
            f"Projections after layer {layer}",
            "Each tick is one request: 0 is the mean of harmless plain text, 1 that of harmful. "
            "Bars span the middle half, dots are medians; a form whose two colours overlap cannot "
            "be told apart here.",
        )


def _lane(sheet: Canvas, axes: Axes, row: int, group: Projections) -> None:
    colour, height = LABEL_COLOURS[group.label].light, row + _LANES[group.label]
    # One path for all ticks keeps the page small.
    across = [x for value in group.values for x in (value, value, math.nan)]
    up = [height - 0.13, height + 0.13, math.nan] * len(group.values)
    axes.plot(across, up, color=colour, alpha=0.35, linewidth=0.7)
    low, middle, high = np.quantile(group.values, [0.25, 0.5, 0.75])
    (bar,) = axes.plot([low, high], [height, height], color=colour, linewidth=2.5)
    axes.plot([middle], [height], "o", color=colour, markersize=5.5)
    sheet.legend.setdefault(group.label, bar)
