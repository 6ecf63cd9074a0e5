"""How long and how far turned each form's refusal vector is."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.ticker import MaxNLocator

from refusal_steering.report.phenomena import ShrinkageRow
from refusal_steering.report.pictures.canvas import Picture, canvas
from refusal_steering.report.pictures.palette import FAINT, series


def shrinkage_picture(slug: str, rows: Sequence[ShrinkageRow]) -> Picture:
    """Length above, cosine below, a line for each form over the layers."""
    forms = list(dict.fromkeys(row.form for row in rows))
    with canvas(slug, 4.5) as sheet:
        length, cosine = sheet.panels(2, sharex=True)
        for place, form in enumerate(forms):
            colour, mark = series(place)
            of_form = sorted((row for row in rows if row.form == form), key=lambda row: row.layer)
            layers = [row.layer for row in of_form]
            (line,) = length.plot(
                layers, [_number(row.rho) for row in of_form], marker=mark, color=colour.light
            )
            cosine.plot(
                layers, [_number(row.cosine) for row in of_form], marker=mark, color=colour.light
            )
            sheet.legend[form] = line
        for axes in (length, cosine):
            axes.axhline(1, color=FAINT.light, linestyle="--", linewidth=1)
        length.set_ylim(bottom=0)
        length.set_ylabel("length (plain text = 1)")
        cosine.set_ylabel("cosine to plain text")
        cosine.set_xlabel("decoder layer (counted from 0)")
        cosine.xaxis.set_major_locator(MaxNLocator(integer=True))
        return sheet.finish(
            "Shrinkage of the refusal vector",
            "A form below 1 in the upper panel pushes towards refusal with less force than plain "
            "text, one below 1 in the lower panel pushes in another direction. Few rows overstate "
            "the length and understate the cosine, by their noise.",
        )


def _number(value: float | None) -> float:
    return math.nan if value is None else value
