"""Refusal vectors by group and layer, the golden vector over the media, and which layers to steer.

A direction is only trusted where it tells apart requests that took no part in it: every group's own
difference of means is tried on its tuning rows, at the layer where text is told apart best. A group
that fails is noise to this model; it is noted, and neither vectors nor adapters learn from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch
from torch import Tensor

from refusal_steering.analysis.layer_scores import best_neighbours
from refusal_steering.analysis.separability import auroc
from refusal_steering.calibration.activation_file import ActivationFile
from refusal_steering.calibration.directions import mean_difference
from refusal_steering.errors import SteeringError
from refusal_steering.methods.golden import Golden, GoldenError, golden_vector, lone_vector
from refusal_steering.pipeline.media.collecting import StoredRows
from refusal_steering.pipeline.media.requests import MEDIA, TEXT, MediaRequest, Requests
from refusal_steering.pipeline.media.work import Kept, Work
from refusal_steering.prompts.contrast_set import Split

if TYPE_CHECKING:
    from refusal_steering.pipeline.media.plan import MediaPlan

# The last layers write the next token; papers and practice leave them out.
_USABLE = 0.8
TOLD_APART = 0.7


class LayerRows(Protocol):
    """Rows of requests, wherever they are."""

    @property
    def requests(self) -> Requests:
        """What was read, in the order of the rows."""

    def layer(self, index: int) -> Tensor:
        """Rows [N, H] in float32 behind one layer."""


@dataclass(frozen=True, slots=True)
class FileRows:
    """The rows of an activation file whose groups are those of a build."""

    file: ActivationFile
    requests: Requests

    @classmethod
    def of(cls, file: ActivationFile) -> FileRows | None:
        """``None`` where the groups are forms of another kind, or nothing can be tried on them."""
        found = tuple(
            MediaRequest(str(place), harmful, cast(Split, split), _parts(group), Path())
            for place, (harmful, split, group) in enumerate(
                zip(file.harmful.tolist(), file.splits, file.groups, strict=True)
            )
        )
        requests = Requests(found, "rows", file.prompts_sha256)
        splits: tuple[Split, ...] = ("train", "tune")
        tried = all(
            requests.chosen(split, group, harmful)
            for split in splits
            for group in requests.groups
            for harmful in (True, False)
        )
        if requests.groups[0] != TEXT or not tried or set(file.groups) != set(requests.groups):
            return None
        return cls(file, requests)

    def layer(self, index: int) -> Tensor:
        """Rows [N, H] in float32 behind one layer."""
        return self.file.layer(index)


def _parts(group: str) -> tuple[tuple[Any, str], ...]:
    return tuple((kind, "") for kind in group.split("+") if kind in (TEXT, *MEDIA))


@dataclass(frozen=True, slots=True)
class Found:
    """Golden vectors by layer, reasons of layers without one, and what the groups are worth.

    ``areas`` are those of every tried layer by group, ``best`` is the one where text is told apart
    best, ``scales`` the usual length of a row of text.
    """

    golden: Mapping[int, Golden]
    left_out: Mapping[int, str]
    areas: Mapping[int, Mapping[str, float]]
    scales: Mapping[int, float]
    best: int
    heard: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Vectors:
    """Golden vectors [H] and the stream's usual length by layer, and what is known of the groups.

    ``areas`` are the areas under the ROC curves of tuning rows, by group, at ``layer``. ``heard``
    are the groups that are told apart, ``chosen`` the layers to steer.
    """

    golden: Mapping[int, Tensor]
    scales: Mapping[int, float]
    chosen: tuple[int, ...]
    layer: int
    areas: Mapping[str, float]
    heard: tuple[str, ...]
    facts: Mapping[str, Any]
    digest: str

    @property
    def notes(self) -> list[str]:
        """What a user must know of groups and layers that are left out."""
        left = [
            f"{group} is not told apart (area {area:.2f} on tuning rows of layer {self.layer}): "
            "no direction is learnt from it"
            for group, area in self.areas.items()
            if group not in self.heard
        ]
        skipped: Mapping[str, str] = self.facts["left_out"]
        return [*left, *(f"layer {layer} has no vector: {why}" for layer, why in skipped.items())]


def vectors_of(rows: StoredRows, depth: int, plan: MediaPlan, work: Work) -> Vectors:
    """Vectors of ``depth`` layers from the training rows, judged on the tuning rows.

    Raises ``SteeringError`` where not even text is told apart, or no layer has a vector.
    """
    inputs = {
        "rows": rows.digest,
        "told_apart": plan.told_apart,
        "layers": plan.layers,
        "count": plan.count,
    }
    return _vectors(work.kept("vectors", inputs, lambda: _found(rows, depth, plan)))


def _vectors(kept: Kept) -> Vectors:
    facts = kept.facts
    return Vectors(
        golden={int(name): tensor for name, tensor in kept.tensors.items()},
        scales={int(layer): scale for layer, scale in facts["scales"].items()},
        chosen=tuple(facts["chosen"]),
        layer=facts["layer"],
        areas=facts["areas"],
        heard=tuple(facts["heard"]),
        facts=facts,
        digest=kept.digest,
    )


def _found(rows: StoredRows, depth: int, plan: MediaPlan) -> Kept:
    found = found_vectors(rows, depth, plan.told_apart, plan.layers or ())
    return Kept(
        {str(layer): one.vector for layer, one in found.golden.items()},
        {
            "golden": {str(layer): _facts(one) for layer, one in found.golden.items()},
            "left_out": {str(layer): why for layer, why in found.left_out.items()},
            "scales": found.scales,
            "chosen": _chosen(found, plan),
            "layer": found.best,
            "areas": found.areas[found.best],
            "heard": found.heard,
        },
    )


def found_vectors(
    rows: LayerRows, depth: int, told_apart: float = TOLD_APART, more: tuple[int, ...] = ()
) -> Found:
    """Golden vectors of the usable ones of ``depth`` layers, and of ``more``.

    Raises ``SteeringError`` where not even text is told apart, or no layer has a vector.
    """
    requests = rows.requests
    usable = range(max(1, int(_USABLE * depth)))
    groups = requests.groups
    means: dict[int, dict[str, Tensor]] = {}
    areas: dict[int, dict[str, float]] = {}
    scales: dict[int, float] = {}
    for layer in sorted({*usable, *more}):
        hidden = rows.layer(layer)
        means[layer] = {name: _difference(hidden, requests, name) for name in groups}
        areas[layer] = {
            name: _area(hidden, requests, name, vector) for name, vector in means[layer].items()
        }
        text = requests.chosen("train", TEXT)
        scales[layer] = float(hidden[text].norm(dim=-1).median())
    best = max(usable, key=lambda layer: areas[layer][TEXT])
    heard = tuple(name for name in groups if areas[best][name] >= told_apart)
    if TEXT not in heard:
        raise SteeringError(
            f"text requests are not told apart (area {areas[best][TEXT]:.2f} on tuning rows of the "
            f"best layer, {best}; expected {told_apart}); check the labels, or give more rows"
        )
    golden, left_out = _golden(means, heard)
    return Found(golden, left_out, areas, scales, best, heard)


def _facts(golden: Golden) -> dict[str, Any]:
    return {
        "method": golden.facts.method,
        "first_share": golden.facts.first_share,
        "cosine_text": golden.facts.cosine_text,
        "norms": golden.facts.norms,
    }


def _difference(hidden: Tensor, requests: Requests, group: str) -> Tensor:
    learning = requests.chosen("train", group)
    harmful = torch.tensor([requests.all[place].harmful for place in learning])
    return mean_difference(hidden[learning], harmful)


def _area(hidden: Tensor, requests: Requests, group: str, vector: Tensor) -> float:
    tuning = requests.chosen("tune", group)
    harmful = torch.tensor([requests.all[place].harmful for place in tuning])
    return auroc(hidden[tuning] @ vector, harmful)


def _golden(
    means: Mapping[int, Mapping[str, Tensor]], heard: tuple[str, ...]
) -> tuple[dict[int, Golden], dict[int, str]]:
    """Vectors, and reasons of layers without one.

    The rows of the decomposition are text and the media that stand alone, as published. Where only
    text is told apart its own vector is the golden one.
    """
    pure = [name for name in heard if "+" not in name]
    found: dict[int, Golden] = {}
    left_out: dict[int, str] = {}
    for layer, of in means.items():
        vectors = {name: of[name] for name in pure}
        try:
            lone = len(pure) == 1
            found[layer] = lone_vector(of[TEXT], TEXT) if lone else golden_vector(vectors, TEXT)
        except GoldenError as error:
            left_out[layer] = str(error)
    if not found:
        raise GoldenError(f"no layer has a golden vector: {next(iter(left_out.values()))}")
    return found, left_out


def _chosen(found: Found, plan: MediaPlan) -> list[int]:
    """The layers of the plan, or the neighbours whose groups are told apart best."""
    if plan.layers is not None:
        missing = sorted(set(plan.layers) - set(found.golden))
        if missing:
            raise SteeringError(f"layer {missing[0]} has no golden vector; choose another")
        return sorted(set(plan.layers))
    scores = {
        layer: sum(found.areas[layer][name] for name in found.heard) for layer in found.golden
    }
    return best_neighbours(scores, plan.count)
