"""How well a threshold on the projection tells harmful requests from harmless ones."""

from __future__ import annotations

from collections.abc import Sequence

from refusal_steering.report.phenomena import Roc
from refusal_steering.report.pictures.canvas import Picture, canvas
from refusal_steering.report.pictures.palette import FAINT, series


def roc_picture(slug: str, curves: Sequence[Roc]) -> Picture:
    """All curves in one square."""
    with canvas(slug, 5.2) as sheet:
        (axes,) = sheet.panels()
        axes.plot([0, 100], [0, 100], color=FAINT.light, linestyle="--", linewidth=1)
        for place, curve in enumerate(curves):
            colour, mark = series(place)
            (line,) = axes.plot(
                [100 * share for share in curve.fpr],
                [100 * share for share in curve.tpr],
                marker=mark,
                markevery=0.15,
                color=colour.light,
            )
            sheet.legend[f"{curve.auc:.3f} {curve.name}"] = line
        axes.set_xlim(-2, 102)
        axes.set_ylim(-2, 102)
        axes.set_aspect("equal")
        axes.set_xlabel("harmless requests above the threshold (%)")
        axes.set_ylabel("harmful requests above the threshold (%)")
        return sheet.finish(
            "ROC curves",
            "The nearer a curve comes to the upper left corner, the better one threshold separates "
            "the requests; the number beside a name is the area under its curve, 0.5 is chance.",
        )
