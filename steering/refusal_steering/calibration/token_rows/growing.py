"""Token rows that grow prompt by prompt: how long each is, is known only when it has been read.

What stands behind the index that was saved last is cut off by whoever goes on.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from refusal_steering.bundle import ModelIdentity
from refusal_steering.calibration.token_rows.prompts import TokenPrompts
from refusal_steering.calibration.token_rows.row_files import (
    INDEX,
    TokenIndex,
    TokenRowsError,
    layer_file,
)
from refusal_steering.gate.prompt_gate import first_counted
from refusal_steering.prompts.gate_labels import GateLabels


@dataclass(frozen=True, slots=True)
class Wanted:
    """The prompts that are to be read, in the order of ``labels``; see :class:`TokenIndex`."""

    labels: GateLabels
    user_turn: tuple[int, ...]
    model: ModelIdentity
    layers: tuple[int, ...]
    examples: str
    examples_sha256: str

    def index(self, token_ids: Sequence[tuple[int, ...]], count_from: Sequence[int]) -> TokenIndex:
        """The index of the first prompts, all of them read."""
        return TokenIndex(
            TokenPrompts(tuple(token_ids), tuple(count_from), self.user_turn),
            GateLabels(self.labels.all[: len(token_ids)]),
            self.model,
            self.layers,
            torch.ones(len(token_ids), dtype=torch.bool),
            self.examples,
            self.examples_sha256,
        )


class GrowingRows:
    """The rows of ``wanted`` in ``folder``, as many as have been read.

    Raises :class:`TokenRowsError` for a folder that holds something else.
    """

    def __init__(self, folder: Path, wanted: Wanted) -> None:
        self._folder = folder
        self._wanted = wanted
        self._token_ids: list[tuple[int, ...]] = []
        self._count_from: list[int] = []
        if (folder / INDEX).exists():
            self._go_on(TokenIndex.load(folder))
        else:
            folder.mkdir(parents=True, exist_ok=True)
            self._cut(0)

    def __len__(self) -> int:
        return len(self._token_ids)

    def append(self, ids: Sequence[int], rows: Mapping[int, Tensor]) -> None:
        """Add a prompt of T tokens: of ``rows`` [T, H] by layer, those that a gate counts."""
        first = first_counted(ids, self._wanted.user_turn)
        for layer in self._wanted.layers:
            counted = rows[layer][first:].to(torch.bfloat16).contiguous()
            # numpy has no bfloat16; the bytes are the same.
            with layer_file(self._folder, layer).open("ab") as file:
                counted.view(torch.int16).numpy().tofile(file)
        self._token_ids.append(tuple(ids))
        self._count_from.append(first)

    def save(self) -> TokenIndex:
        """Write the index of what has been read."""
        index = self._wanted.index(self._token_ids, self._count_from)
        if self._token_ids:
            index.save(self._folder)
        return index

    def _go_on(self, known: TokenIndex) -> None:
        prompts = known.prompts
        same = self._wanted.index(prompts.token_ids, prompts.count_from)
        if known.subject != same.subject:
            raise TokenRowsError(
                f"{self._folder} holds token rows of another model, other layers or other "
                "examples; name another folder, or remove it"
            )
        self._token_ids, self._count_from = list(prompts.token_ids), list(prompts.count_from)
        self._cut(known.layer_bytes)

    def _cut(self, size: int) -> None:
        for layer in self._wanted.layers:
            path = layer_file(self._folder, layer)
            with path.open("ab") as file:
                if file.tell() < size:
                    raise TokenRowsError(
                        f"{path} has {file.tell()} bytes, expected at least {size}; remove "
                        f"{self._folder} and read it again"
                    )
                os.ftruncate(file.fileno(), size)
