"""Activation files: residual rows of many prompts with their labels, as one safetensors file.

Rows are the residual stream after a decoder layer (0-based) at the last prompt token of the
unsteered model. Tensors are named ``rows.{layer}``; everything else is JSON in the header.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from refusal_steering.bundle import ModelIdentity
from refusal_steering.errors import SteeringError
from refusal_steering.tensor_file import save_tensors

FORMAT = "refusal-steering-activations-1"
_SPLITS = frozenset({"train", "tune", "held"})
_LABELS = {"harmless": False, "harmful": True}
_NAME = re.compile(r"rows\.(\d+)")


class ActivationFileError(SteeringError):
    """Activations that cannot be read, or that contradict themselves."""

    code: ClassVar[str] = "invalid_activations"


class _Header(BaseModel):
    """The JSON part; one entry per row in ``labels``, ``groups`` and ``splits``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: tuple[str, ...]
    groups: tuple[str, ...]
    splits: tuple[str, ...]
    model: ModelIdentity
    prompts_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


@dataclass(frozen=True, slots=True)
class ActivationFile:
    """Residual rows [N, H] by layer, float32 or bfloat16, and what is known of each row.

    ``harmful`` is a bool mask [N]. ``groups`` names the modality or the form of each row,
    ``splits`` is ``train``, ``tune`` or ``held``. Raises :class:`ActivationFileError` when the
    parts contradict each other.
    """

    rows: dict[int, Tensor]
    harmful: Tensor
    groups: tuple[str, ...]
    splits: tuple[str, ...]
    model: ModelIdentity
    prompts_sha256: str

    def __post_init__(self) -> None:
        if not self.rows:
            raise ActivationFileError("there are no rows; collect at least one layer")
        _check_known(self.harmful, self.groups, self.splits)
        for layer, rows in self.rows.items():
            _check_rows(layer, rows, len(self.groups), self.model)

    def in_split(self, name: str) -> Tensor:
        """Mask [N] of the rows of one split."""
        return torch.tensor([split == name for split in self.splits])

    def layer(self, index: int) -> Tensor:
        """Rows [N, H] of one layer in float32; raises :class:`ActivationFileError`."""
        if index not in self.rows:
            raise ActivationFileError(
                f"there are no rows of layer {index}; the file has layers {sorted(self.rows)}"
            )
        return self.rows[index].float()

    def save(self, path: Path) -> None:
        """Write the file, replacing one that exists."""
        header = _Header(
            labels=tuple("harmful" if bad else "harmless" for bad in self.harmful.tolist()),
            groups=self.groups,
            splits=self.splits,
            model=self.model,
            prompts_sha256=self.prompts_sha256,
        )
        tensors = {f"rows.{layer}": rows for layer, rows in self.rows.items()}
        save_tensors(path, tensors, {"format": FORMAT, "header": header.model_dump_json()})

    @classmethod
    def load(cls, path: Path) -> ActivationFile:
        """Read and check a file; raises :class:`ActivationFileError`."""
        with _opened(path) as file:
            header, names = _read_header(file.metadata() or {}, path), list(file.keys())
            rows = {_layer_of(name, path): file.get_tensor(name) for name in names}
        return cls(
            rows=dict(sorted(rows.items())),
            harmful=torch.tensor([_label(name, path) for name in header.labels], dtype=torch.bool),
            groups=header.groups,
            splits=header.splits,
            model=header.model,
            prompts_sha256=header.prompts_sha256,
        )


