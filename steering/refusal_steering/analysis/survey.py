"""All phenomena of residual rows, read one layer at a time and measured on rows kept apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from refusal_steering.analysis.areas import best_layer
from refusal_steering.analysis.cosines import Cosines, cosines_of, half_cosine
from refusal_steering.analysis.division import Division, How, divided, folded
from refusal_steering.analysis.layered import LayeredRows
from refusal_steering.analysis.phenomena import LabelledRows, RowLabels, TextFrame
from refusal_steering.analysis.separability import auroc

# The last layers write the next token; none of them is chosen.
_USABLE = 0.8


@dataclass(frozen=True, slots=True, eq=False)
class Survey:
    """What L layers say of M measured rows, whose ``labels`` are known.

    ``text`` [L, M] are positions along the direction of the reference form, ``own`` [L, M] those
    along each form's own direction, NaN for forms that are not ``complete``. ``learnt`` are the
    labels of the rows that made the directions, ``vectors`` their refusal vectors [L, H] by
    complete form, ``cosines`` one for each layer. ``chosen`` is the place in ``layers`` where the
    learning rows of the reference form come apart best, by cross-validation among themselves.
    """

    layers: tuple[int, ...]
    how: How
    labels: RowLabels
    text: Tensor
    own: Tensor
    complete: tuple[str, ...]
    learnt: RowLabels
    vectors: Mapping[str, Tensor]
    cosines: tuple[Cosines, ...]
    chosen: int

    @property
    def comparable(self) -> Tensor:
        """Mask [M] of the measured rows of complete forms."""
        return torch.tensor([form in self.complete for form in self.labels.forms])

    @property
    def incomplete(self) -> tuple[str, ...]:
        """The measured forms without a direction of their own."""
        return tuple(form for form in self.labels.form_names if form not in self.complete)


@dataclass(frozen=True, slots=True, eq=False)
class _Layer:
    """One layer's part of a survey."""

    text: Tensor
    own: Tensor
    vectors: Mapping[str, Tensor]
    halves: Mapping[str, float]
    choosing: float


def survey(rows: LayeredRows, reference: str) -> Survey:
    """Read every layer of ``rows`` once; ``reference`` is the form that others are measured by.

    Raises :class:`~refusal_steering.analysis.phenomena.PhenomenaError` where it has too few rows.
    """
    labels = RowLabels(rows.harmful, rows.groups, reference)
    division = divided(labels, rows.splits)
    complete = division.complete(labels)
    choosing = folded(labels, division.learning & labels.of_form(reference))
    layers = [
        _layer(rows.layer(index), labels, division, choosing, complete) for index in rows.layers
    ]
    return Survey(
        layers=tuple(rows.layers),
        how=division.how,
        labels=labels.chosen(division.measured),
        text=torch.stack([layer.text for layer in layers]),
        own=torch.stack([layer.own for layer in layers]),
        complete=complete,
        learnt=labels.chosen(division.learning),
        vectors={form: torch.stack([layer.vectors[form] for layer in layers]) for form in complete},
        cosines=tuple(cosines_of(layer.vectors, layer.halves) for layer in layers),
        chosen=best_layer(torch.tensor([layer.choosing for layer in layers]), _USABLE),
    )


def _layer(
    hidden: Tensor,
    labels: RowLabels,
    division: Division,
    choosing: Division,
    complete: tuple[str, ...],
) -> _Layer:
    text, own = _placed(hidden, labels, division, complete)
    tried, _ = _placed(hidden, labels, choosing, ())
    learnt = _sample(hidden, labels, division.learning)
    return _Layer(
        text=text[division.measured],
        own=own[division.measured],
        vectors={form: learnt.vector(form)[0] for form in complete},
        halves={form: half_cosine(learnt.rows[0], learnt.labels, form) for form in complete},
        choosing=auroc(tried[choosing.measured], labels.harmful[choosing.measured]),
    )


def _placed(
    hidden: Tensor, labels: RowLabels, division: Division, complete: tuple[str, ...]
) -> tuple[Tensor, Tensor]:
    """Positions [N] along the reference's direction and along each form's own, NaN elsewhere."""
    text = torch.full((len(labels.forms),), torch.nan, dtype=torch.float64)
    own = text.clone()
    for learn, measured in division.pairs:
        sample = _sample(hidden, labels, learn)
        text[measured] = TextFrame.of(sample).place(hidden[None, measured])[0]
        for form in complete:
            of_form = measured & labels.of_form(form)
            own[of_form] = TextFrame.of_form(sample, form).place(hidden[None, of_form])[0]
    return text, own


def _sample(hidden: Tensor, labels: RowLabels, mask: Tensor) -> LabelledRows:
    kept = labels.chosen(mask)
    return LabelledRows(hidden[None, mask], kept.harmful, kept.forms, kept.reference)
