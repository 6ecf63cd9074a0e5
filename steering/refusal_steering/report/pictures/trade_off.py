"""Refusals gained and answers lost as the strength changes."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from refusal_steering.report.outcomes import TradeOff, TradeOffPoint
from refusal_steering.report.pictures.canvas import Picture, canvas
from refusal_steering.report.pictures.palette import series


def trade_off_picture(slug: str, curves: Sequence[TradeOff]) -> Picture:
    """A line for each policy through its strengths, the first and the last of them named."""
    with canvas(slug, 4.2) as sheet:
        (axes,) = sheet.panels()
        for place, curve in enumerate(curves):
            colour, mark = series(place)
            points = sorted(curve.points, key=lambda point: point.strength)
            (line,) = axes.plot(
                [100 * point.bar for point in points],
                [100 * point.rsr for point in points],
                marker=mark,
                color=colour.light,
            )
            for point in dict.fromkeys((points[0], points[-1])):
                _name(axes, point, colour.light)
            sheet.legend[curve.policy] = line
        axes.margins(0.09)
        axes.set_xlabel("harmless requests answered, BAR (%)")
        axes.set_ylabel("harmful requests refused, RSR (%)")
        return sheet.finish(
            "Refusing against answering as strength moves",
            "Up is safer, right is more useful; the numbers are the lowest and the highest "
            "strength of a line, and the better policy lies nearer to the upper right corner.",
        )


def _name(axes: Axes, point: TradeOffPoint, colour: str) -> None:
    axes.annotate(
        f"{point.strength:g}",
        (100 * point.bar, 100 * point.rsr),
        xytext=(5, 5),
        textcoords="offset points",
        color=colour,
    )
