"""Residual rows of all requests, streamed to disk batch by batch and read layer by layer.

A batch is one safetensors file with a tensor ``rows.{layer}`` [n, H] for every layer, in bfloat16.
It is written as a whole, so a collection that is ended goes on behind its last whole batch. An
index says what the rows are, so that other commands can read the folder. Reading
one layer maps that layer's part of every file and nothing else: 20,000 rows of a 7B model are 4 GB
on disk and 290 MB of memory at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from refusal_steering.calibration.stored_rows.at_fault import name_the_one
from refusal_steering.calibration.stored_rows.folder import RowIndex, read_rows
from refusal_steering.engine import ServedModel
from refusal_steering.errors import SteeringError
from refusal_steering.pipeline.media.requests import MediaRequest, Requests
from refusal_steering.pipeline.media.work import Work
from refusal_steering.tensor_file import save_tensors


@dataclass(frozen=True, slots=True)
class StoredRows:
    """Residual rows of ``requests`` on disk, in their order; ``digest`` names all of them."""

    folder: Path
    batches: tuple[Path, ...]
    requests: Requests
    digest: str

    def layer(self, index: int) -> Tensor:
        """Rows [N, H] in float32 behind one layer."""
        return torch.cat([read_rows(path, index) for path in self.batches]).float()


def collected(model: ServedModel, requests: Requests, work: Work) -> StoredRows:
    """Read every request with ``model``; what an earlier run has read is kept.

    Raises ``SteeringError`` that names the request where one cannot be read or gets lost.
    """
    inputs: Mapping[str, Any] = {
        "requests": requests.sha256,
        "model": model.facts.digest,
        "batch": model.batch,
    }
    folder, digest = work.place("rows", inputs)
    index = _index(model, requests)
    index.save(folder)
    paths = tuple(folder / name for name in index.batches)
    starts = range(0, len(requests.all), model.batch)
    bar = tqdm(total=len(requests.all), desc="rows", unit="row", disable=None)
    with bar:
        for path, start in zip(paths, starts, strict=True):
            batch = requests.all[start : start + model.batch]
            if not path.exists():
                _save(path, _rows(model, batch))
            bar.update(len(batch))
    return StoredRows(folder, paths, requests, digest)


def _index(model: ServedModel, requests: Requests) -> RowIndex:
    return RowIndex(
        model=model.facts.identity,
        requests_sha256=requests.sha256,
        batch=model.batch,
        labels=tuple("harmful" if one.harmful else "harmless" for one in requests.all),
        groups=tuple(one.group for one in requests.all),
        splits=tuple(one.split for one in requests.all),
    )


def _rows(model: ServedModel, batch: Sequence[MediaRequest]) -> Tensor:
    try:
        found = model.rows([one.messages() for one in batch])
    except Exception as error:
        name_the_one(batch, lambda one: model.rows([one.messages()]), error)
    strange = (~torch.isfinite(found)).flatten(1).any(1).nonzero().flatten().tolist()
    if strange:
        raise SteeringError(
            f"request {batch[strange[0]].id!r} ({batch[strange[0]].group}) has rows that are not "
            "finite; serve the model in a precision that it can run in"
        )
    return found


def _save(path: Path, rows: Tensor) -> None:
    layers = rows.bfloat16().unbind(1)
    save_tensors(path, {f"rows.{at}": one for at, one in enumerate(layers)}, {})
