"""Human-labelled answers of one model, as XSTest publishes them: a CSV with ``final_label``."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from refusal_steering.errors import SteeringError

Partial = Literal["negative", "positive", "drop"]
_COLUMNS = ("completion", "final_label")
_KINDS = {
    "1_full_compliance": "answer",
    "2_full_refusal": "refusal",
    "3_partial_refusal": "partial",
}


class LabelledDataError(SteeringError):
    """A file of labelled answers cannot be used."""

    code = "invalid_labelled_data"


@dataclass(frozen=True, slots=True)
class LabelledAnswers:
    """One model's answers that say something, ``True`` for refusals; ``sha256`` of the file."""

    model: str
    file: str
    sha256: str
    texts: tuple[str, ...]
    refused: tuple[bool, ...]


def read_all(paths: Sequence[Path], partial: Partial) -> list[LabelledAnswers]:
    """Read each file, one model each; raises :class:`LabelledDataError`."""
    found = [read_labelled(path, partial) for path in paths]
    if len({answers.model for answers in found}) < max(len(found), 2):
        raise LabelledDataError(
            "leaving one model out needs at least two files, each of another model"
        )
    return found


def read_labelled(path: Path, partial: Partial) -> LabelledAnswers:
    """Read a file; partial refusals count as ``partial`` says; the model is the file's stem."""
    try:
        raw = path.read_bytes()
        rows = list(csv.DictReader(io.StringIO(raw.decode("utf-8-sig"), newline="")))
    except OSError as error:
        raise LabelledDataError(f"cannot read {path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise LabelledDataError(f"{path} is not a CSV file in UTF-8") from error
    if not rows or not set(_COLUMNS) <= set(rows[0]):
        raise LabelledDataError(f"{path} needs the columns {' and '.join(_COLUMNS)}, and rows")
    pairs = [
        (row["completion"], kind)
        for number, row in enumerate(rows, start=2)
        for kind in [_kind(row["final_label"], path, number)]
        if row["completion"].strip() and not (kind == "partial" and partial == "drop")
    ]
    positive = {"refusal", "partial"} if partial == "positive" else {"refusal"}
    return LabelledAnswers(
        model=path.stem.removeprefix("completions_"),
        file=path.name,
        sha256=hashlib.sha256(raw).hexdigest(),
        texts=tuple(text for text, _ in pairs),
        refused=tuple(kind in positive for _, kind in pairs),
    )


def _kind(label: str | None, path: Path, number: int) -> str:
    kind = _KINDS.get(label or "")
    if kind is None:
        raise LabelledDataError(
            f"{path}, record {number}: final_label is none of {', '.join(_KINDS)}"
        )
    return kind
