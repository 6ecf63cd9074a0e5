"""The risk that a gate sees along prompts, token by token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from refusal_steering.report.measurements import PromptRisk
from refusal_steering.report.pictures.canvas import Canvas, Picture, canvas, shown
from refusal_steering.report.pictures.palette import FAINT, LABEL_COLOURS

_TITLE = "Risk along the prompt"
_CAPTION = (
    "A bar for every token that the gate reads, 1 is harm; the highest is named, and the request "
    "itself is shaded. The dashed line is the risk of a prompt whose score is the threshold; a "
    "single token above it need not open a gate that pools attention too."
)


def prompt_risk_picture(slug: str, prompts: Sequence[PromptRisk]) -> Picture:
    """A panel for each prompt, a bar for each token."""
    with _drawn(slug, prompts) as sheet:
        return sheet.finish(_TITLE, _CAPTION)


def prompt_risk_file(prompts: Sequence[PromptRisk], path: Path) -> None:
    """The same as a picture of its own, on white, of the kind that the name of ``path`` says.

    Raises :class:`~refusal_steering.errors.MeasurementsError` where it cannot be written.
    """
    with _drawn("prompt-risks", prompts) as sheet:
        sheet.save(path)


@contextmanager
def _drawn(slug: str, prompts: Sequence[PromptRisk]) -> Iterator[Canvas]:
    with canvas(slug, 0.6 + 1.35 * len(prompts)) as sheet:
        panels = sheet.panels(len(prompts), sharey=True)
        for axes, prompt in zip(panels, prompts, strict=True):
            _draw(axes, prompt)
        panels[-1].set_xlabel("token, counted from the first one that is read")
        sheet.figure.supylabel("risk", fontsize="medium")
        yield sheet


def _draw(axes: Axes, prompt: PromptRisk) -> None:
    if prompt.request is not None:
        start, end = prompt.request
        axes.axvspan(start - 0.5, end - 0.5, color=FAINT.light, alpha=0.2, linewidth=0)
    places = range(len(prompt.risks))
    axes.bar(places, prompt.risks, width=1.0, color=LABEL_COLOURS[prompt.label].light)
    axes.axhline(prompt.threshold, color=FAINT.light, linestyle="--", linewidth=1)
    axes.set_title(f"{prompt.label}, {shown(prompt.form)}: gate open by {prompt.opening:.2f}")
    axes.set_ylim(0, 1.25)
    axes.set_yticks((0, 0.5, 1))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(x=0.01)
    most = max(places, key=lambda place: prompt.risks[place])
    axes.annotate(
        shown(prompt.tokens[most].strip() or prompt.tokens[most]),
        (most, prompt.risks[most]),
        xytext=(0, 2),
        textcoords="offset points",
        # Names at the edges stay inside the panel.
        ha="left" if most < len(places) / 2 else "right",
        fontsize="small",
    )
