"""A folder of token rows: one file of bfloat16 rows a layer, and an index of what they are.

``layer-N.bf16`` holds the rows after decoder layer N, prompt after prompt, without a header.
``index.safetensors`` holds the prompts, their labels, and which of them have been read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from refusal_steering.bundle import ModelIdentity
from refusal_steering.calibration.token_rows.prompts import TokenPrompts
from refusal_steering.errors import SteeringError
from refusal_steering.prompts.gate_labels import GateLabel, GateLabels
from refusal_steering.tensor_file import save_tensors

INDEX = "index.safetensors"
_FORMAT = "refusal-steering-token-rows-1"
_TENSORS = ("token_ids", "lengths", "count_from", "read")
_BYTES = torch.bfloat16.itemsize
# An index is written after every batch that is read, for thousands of prompts.
_as_tuple = attrgetter(*(one.name for one in fields(GateLabel)))


class TokenRowsError(SteeringError):
    """Token rows that cannot be read, or that belong to something else."""

    code: ClassVar[str] = "invalid_token_rows"


class _Header(BaseModel):
    """The JSON part; one entry per prompt in ``labels``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: ModelIdentity
    layers: tuple[int, ...]
    user_turn: tuple[int, ...]
    labels: tuple[tuple[str, str, bool, bool, bool], ...]
    examples: str
    examples_sha256: str


@dataclass(frozen=True, slots=True)
class TokenRows:
    """Rows of N prompts, one after the other, in bfloat16.

    ``layers`` maps a layer to a memory-mapped tensor [sum of counts, H]; prompt ``n`` owns the rows
    ``starts[n]`` to ``starts[n + 1]``.
    """

    layers: Mapping[int, Tensor]
    starts: Tensor


@dataclass(frozen=True, slots=True)
class TokenIndex:
    """What a folder of token rows holds.

    ``read`` [N] says which prompts have been read so far. ``examples`` names where the prompts
    come from, for people, and ``examples_sha256`` for machines.
    """

    prompts: TokenPrompts
    labels: GateLabels
    model: ModelIdentity
    layers: tuple[int, ...]
    read: Tensor
    examples: str
    examples_sha256: str

    @property
    def subject(self) -> tuple[object, ...]:
        """Everything that two collections must have in common to be one."""
        return self.prompts, self.labels, self.model, self.layers, self.examples_sha256

    def rows(self, folder: Path, layers: Sequence[int] = ()) -> TokenRows:
        """The rows of ``layers``, all by default; raises :class:`TokenRowsError`."""
        chosen = tuple(sorted(set(layers))) or self.layers
        if missing := sorted(set(chosen) - set(self.layers)):
            raise TokenRowsError(
                f"{folder} has no token rows of layer {missing[0]}; it has layers "
                f"{', '.join(map(str, self.layers))}"
            )
        return TokenRows({at: self._map(folder, at, False) for at in chosen}, self.prompts.starts)

    def create(self, folder: Path) -> None:
        """Make the files at full size, so that a disk that is too small is told of now."""
        folder.mkdir(parents=True, exist_ok=True)
        for layer in self.layers:
            with layer_file(folder, layer).open("ab") as file:
                file.truncate(self.layer_bytes)
                os.posix_fallocate(file.fileno(), 0, self.layer_bytes)
        self.save(folder)

    def writable(self, folder: Path) -> TokenRows:
        """All rows, where writing to the tensors writes to the files."""
        rows = {at: self._map(folder, at, True) for at in self.layers}
        return TokenRows(rows, self.prompts.starts)

    def save(self, folder: Path) -> None:
        """Write the index, after the rows that it speaks of have reached the disk."""
        for layer in self.layers:
            with layer_file(folder, layer).open("rb") as file:
                os.fsync(file.fileno())
        prompts = self.prompts
        lengths = torch.tensor([len(ids) for ids in prompts.token_ids])
        tokens = chain.from_iterable(prompts.token_ids)
        tensors = (
            torch.from_numpy(np.fromiter(tokens, np.int32, int(lengths.sum()))),
            lengths,
            torch.tensor(prompts.count_from),
            self.read,
        )
        header = _Header(
            model=self.model,
            layers=self.layers,
            user_turn=prompts.user_turn,
            labels=tuple(map(_as_tuple, self.labels.all)),
            examples=self.examples,
            examples_sha256=self.examples_sha256,
        )
        facts = {"format": _FORMAT, "header": header.model_dump_json()}
        save_tensors(folder / INDEX, dict(zip(_TENSORS, tensors, strict=True)), facts)

    @classmethod
    def load(cls, folder: Path) -> TokenIndex:
        """Read the index of a folder; raises :class:`TokenRowsError`."""
        try:
            with safe_open(folder / INDEX, framework="pt") as file:
                facts = file.metadata() or {}
                tensors = [file.get_tensor(name) for name in _TENSORS]
            if facts.get("format") != _FORMAT:
                raise ValueError(f"its format is {facts.get('format')!r}, expected {_FORMAT!r}")
            header = _Header.model_validate(json.loads(facts.get("header", "")))
            return cls._of(header, *tensors)
        except (OSError, SafetensorError, ValidationError, ValueError) as error:
            raise TokenRowsError(
                f"cannot read token rows from {folder}: {error}; expected a folder as "
                "`build --token-rows` writes it"
            ) from error

    @classmethod
    def _of(
        cls, header: _Header, token_ids: Tensor, lengths: Tensor, count_from: Tensor, read: Tensor
    ) -> TokenIndex:
        count = len(header.labels)
        if not count or not count == len(lengths) == len(count_from) == len(read):
            raise ValueError("its parts speak of different numbers of prompts")
        parts = token_ids.split(lengths.tolist())
        prompts = TokenPrompts(
            tuple(tuple(part.tolist()) for part in parts),
            tuple(count_from.tolist()),
            header.user_turn,
        )
        return cls(
            prompts,
            GateLabels(tuple(GateLabel(*label) for label in header.labels)),
            header.model,
            header.layers,
            read,
            header.examples,
            header.examples_sha256,
        )

    @property
    def layer_bytes(self) -> int:
        """Size of one layer's file."""
        return int(self.prompts.starts[-1]) * self.model.hidden_size * _BYTES

    def _map(self, folder: Path, layer: int, writable: bool) -> Tensor:
        path = layer_file(folder, layer)
        size = path.stat().st_size if path.is_file() else 0
        if size != self.layer_bytes:
            raise TokenRowsError(
                f"{path} has {size} bytes, expected {self.layer_bytes}; read it again"
            )
        flat = torch.from_file(
            str(path), shared=writable, size=self.layer_bytes // _BYTES, dtype=torch.bfloat16
        )
        return flat.view(-1, self.model.hidden_size)


def layer_file(folder: Path, layer: int) -> Path:
    """Where the rows of one layer lie."""
    return folder / f"layer-{layer}.bf16"
