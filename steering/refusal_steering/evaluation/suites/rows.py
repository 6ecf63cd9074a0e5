"""Rows of a data file: JSONL, JSON, CSV or Parquet; and the file's digest."""

from __future__ import annotations

import csv
import hashlib
import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from refusal_steering.errors import EvaluationError, SuiteUnavailableError
from refusal_steering.prompts.json_lines import JsonLinesError, read_json_lines
from refusal_steering.prompts.prompt_file import columns_found

Row = dict[str, Any]


def read_rows(path: Path) -> list[Row]:
    """All rows in file order, values as the format gives them (text in a CSV).

    Raises :class:`SuiteUnavailableError` where there is no such file, and
    :class:`EvaluationError` for a format that is unknown or a file that breaks it.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise EvaluationError(f"{path} is not one of {', '.join(sorted(_READERS))}")
    if not path.is_file():
        raise SuiteUnavailableError(f"there is no file {path}")
    try:
        rows = reader(path)
    except JsonLinesError as error:
        raise EvaluationError(str(error)) from error
    except (ValueError, csv.Error, OSError) as error:
        raise EvaluationError(f"{path} cannot be read: {error}") from error
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise EvaluationError(f"{path} holds no rows with named columns")
    return rows


def value_of(row: Row, column: str, where: str) -> Any:
    """What a column holds; raises :class:`EvaluationError` where the row has nothing there."""
    if row.get(column) is None:
        raise EvaluationError(f"{where}: there is no column {column}; {columns_found(row)}")
    return row[column]


def sha256(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _jsonl(path: Path) -> list[Row]:
    return [row for _, row in read_json_lines(path)]


def _json(path: Path) -> list[Row]:
    rows = json.loads(path.read_text(encoding="utf-8-sig"))
    if isinstance(rows, dict) and rows and all(isinstance(row, dict) for row in rows.values()):
        return list(rows.values())
    if not isinstance(rows, list):
        raise ValueError("its top level is neither a list of rows nor rows by their ids")
    return rows


def _csv(path: Path) -> list[Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def _parquet(path: Path) -> list[Row]:
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise SuiteUnavailableError(
            f"{path.name} is a Parquet file, which needs pyarrow; "
            "pip install 'refusal-steering[evaluate]', or put the rows into a CSV or JSONL file"
        ) from error
    rows: list[Row] = parquet.read_table(path).to_pylist()
    return rows


_READERS: dict[str, Callable[[Path], list[Row]]] = {
    ".jsonl": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".parquet": _parquet,
}
