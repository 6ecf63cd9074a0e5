"""Cases of a folder that ``refusal-steering omnibench`` has rendered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from refusal_steering.errors import EvaluationError, SuiteUnavailableError
from refusal_steering.evaluation.case import Content, parse_label
from refusal_steering.evaluation.suites.draft import Draft
from refusal_steering.evaluation.suites.media import file_reference, text_part
from refusal_steering.evaluation.suites.rows import read_rows

_MEDIA = ("image", "audio", "video")


def rendered_files(root: Path) -> list[Path]:
    """The files of rows, one for each combination; raises :class:`SuiteUnavailableError`."""
    files = sorted(root.glob("*.jsonl"))
    if not files:
        raise SuiteUnavailableError(
            f"there are no JSONL files in {root}; render a folder with `refusal-steering omnibench`"
        )
    return files


def rendered_drafts(path: Path) -> Iterator[Draft]:
    """The cases of one file, each with its combination as form.

    Media are read when a case is built. Raises :class:`EvaluationError` for other rows than the
    benchmark's, and for a path that leaves the folder.
    """
    for index, row in enumerate(read_rows(path)):
        where = f"{path.name}, row {index + 1}"
        try:
            (message,) = row["messages"]
            parts, combo = list(message["content"]), str(row["combo"])
            name = f"{row['id']}/{combo}"
            build = partial(_content, path.parent, [_checked(part) for part in parts])
        except (KeyError, TypeError, ValueError) as error:
            raise EvaluationError(
                f"{where} is not a row of a rendered benchmark ({error!r}); render the folder again"
            ) from error
        yield Draft(name, combo, parse_label(row.get("label"), where), build)


def _checked(part: Mapping[str, Any]) -> tuple[str, str]:
    """Kind, and text or file, of one part."""
    kind = part["type"]
    if kind not in ("text", *_MEDIA):
        raise ValueError(f"type {kind!r}")
    return kind, str(part["text" if kind == "text" else "file"])


def _content(root: Path, parts: list[tuple[str, str]]) -> Content:
    return [
        text_part(value) if kind == "text" else file_reference(root, value) for kind, value in parts
    ]
