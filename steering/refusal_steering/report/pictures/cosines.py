"""How far the refusal vectors of forms agree with each other."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from refusal_steering.report.phenomena import CosineMatrix
from refusal_steering.report.pictures.canvas import Picture, canvas, shown
from refusal_steering.report.pictures.palette import FAINT, LABEL_COLOURS

# Values are written over the fields, which must not drown them.
_DARKEST = 0.55


def cosine_picture(slug: str, matrix: CosineMatrix) -> Picture:
    """A field for each pair of forms; on the diagonal, two halves of the same form."""
    names = [shown(form) for form in matrix.forms]
    with canvas(slug, 1.6 + 0.42 * len(names)) as sheet:
        (axes,) = sheet.panels()
        for row, values in enumerate(matrix.between):
            for column, value in enumerate(values):
                _field(axes, row, column, matrix.halves[row] if row == column else value)
        axes.set_xlim(-0.5, len(names) - 0.5)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xticks(range(len(names)), names, rotation=40, ha="right")
        axes.set_yticks(range(len(names)), names)
        axes.grid(visible=False)
        return sheet.finish(
            f"Cosines between refusal vectors after layer {matrix.layer}",
            "1 is the same direction, 0 has nothing in common. On the diagonal stand two halves of "
            "a form's own requests: where they do not agree with each other, the form's direction "
            "is noise, and its other cosines say nothing.",
        )


def _field(axes: Axes, row: int, column: int, value: float | None) -> None:
    place = (column - 0.5, row - 0.5)
    width, over = (1.6, 3) if row == column else (0.4, 2)
    if value is not None:
        colour = LABEL_COLOURS["harmless" if value >= 0 else "harmful"].light
        axes.add_patch(
            Rectangle(place, 1, 1, facecolor=colour, alpha=_DARKEST * min(1.0, abs(value)))
        )
    axes.add_patch(
        Rectangle(place, 1, 1, fill=False, edgecolor=FAINT.light, linewidth=width, zorder=over)
    )
    axes.text(column, row, "none" if value is None else f"{value:.2f}", ha="center", va="center")
