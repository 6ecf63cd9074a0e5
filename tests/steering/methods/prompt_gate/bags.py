"""Token rows in memory: prompts of random tokens, of which a harmful one has one that tells."""

from __future__ import annotations

import torch
from torch import Tensor

from refusal_steering.calibration.token_rows.row_files import TokenRows

SIZE = 12


def random_rows(prompts: int, seed: int = 0, layers: tuple[int, ...] = (1, 2)) -> TokenRows:
    """Prompts of 1 to 9 tokens; rows are in bfloat16 as on disk."""
    generator = torch.Generator().manual_seed(seed)
    counts = torch.randint(1, 10, (prompts,), generator=generator)
    starts = torch.cat((torch.zeros(1, dtype=torch.int64), counts.cumsum(0)))
    rows = {
        layer: torch.randn(int(starts[-1]), SIZE, generator=generator).bfloat16()
        for layer in layers
    }
    return TokenRows(rows, starts)


def with_harm(rows: TokenRows, harmful: Tensor) -> TokenRows:
    """The same with one token of every harmful prompt moved along the first axis."""
    for hidden in rows.layers.values():
        for place in harmful.nonzero().flatten().tolist():
            hidden[int(rows.starts[place + 1]) - 1, 0] += 6.0
    return rows
