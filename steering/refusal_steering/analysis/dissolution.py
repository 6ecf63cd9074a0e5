"""Dissolution: where along the layers the harm in a request fades from the residual stream."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from refusal_steering.analysis.phenomena import (
    LabelledRows,
    RowLabels,
    TextFrame,
    floats,
    label_of,
)
from refusal_steering.prompts.contrast_set import Label


@dataclass(frozen=True, slots=True)
class DissolutionCurve:
    """Mean position of ``items`` rows of a form and label, one number per layer.

    0 is the mean of harmless, 1 that of harmful plain text (arXiv 2602.10161, equation 5).
    """

    form: str
    label: Label
    items: int
    positions: tuple[float, ...]


def dissolution(
    sample: LabelledRows, frame: TextFrame | None = None
) -> tuple[DissolutionCurve, ...]:
    """A curve for each form and label that ``sample`` has; ``frame`` is the sample's own if None.

    NaN in a layer where the frame's two means are the same.
    """
    return dissolution_at(sample.labels, (frame or TextFrame.of(sample)).place(sample.rows))


def dissolution_at(labels: RowLabels, places: Tensor) -> tuple[DissolutionCurve, ...]:
    """The same for rows whose positions [L, N] are known."""
    return tuple(
        DissolutionCurve(form, label_of(harmful), int(mask.sum()), floats(places[:, mask].mean(-1)))
        for form in labels.form_names
        for harmful in (True, False)
        if bool((mask := labels.mask(form, harmful)).any())
    )
