"""From a drawing to SVG that stands inside a page: no ids of its own, no fonts, no colours."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from refusal_steering.report.files import write_bytes
from refusal_steering.report.pictures.palette import FAINT, INK, named

_WIDTH = 5.2
_LONGEST_LABEL = 28
_UNDATED: dict[str, Any] = dict.fromkeys(("Creator", "Date", "Format", "Type"))
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9.5,
    # Names come from outside; a dollar sign in one is no formula.
    "text.parse_math": False,
    "path.simplify": False,
    "text.color": INK.light,
    "axes.labelcolor": INK.light,
    "xtick.labelcolor": INK.light,
    "ytick.labelcolor": INK.light,
    "xtick.color": FAINT.light,
    "ytick.color": FAINT.light,
    "axes.edgecolor": FAINT.light,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": FAINT.light,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.6,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "lines.linewidth": 1.5,
    "lines.markersize": 4,
    "legend.frameon": False,
    "legend.handlelength": 2.2,
}


@dataclass(frozen=True, slots=True)
class Picture:
    """A finished picture: ``title`` and ``caption`` are plain text, ``svg`` is markup."""

    title: str
    caption: str
    svg: Markup


@dataclass(slots=True)
class Canvas:
    """A figure being drawn; ``slug`` makes its ids unique within a page."""

    slug: str
    figure: Figure
    legend: dict[str, Any] = field(default_factory=dict)

    def panels(self, rows: int = 1, **sharing: Any) -> list[Axes]:
        """Empty axes, one below the other."""
        return list(self.figure.subplots(rows, 1, squeeze=False, **sharing)[:, 0])

    def finish(self, title: str, caption: str) -> Picture:
        """The picture, with a legend below if there is anything to name."""
        if self.legend:
            self.figure.legend(
                list(self.legend.values()),
                [shown(name) for name in self.legend],
                loc="outside lower center",
                ncols=_columns(list(self.legend)),
            )
        return Picture(title, caption, _inline(self.figure, self.slug, f"{title}. {caption}"))

    def save(self, path: Path) -> None:
        """Write the figure to ``path`` on white, the same bytes for the same figure."""
        self.figure.patch.set(alpha=1, facecolor="white")
        buffer, kind = io.BytesIO(), path.suffix.removeprefix(".")
        undated = {"svg": _UNDATED, "png": {"Software": None}}
        self.figure.savefig(buffer, format=kind, dpi=160, metadata=undated[kind])
        write_bytes(path, buffer.getvalue())


@contextmanager
def canvas(slug: str, height: float) -> Iterator[Canvas]:
    """A canvas ``height`` inches high, under the house style until the block ends."""
    style: Any = {**_STYLE, "svg.hashsalt": slug}
    with mpl.rc_context(style), warnings.catch_warnings():
        # The page's fonts draw the text; what matplotlib's own font lacks does not matter.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        figure.patch.set_alpha(0)
        yield Canvas(slug, figure)


def shown(name: str) -> str:
    """A name short enough for a picture; a leading underscore would hide it from legends."""
    short = name if len(name) <= _LONGEST_LABEL else name[: _LONGEST_LABEL - 1] + "…"
    return f"\u200b{short}" if short.startswith("_") else short


def _columns(names: Sequence[str]) -> int:
    widest = max(len(shown(name)) for name in names)
    return max(1, min(len(names), 4, 68 // (widest + 6)))


def _inline(figure: Figure, slug: str, description: str) -> Markup:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=_UNDATED)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r'\b(id="|href="#)', rf"\g<1>{slug}-", svg).replace("url(#", f"url(#{slug}-")
    view = re.search(r'viewBox="[^"]*"', svg)
    assert view is not None, "matplotlib gives every figure a viewBox"
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'{view.group()} role="img" aria-label="{escape(description)}">'
    )
    # Safe: matplotlib escapes the text it draws, and the description is escaped above.
    return Markup(head + named(svg[svg.index(">") + 1 :].strip()))
