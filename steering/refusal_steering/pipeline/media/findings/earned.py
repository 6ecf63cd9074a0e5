"""What bundles earn on the unsteered rows of held-out requests: coefficients, and who is touched.

Until a layer adds something every layer sees the unsteered stream, so the unsteered rows decide
whether the last prompt token is touched. A gate reads whole prompts and a risk pass asks the model;
neither can be told from these rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from refusal_steering.bundle import SteeringBundle
from refusal_steering.pipeline.media.collecting import StoredRows
from refusal_steering.prompts.contrast_set import Label
from refusal_steering.report.outcomes import Coefficients, Evaluation, Refused

_LABELS: tuple[Label, ...] = ("harmful", "harmless")


def coefficients_of(bundle: SteeringBundle, held: StoredRows) -> tuple[Coefficients, ...]:
    """What the first steered layer adds, by group and label."""
    first = min(bundle.layers)
    earned = _coefficients(bundle, held, first)
    return tuple(
        Coefficients.sampled(group, label, earned[places].tolist())
        for group, label, places in _cells(held)
    )


def touched(bundles: Mapping[str, SteeringBundle], held: StoredRows) -> Iterator[Evaluation]:
    """Shares of requests whose last prompt token is moved, by bundle, label and group."""
    for name, bundle in bundles.items():
        if bundle.gate is not None or bundle.prototypes is not None:
            continue
        moved = torch.stack([_coefficients(bundle, held, at) != 0 for at in bundle.layers]).any(0)
        for label in _LABELS:
            cells = tuple(
                Refused.counted(group, int(moved[places].sum()), len(places))
                for group, of_label, places in _cells(held)
                if of_label == label
            )
            if cells:
                yield Evaluation(name, label, cells, "touched")


def _coefficients(bundle: SteeringBundle, held: StoredRows, at: int) -> Tensor:
    """Coefficients [N] after one layer, with the media of every request re-centred."""
    hidden, layer = held.layer(at), bundle.layers[at]
    found = torch.empty(len(hidden))
    for media, places in held.requests.by_media.items():
        found[places] = layer.coefficient(hidden[places], media).float()
    return found


def _cells(held: StoredRows) -> Iterator[tuple[str, Label, list[int]]]:
    """Places of the requests by group and label, but for empty cells."""
    for group in held.requests.groups:
        for label in _LABELS:
            if places := held.requests.chosen(group=group, harmful=label == "harmful"):
                yield group, label, places
