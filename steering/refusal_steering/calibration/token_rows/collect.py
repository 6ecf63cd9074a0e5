"""Reads prompts through the unsteered model and keeps the rows of every counted token."""

from __future__ import annotations

import copy
import logging
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from refusal_steering.calibration.model import CalibrationModel
from refusal_steering.calibration.token_rows.prompts import TokenPrompts
from refusal_steering.calibration.token_rows.row_files import (
    INDEX,
    TokenIndex,
    TokenRows,
    TokenRowsError,
)
from refusal_steering.decoder_hooks import after_layers

_log = logging.getLogger(__name__)
# Tokens of one forward pass, padding included. Four times as many were read a quarter slower on
# two cores.
_BATCH_TOKENS = 2048
# An index holds every prompt, so it is written this often and at the end.
_SECONDS = 10.0


class _DeepestLayerReachedError(Exception):
    """Ends a forward pass: the layers above are not wanted."""


def collect_tokens(target: CalibrationModel, wanted: TokenIndex, folder: Path) -> TokenIndex:
    """Read the prompts of ``wanted`` into ``folder``; the index that is there at the end.

    A folder where a collection of the same was interrupted is gone on with. Raises
    :class:`TokenRowsError` for one that holds something else.
    """
    index, saved = _begun(wanted, folder), time.monotonic()
    try:
        for read in _reading(target, index, index.writable(folder)):
            index = replace(index, read=read)
            if time.monotonic() - saved > _SECONDS:
                index.save(folder)
                saved = time.monotonic()
            _log.info("token rows: %d of %d conversations", int(read.sum()), len(read))
    finally:
        index.save(folder)
    return index


def _reading(target: CalibrationModel, index: TokenIndex, rows: TokenRows) -> Iterator[Tensor]:
    """Read what is left of ``index``, batch by batch; what has been read [N], after each."""
    read = index.read.clone()
    left = (~read).nonzero().flatten().tolist()
    for opening, begun in _openings(target, index.prompts, left).items():
        cache = target.prefix_cache(opening)
        for batch in length_batches(index.prompts.token_ids, begun):
            _read(target, index, batch, rows, len(opening), cache)
            read[batch] = True
            yield read.clone()


def pass_rows(
    target: CalibrationModel,
    prompts: Sequence[Sequence[int]],
    layers: Sequence[int],
    opening: Any = None,
) -> Mapping[int, Tensor]:
    """Rows [B, T, H] of ``layers`` in one forward pass over prompts padded on the right.

    ``opening`` holds the cached keys and values of what stands before every prompt.
    """
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
        past = _for_each(opening, len(prompts))
        target.model(input_ids=ids, past_key_values=past, use_cache=past is not None)
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


def _openings(
    target: CalibrationModel, prompts: TokenPrompts, places: Sequence[int]
) -> Mapping[tuple[int, ...], list[int]]:
    """What stands before the counted tokens, to the places of the prompts that begin with it.

    A system prompt is one of a few, and none of its rows is kept.
    """
    found: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
    for place in places:
        first = prompts.count_from[place] if target.shares_openings else 0
        # One token at least is left to read.
        first = min(first, len(prompts.token_ids[place]) - 1)
        found[prompts.token_ids[place][:first]].append(place)
    return found


def _for_each(opening: Any, count: int) -> Any:
    """A copy of the cache ``opening`` that ``count`` prompts may grow; nothing of an empty one."""
    if opening is None or not opening.get_seq_length():
        return None
    own = copy.deepcopy(opening)
    own.batch_repeat_interleave(count)
    return own


def _read(
    target: CalibrationModel,
    index: TokenIndex,
    places: list[int],
    rows: TokenRows,
    opened: int,
    opening: Any,
) -> None:
    """Read the prompts at ``places``, whose first ``opened`` tokens are in the cache."""
    prompts = index.prompts
    given = [prompts.token_ids[place][opened:] for place in places]
    found = pass_rows(target, given, index.layers, opening)
    for layer, hidden in found.items():
        for line, place in enumerate(places):
            counted = hidden[line, prompts.count_from[place] - opened : len(given[line])]
            start, end = rows.starts[place : place + 2].tolist()
            rows.layers[layer][start:end] = counted.bfloat16()