@dataclass(frozen=True, slots=True)
class MappedActivations:
    """The same file with its rows left on disk; one layer is read and checked at a time."""

    path: Path
    layers: tuple[int, ...]
    harmful: Tensor
    groups: tuple[str, ...]
    splits: tuple[str, ...]
    model: ModelIdentity

    @classmethod
    def open(cls, path: Path) -> MappedActivations:
        """Read what is known of the rows; raises :class:`ActivationFileError`."""
        with _opened(path) as file:
            header, names = _read_header(file.metadata() or {}, path), list(file.keys())
        layers = tuple(sorted(_layer_of(name, path) for name in names))
        harmful = torch.tensor([_label(name, path) for name in header.labels], dtype=torch.bool)
        if not layers:
            raise ActivationFileError(f"{path} has no rows; collect at least one layer")
        _check_known(harmful, header.groups, header.splits)
        return cls(path, layers, harmful, header.groups, header.splits, header.model)

    def layer(self, index: int) -> Tensor:
        """Rows [N, H] of one of ``layers`` in float32; raises :class:`ActivationFileError`."""
        with _opened(self.path) as file:
            rows: Tensor = file.get_tensor(f"rows.{index}")
            _check_rows(index, rows, len(self.groups), self.model)
            return rows.float()


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """An activation file whose tensors can be asked for; raises :class:`ActivationFileError`."""
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (OSError, SafetensorError) as error:
        raise ActivationFileError(
            f"cannot read activations from {path}: {error}; expected a safetensors file as "
            "the collect command writes it"
        ) from error


def _check_known(harmful: Tensor, groups: Sequence[str], splits: Sequence[str]) -> None:
    """Raise :class:`ActivationFileError` where what is known of the rows contradicts itself."""
    if harmful.dtype != torch.bool or harmful.dim() != 1:
        raise ActivationFileError("the harmful mask must be a bool tensor [N]")
    count = harmful.shape[0]
    if count == 0 or not count == len(groups) == len(splits):
        raise ActivationFileError(
            f"{count} labels, {len(groups)} groups and {len(splits)} splits; "
            "expected one of each per row, and at least one row"
        )
    strange = set(splits) - _SPLITS
    if strange:
        raise ActivationFileError(
            f"unknown split {min(strange)!r}; expected one of {sorted(_SPLITS)}"
        )


def _check_rows(layer: int, rows: Tensor, count: int, model: ModelIdentity) -> None:
    """Raise :class:`ActivationFileError` unless ``rows`` are ``count`` finite ones of the model."""
    if not 0 <= layer < model.num_layers:
        raise ActivationFileError(
            f"layer {layer} does not exist in {model.id}, which has layers 0 to "
            f"{model.num_layers - 1}"
        )
    wanted = (count, model.hidden_size)
    if tuple(rows.shape) != wanted:
        raise ActivationFileError(
            f"the rows of layer {layer} have shape {tuple(rows.shape)}, expected {wanted}: "
            "one row per prompt, as wide as the model's residual stream"
        )
    if rows.dtype not in (torch.float32, torch.bfloat16):
        raise ActivationFileError(
            f"the rows of layer {layer} are {rows.dtype}; expected float32 or bfloat16"
        )
    if not torch.isfinite(rows).all():
        raise ActivationFileError(
            f"the rows of layer {layer} hold NaN or infinite values; collect them again in "
            "a precision that the model can run in"
        )


def _read_header(metadata: dict[str, str], path: Path) -> _Header:
    if metadata.get("format") != FORMAT:
        raise ActivationFileError(
            f"{path} is a safetensors file but not one of activations: its format is "
            f"{metadata.get('format')!r}, expected {FORMAT!r}"
        )
    try:
        return _Header.model_validate(json.loads(metadata.get("header", "")))
    except (ValidationError, ValueError) as error:
        raise ActivationFileError(f"the header of {path} is invalid: {error}") from error


def _layer_of(name: str, path: Path) -> int:
    found = _NAME.fullmatch(name)
    if not found:
        raise ActivationFileError(
            f"{path} holds a tensor {name!r}; expected only names such as 'rows.15'"
        )
    return int(found[1])


def _label(name: str, path: Path) -> bool:
    if name not in _LABELS:
        raise ActivationFileError(
            f"{path} holds the label {name!r}; expected one of {sorted(_LABELS)}"
        )
    return _LABELS[name]
