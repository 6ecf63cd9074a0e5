"""Scores of prompts from their token rows: bags of tokens, pooled as the gate's formula says."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from refusal_steering.calibration.token_rows.row_files import TokenRows
from refusal_steering.gate.prompt_gate import Pooling, TokenProbe

_LOWEST = -1e30
_PROMPTS = 64


def pooled_scores(
    rows: TokenRows, probes: Mapping[int, TokenProbe], pooling: Pooling, where: Tensor
) -> Tensor:
    """Scores [n] of the prompts under the mask ``where`` [N], in order: the layers' mean."""
    places = where.nonzero().flatten()
    return torch.stack(
        [
            _layer_scores(rows.layers[layer], rows.starts, probe, pooling, places)
            for layer, probe in sorted(probes.items())
        ]
    ).mean(0)


def bags(hidden: Tensor, starts: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Rows [n, H] of some prompts in float32, and where they stand [B, T]."""
    counts = starts.diff()[places]
    mask = torch.arange(int(counts.max())) < counts.unsqueeze(1)
    spans = [hidden[int(starts[n]) : int(starts[n + 1])] for n in places.tolist()]
    return torch.cat(spans).float(), mask


def pool(read: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """Pooled scores [B] of what was read of the tokens under ``mask`` [B, T].

    ``read`` [n, 3] are score, query and value of each, without padding.
    """
    padded = read.new_full((*mask.shape, 3), 0.0)
    padded[mask] = read
    score, query, value = padded.unbind(-1)
    highest = score.masked_fill(~mask, _LOWEST).amax(1)
    attended = (query.masked_fill(~mask, _LOWEST).softmax(1) * value).sum(1)
    if pooling == "max":
        return highest
    return attended if pooling == "attention" else highest + attended


def _layer_scores(
    hidden: Tensor, starts: Tensor, probe: TokenProbe, pooling: Pooling, places: Tensor
) -> Tensor:
    weights, biases = probe.stacked
    found = [torch.empty(0)]
    for part in places.split(_PROMPTS) if len(places) else ():
        read, mask = bags(hidden, starts, part)
        found.append(pool(read @ weights.T + biases, mask, pooling))
    return torch.cat(found)
