"""Labelled residual rows, and the frame of plain text in which their phenomena are measured."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from refusal_steering.errors import SteeringError
from refusal_steering.prompts.contrast_set import Label


class PhenomenaError(SteeringError):
    """Residual rows from which a measure cannot be taken."""

    code = "invalid_residual_rows"


@dataclass(frozen=True, slots=True, eq=False)
class RowLabels:
    """What is known of N rows: ``harmful`` is a bool tensor [N], ``forms`` names each row's form.

    ``reference`` is the form all others are measured against.
    """

    harmful: Tensor
    forms: tuple[str, ...]
    reference: str = "plain"

    def __post_init__(self) -> None:
        items = len(self.forms)
        if self.harmful.dtype != torch.bool or list(self.harmful.shape) != [items]:
            raise PhenomenaError(
                f"the labels of {items} rows must be bool [{items}], not "
                f"{self.harmful.dtype} {list(self.harmful.shape)}"
            )

    @property
    def form_names(self) -> tuple[str, ...]:
        """The forms, each once, the reference first, then as they appear."""
        return tuple(dict.fromkeys((self.reference, *self.forms)))

    def of_form(self, form: str) -> Tensor:
        """Mask [N] of the rows of one form."""
        found = torch.tensor([name == form for name in self.forms], dtype=torch.bool)
        return found.to(self.harmful.device)

    def mask(self, form: str, harmful: bool) -> Tensor:
        """Mask [N] of the rows of one form and label; perhaps there are none."""
        return self.of_form(form) & (self.harmful == harmful)

    def members(self, form: str, harmful: bool) -> Tensor:
        """Mask [N] of the rows of one form and label; raises where there are none."""
        mask = self.mask(form, harmful)
        if not bool(mask.any()):
            raise PhenomenaError(
                f"form {form!r} has no {label_of(harmful)} rows; collect some, or leave the form "
                f"out of this measure"
            )
        return mask

    def chosen(self, mask: Tensor) -> RowLabels:
        """Of the rows in ``mask`` [N] alone."""
        kept = mask.tolist()
        forms = tuple(form for form, keep in zip(self.forms, kept, strict=True) if keep)
        return RowLabels(self.harmful[mask], forms, self.reference)


@dataclass(frozen=True, slots=True, eq=False)
class LabelledRows:
    """Residual rows [L, N, H] after each decoder layer at the last prompt token.

    ``harmful`` is a bool tensor [N], ``forms`` names the form of each row (how the request was
    sent: plain, in a picture, ...). ``reference`` is the form all others are measured against; it
    must have rows of both labels.
    """

    rows: Tensor
    harmful: Tensor
    forms: tuple[str, ...]
    reference: str = "plain"

    def __post_init__(self) -> None:
        if self.rows.ndim != 3 or not self.rows.is_floating_point():
            raise PhenomenaError(
                f"residual rows must be floats [layers, items, hidden], not "
                f"{self.rows.dtype} {list(self.rows.shape)}"
            )
        items = self.rows.shape[1]
        if len(self.forms) != items:
            raise PhenomenaError(f"{items} rows need {items} form names, not {len(self.forms)}")
        labels = self.labels
        if not bool(torch.isfinite(self.rows).all()):
            raise PhenomenaError("residual rows hold NaN or infinity; collect them again")
        for harmful in (True, False):
            labels.members(self.reference, harmful)

    @property
    def labels(self) -> RowLabels:
        """What is known of the rows."""
        return RowLabels(self.harmful, self.forms, self.reference)

    def mean(self, form: str, harmful: bool) -> Tensor:
        """Mean rows [L, H] of one form and label, in float64."""
        mask = self.labels.members(form, harmful).to(self.rows.device)
        return torch.stack([layer[mask].double().mean(0) for layer in self.rows])

    def vector(self, form: str) -> Tensor:
        """Raw refusal vectors [L, H] of a form: harmful mean minus harmless mean, in float64."""
        return self.mean(form, True) - self.mean(form, False)


@dataclass(frozen=True, slots=True, eq=False)
class TextFrame:
    """Harmless mean and raw refusal vector, both [L, H], of plain text.

    A frame from the very rows that are then measured flatters them: in thousands of dimensions a
    few hundred rows always come apart. Take it from training rows and measure held-out ones.
    """

    safe_mean: Tensor
    vector: Tensor

    @classmethod
    def of(cls, sample: LabelledRows) -> TextFrame:
        """The frame of a sample's reference form."""
        return cls.of_form(sample, sample.reference)

    @classmethod
    def of_form(cls, sample: LabelledRows, form: str) -> TextFrame:
        """The same from the rows of another form."""
        return cls(sample.mean(form, False), sample.vector(form))

    def place(self, rows: Tensor) -> Tensor:
        """Positions [L, N] of rows [L, N, H]: 0 at the harmless mean of text, 1 at the harmful.

        ``(h - safe_mean) . v / |v|^2`` in float64 (arXiv 2602.10161, equation 5). NaN in a layer
        where both means of the frame are the same.
        """
        if (rows.shape[0], rows.shape[2]) != tuple(self.vector.shape):
            raise PhenomenaError(
                f"rows of {rows.shape[0]} layers and width {rows.shape[2]} do not fit a frame of "
                f"{self.vector.shape[0]} layers and width {self.vector.shape[1]}"
            )
        return torch.stack(
            [
                (layer.double() - mean) @ vector / vector.square().sum()
                for layer, mean, vector in zip(rows, self.safe_mean, self.vector, strict=True)
            ]
        )


def label_of(harmful: bool) -> Label:
    """The label as the contrast set spells it."""
    return "harmful" if harmful else "harmless"


def floats(values: Tensor | Iterable[float]) -> tuple[float, ...]:
    """A row of numbers as plain floats."""
    return tuple(values.tolist() if isinstance(values, Tensor) else map(float, values))
