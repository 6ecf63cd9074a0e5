"""Shrinkage: how much shorter, and how far turned, a form's refusal vector is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from refusal_steering.analysis.phenomena import LabelledRows, RowLabels, floats

# A ratio so close to 1 is no loss; the logarithms would divide rounding by rounding.
_NO_LOSS = 1e-9


@dataclass(frozen=True, slots=True)
class Shrinkage:
    """A form's refusal vector v against that of plain text, one number per layer.

    ``rho`` is ``|v| / |v_plain|``, ``cosine`` their cosine, ``ratio`` the projection of v on
    v_plain in lengths of v_plain (rho times cosine). ``magnitude_share`` is the part of the loss
    that is length, ``ln rho / (ln rho + ln cosine)``; below 0 where the vector grew but turned.
    NaN where undefined: a cosine of an empty vector, a share where nothing is lost
    (``ratio >= 1``) or the vector is turned by a right angle and more (``ratio <= 0``).

    A difference of means of few rows carries their noise in its length, which overstates ``rho``
    and understates ``cosine``; ``harmful`` and ``harmless`` say how many rows there were.
    """

    form: str
    harmful: int
    harmless: int
    rho: tuple[float, ...]
    cosine: tuple[float, ...]
    ratio: tuple[float, ...]
    magnitude_share: tuple[float, ...]


def shrinkage(sample: LabelledRows) -> tuple[Shrinkage, ...]:
    """Every form of ``sample`` against its reference form; all forms need both labels."""
    vectors = {form: sample.vector(form) for form in sample.labels.form_names}
    return shrinkage_between(vectors, sample.labels)


def shrinkage_between(vectors: Mapping[str, Tensor], labels: RowLabels) -> tuple[Shrinkage, ...]:
    """Vectors [L, H] by form against that of the reference form, from rows with ``labels``."""
    plain = vectors[labels.reference]
    return tuple(_compare(form, vector, plain, labels) for form, vector in vectors.items())


def _compare(form: str, vector: Tensor, plain: Tensor, labels: RowLabels) -> Shrinkage:
    dot = (vector * plain).sum(-1)
    rho = vector.norm(dim=-1) / plain.norm(dim=-1)
    cosine = dot / (vector.norm(dim=-1) * plain.norm(dim=-1))
    ratio = dot / plain.square().sum(-1)
    return Shrinkage(
        form=form,
        harmful=int(labels.mask(form, True).sum()),
        harmless=int(labels.mask(form, False).sum()),
        rho=floats(rho),
        cosine=floats(cosine),
        ratio=floats(ratio),
        magnitude_share=floats(_magnitude_share(rho, ratio)),
    )


def _magnitude_share(rho: Tensor, ratio: Tensor) -> Tensor:
    lost = (ratio > 0) & (ratio < 1 - _NO_LOSS)
    return torch.where(lost, rho.log() / ratio.log(), torch.nan)
