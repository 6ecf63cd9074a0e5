"""Golden refusal vectors: one direction per layer that several modalities share.

arXiv 2602.10161, section 4: the rows are the modalities' differences of means; the direction is
their first right singular vector without centring. Centred PCA is not offered: it describes how
the modalities differ, not what they share, and its sign has no meaning.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from refusal_steering.calibration.activation_file import ActivationFile
from refusal_steering.calibration.directions import mean_difference
from refusal_steering.errors import SteeringError

_log = logging.getLogger(__name__)
Method = Literal["svd", "mean"]
LONE = "text alone"

TEXT_AGREEMENT = 0.8
_SINGLE_COMPONENT = 0.9
_VANISHING = 1e-6


class GoldenError(SteeringError):
    """Modality vectors from which no trustworthy refusal direction follows."""

    code: ClassVar[str] = "degenerate_direction"


@dataclass(frozen=True, slots=True)
class GoldenFacts:
    """How a golden vector came about.

    ``flipped`` says whether the sign of the singular vector was turned. ``singular_values`` are
    in residual-stream units, ``first_share`` is the first one's share of the sum of squares.
    ``norms`` are the lengths of the modality vectors.
    """

    method: str
    flipped: bool
    singular_values: tuple[float, ...]
    first_share: float
    norms: dict[str, float]
    cosine_text: float
    cosine_mean: float


@dataclass(frozen=True, slots=True)
class Golden:
    """A refusal vector [H] in float32 whose length is the mean length of the modality vectors."""

    vector: Tensor
    facts: GoldenFacts


def refusal_vectors(
    hidden: Tensor, harmful: Tensor, groups: Sequence[str], wanted: Sequence[str]
) -> dict[str, Tensor]:
    """Harmful minus harmless mean [H] in float32 per group in ``wanted``, of rows [N, H].

    Raises :class:`GoldenError` when a group lacks harmful or harmless rows.
    """
    vectors = {}
    for name in wanted:
        member = torch.tensor([group == name for group in groups], dtype=torch.bool)
        bad, good = int((member & harmful).sum()), int((member & ~harmful).sum())
        if not bad or not good:
            raise GoldenError(
                f"group {name!r} has {bad} harmful and {good} harmless rows, expected some of "
                f"both; the groups are {sorted(set(groups))}"
            )
        vectors[name] = mean_difference(hidden[member].float(), harmful[member])
    return vectors


def golden_vector(vectors: Mapping[str, Tensor], text: str, method: Method = "svd") -> Golden:
    """The shared direction of modality vectors [H]; ``text`` names the one it is checked against.

    Rows are neither centred nor normalised, so loud modalities weigh more. The sign agrees with
    the mean row. Raises :class:`GoldenError` for fewer than two modalities, NaN, rows that vanish
    or cancel, a result along a single component, and one at a cosine below 0.8 of the text.
    """
    _check_rows(vectors, text)
    rows = torch.stack([vector.double() for vector in vectors.values()])
    singular, right = torch.linalg.svd(rows, full_matrices=False)[1:]
    mean, norms = rows.mean(0), rows.norm(dim=-1)
    if float(singular[0]) <= _VANISHING:
        raise GoldenError(
            "the first singular value of the modality vectors is zero; harmful and harmless rows "
            "are the same, so check the labels and the prompts"
        )
    if float(mean.norm()) <= _VANISHING * float(norms.mean()):
        raise GoldenError(
            "the modality vectors cancel each other, so no sign can be chosen; check the labels"
        )
    raw = right[0] if method == "svd" else mean / mean.norm()
    flipped = bool(raw @ mean < 0)
    unit = -raw if flipped else raw
    facts = GoldenFacts(
        method=method,
        flipped=flipped,
        singular_values=tuple(singular.tolist()),
        first_share=float(singular[0] ** 2 / singular.square().sum()),
        norms=dict(zip(vectors, norms.tolist(), strict=True)),
        cosine_text=_cosine(unit, vectors[text].double()),
        cosine_mean=_cosine(unit, mean),
    )
    check_direction(unit, "the golden vector")
    check_text_agreement(facts.cosine_text, "the golden vector")
    return Golden((unit * norms.mean()).float(), facts)


def lone_vector(vector: Tensor, name: str) -> Golden:
    """The vector [H] of one modality, where no other has any; raises :class:`GoldenError`."""
    check_direction(vector, f"the vector of {name}")
    length = float(vector.norm())
    facts = GoldenFacts(LONE, False, (length,), 1.0, {name: length}, 1.0, 1.0)
    return Golden(vector.float(), facts)


def golden_layers(
    file: ActivationFile, text: str, groups: Sequence[str] = (), method: Method = "svd"
) -> dict[int, Golden]:
    """Golden vectors by layer, from the training rows of ``groups`` (default: all).

    A layer that fails a check is left out with a warning. Raises :class:`GoldenError` where all do.
    """
    learning = file.in_split("train")
    if not bool(learning.any()):
        raise GoldenError("no row belongs to the train split; vectors come from training rows only")
    names = [group for group, used in zip(file.groups, learning.tolist(), strict=True) if used]
    wanted = tuple(dict.fromkeys(groups or names))
    found: dict[int, Golden] = {}
    left_out: dict[int, GoldenError] = {}
    for layer in sorted(file.rows):
        rows = file.layer(layer)[learning]
        vectors = refusal_vectors(rows, file.harmful[learning], names, wanted)
        try:
            found[layer] = golden_vector(vectors, text, method)
        except GoldenError as error:
            left_out[layer] = error
            _log.warning("layer %d is left out: %s", layer, error)
    if not found:
        first = min(left_out)
        raise GoldenError(f"no layer has a golden vector; layer {first}: {left_out[first]}")
    return found


def check_direction(vector: Tensor, what: str) -> None:
    """Raise :class:`GoldenError` unless ``vector`` [H] is finite, non-zero and spread out."""
    if not torch.isfinite(vector).all():
        raise GoldenError(f"{what} holds NaN or infinite values")
    norm = float(vector.double().norm())
    if norm <= _VANISHING:
        raise GoldenError(f"{what} has length {norm:g}; a direction needs a length")
    if float(vector.abs().max()) > _SINGLE_COMPONENT * norm:
        at = int(vector.abs().argmax())
        raise GoldenError(
            f"{what} points along component {at} alone, as a basis vector does; this is what a "
            "decomposition of too few or of equal rows leaves behind. Extract it again"
        )


def check_text_agreement(cosine: float, what: str) -> None:
    """Raise :class:`GoldenError` for a direction that the text difference of means denies."""
    if not cosine >= TEXT_AGREEMENT:
        raise GoldenError(
            f"{what} has cosine {cosine:.3f} to the harmful minus harmless mean of text, expected "
            f"at least {TEXT_AGREEMENT}; a centred PCA or a wrong sign looks like this"
        )


def _check_rows(vectors: Mapping[str, Tensor], text: str) -> None:
    if len(vectors) < 2:
        raise GoldenError(
            f"a golden vector needs at least two modalities, got {sorted(vectors)}; add rows of "
            "another modality or form"
        )
    if text not in vectors:
        raise GoldenError(
            f"no vector for the text modality {text!r}, which the result is checked against; the "
            f"modalities are {sorted(vectors)}"
        )
    shapes = {tuple(vector.shape) for vector in vectors.values()}
    if len(shapes) != 1 or any(len(shape) != 1 for shape in shapes):
        raise GoldenError(f"modality vectors have shapes {sorted(shapes)}, expected one shape [H]")
    for name, vector in vectors.items():
        if not torch.isfinite(vector).all():
            raise GoldenError(f"the vector of {name!r} holds NaN or infinite values")


def _cosine(one: Tensor, other: Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(one, other, dim=0))
