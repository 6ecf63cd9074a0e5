"""The coefficients that requests earn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from refusal_steering.report.outcomes import Coefficients
from refusal_steering.report.pictures.canvas import Picture, canvas, shown
from refusal_steering.report.pictures.palette import LABEL_COLOURS

_BINS = 24


def coefficient_picture(slug: str, groups: Sequence[Coefficients]) -> Picture:
    """A histogram for each form, both labels over each other."""
    forms = list(dict.fromkeys(group.form for group in groups))
    edges = np.histogram_bin_edges([x for group in groups for x in group.values], bins=_BINS)
    with canvas(slug, 1.2 + 0.95 * len(forms)) as sheet:
        panels = sheet.panels(len(forms), sharex=True, sharey=True)
        for group in groups:
            axes, colour = panels[forms.index(group.form)], LABEL_COLOURS[group.label].light
            heights = 100 * np.histogram(group.values, edges)[0] / len(group.values)
            axes.stairs(heights, edges, fill=True, color=colour, alpha=0.25)
            outline = axes.stairs(heights, edges, color=colour, linewidth=1.3)
            sheet.legend.setdefault(group.label, outline)
        for axes, form in zip(panels, forms, strict=True):
            axes.set_title(shown(form))
            axes.set_ylim(bottom=0)
        panels[-1].set_xlabel("coefficient (length added to the residual stream)")
        sheet.figure.supylabel("share of requests (%)", fontsize="medium")
        return sheet.finish(
            "Coefficients that requests earn",
            "Harmful requests should lie far to the right and harmless ones at 0; where the two "
            "colours overlap, harmless requests are steered as hard as harmful ones.",
        )
