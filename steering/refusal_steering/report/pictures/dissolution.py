"""How the mean position of each form moves from layer to layer."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.ticker import MaxNLocator

from refusal_steering.report.phenomena import Dissolution
from refusal_steering.report.pictures.canvas import Picture, canvas
from refusal_steering.report.pictures.palette import FAINT, series


def dissolution_picture(slug: str, curves: Sequence[Dissolution]) -> Picture:
    """Harmful requests above, harmless ones below, a line for each form."""
    forms = list(dict.fromkeys(curve.form for curve in curves))
    labels = sorted({curve.label for curve in curves})
    with canvas(slug, 0.9 + 1.8 * len(labels)) as sheet:
        for axes, label in zip(sheet.panels(len(labels), sharex=True), labels, strict=True):
            for anchor in (0, 1):
                axes.axhline(anchor, color=FAINT.light, linestyle="--", linewidth=1)
            for curve in (curve for curve in curves if curve.label == label):
                colour, mark = series(forms.index(curve.form))
                values = [math.nan if p is None else p for p in curve.positions]
                (line,) = axes.plot(curve.layers, values, marker=mark, color=colour.light)
                sheet.legend.setdefault(curve.form, line)
            axes.set_title(f"{label} requests")
            axes.set_ylabel("mean position")
        axes.set_xlabel("decoder layer (counted from 0)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        return sheet.finish(
            "Dissolution across layers",
            "Mean position per layer, 0 at the mean of harmless and 1 at that of harmful plain "
            "text: a harmful form that falls away from 1 loses its harm on the way up, and a "
            "harmless one that rises from 0 begins to look harmful.",
        )
