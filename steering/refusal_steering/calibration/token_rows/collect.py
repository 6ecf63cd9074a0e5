"""Reads prompts through the unsteered model and keeps the rows of every counted token."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from refusal_steering.calibration.model import CalibrationModel
from refusal_steering.calibration.token_rows.row_files import (
    INDEX,
    TokenIndex,
    TokenRows,
    TokenRowsError,
)
from refusal_steering.decoder_hooks import after_layers

_log = logging.getLogger(__name__)
# Tokens of one forward pass, padding included.
_BATCH_TOKENS = 8192


class _DeepestLayerReachedError(Exception):
    """Ends a forward pass: the layers above are not wanted."""


def collect_tokens(target: CalibrationModel, wanted: TokenIndex, folder: Path) -> TokenIndex:
    """Read the prompts of ``wanted`` into ``folder``; the index that is there at the end.

    A folder where a collection of the same was interrupted is gone on with. Raises
    :class:`TokenRowsError` for one that holds something else.
    """
    index = _begun(wanted, folder)
    rows, read = index.writable(folder), index.read.clone()
    left = [place for place, done in enumerate(read.tolist()) if not done]
    for batch in length_batches(index.prompts.token_ids, left):
        _read(target, index, batch, rows)
        read[batch] = True
        index = replace(index, read=read)
        index.save(folder)
        _log.info("token rows: %d of %d conversations", int(read.sum()), len(read))
    return index


def pass_rows(
    target: CalibrationModel, prompts: Sequence[Sequence[int]], layers: Sequence[int]
) -> Mapping[int, Tensor]:
    """Rows [B, T, H] of ``layers`` in one forward pass over prompts padded on the right."""
    # Padding stands behind the prompt, where causal attention does not look.
    ids = torch.zeros(len(prompts), max(map(len, prompts)), dtype=torch.int64)
    for line, prompt in enumerate(prompts):
        ids[line, : len(prompt)] = torch.tensor(prompt)
    found: dict[int, Tensor] = {}

    def keep(layer: int, hidden: Tensor) -> Tensor:
        found[layer] = hidden
        if layer == max(layers):
            raise _DeepestLayerReachedError
        return hidden

    with (
        torch.inference_mode(),
        suppress(_DeepestLayerReachedError),
        after_layers(target.decoder_layers, layers, keep),
    ):
        target.model(input_ids=ids, use_cache=False)
    return found


def length_batches(prompts: Sequence[Sequence[int]], places: Sequence[int]) -> list[list[int]]:
    """Places of prompts of like length in batches for :func:`pass_rows`."""
    batches: list[list[int]] = [[]]
    for place in sorted(places, key=lambda n: len(prompts[n])):
        if batches[-1] and (len(batches[-1]) + 1) * len(prompts[place]) > _BATCH_TOKENS:
            batches.append([])
        batches[-1].append(place)
    return batches if batches[0] else []


def _begun(wanted: TokenIndex, folder: Path) -> TokenIndex:
    if not (folder / INDEX).exists():
        wanted.create(folder)
        return wanted
    known = TokenIndex.load(folder)
    if known.subject != wanted.subject:
        raise TokenRowsError(
            f"{folder} holds token rows of another model, other layers or other examples; name "
            "another folder, or remove it"
        )
    return known


def _read(target: CalibrationModel, index: TokenIndex, places: list[int], rows: TokenRows) -> None:
    prompts = index.prompts
    found = pass_rows(target, [prompts.token_ids[place] for place in places], index.layers)
    for layer, hidden in found.items():
        for line, place in enumerate(places):
            counted = hidden[line, prompts.count_from[place] : len(prompts.token_ids[place])]
            start, end = rows.starts[place : place + 2].tolist()
            rows.layers[layer][start:end] = counted.bfloat16()
