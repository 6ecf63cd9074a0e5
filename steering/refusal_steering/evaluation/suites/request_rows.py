"""Labelled requests in the common schema of the papers, one JSON object a line.

::

    {"id": 17, "type": "harmful", "modality": "image_text", "text": "...", "image": "a/b.png"}

``type`` is ``harmful`` or ``safe``. Media are files beside the JSONL file; a path that begins
elsewhere, such as ``data/a/b.png`` in a file of the folder ``data``, is read from that folder on.
``modality`` says which of the columns are sent: the files of the OmniSteer authors give the words
of a recording as ``text`` and send the recording alone. Without ``modality`` all that a row brings
is sent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Literal

from refusal_steering.errors import SteeringError
from refusal_steering.prompts.json_lines import JsonLinesError, read_json_lines
from refusal_steering.prompts.prompt_file import check_columns, columns_found, says_something

Kind = Literal["text", "image", "video", "audio"]
MEDIA: tuple[Kind, ...] = ("image", "video", "audio")
TEXT: Literal["text"] = "text"
_COLUMNS = ("id", "type", "modality", "text", *MEDIA)
_LABELS = {"harmful": True, "safe": False, "harmless": False}


class RequestFileError(SteeringError):
    """A file of requests that cannot be used, with the line at fault."""

    code: ClassVar[str] = "invalid_requests"


class RequestMediaError(RequestFileError):
    """A row names a file that is not there."""

    code: ClassVar[str] = "request_medium_missing"


@dataclass(frozen=True, slots=True)
class RequestRow:
    """One request: ``parts`` are kinds with the words, or the path of the file below ``root``.

    ``unsent`` is a text that the row has and ``modality`` does not name: what a recording says.
    """

    id: str
    harmful: bool
    parts: tuple[tuple[Kind, str], ...]
    root: Path
    unsent: str = ""

    @property
    def group(self) -> str:
        """What it sends, as :func:`group_of`."""
        return group_of(self.parts)


def group_of(parts: Iterable[tuple[Kind, str]]) -> str:
    """The kinds of some parts: ``text``, ``image``, ``text+image``, always in the same order."""
    kinds = {kind for kind, _ in parts}
    return "+".join(kind for kind in (TEXT, *MEDIA) if kind in kinds)


def read_request_rows(path: Path) -> list[RequestRow]:
    """All rows of a file; every file that a row names is looked for.

    Raises :class:`RequestFileError`.
    """
    try:
        lines = read_json_lines(path)
    except JsonLinesError as error:
        raise RequestFileError(str(error)) from error
    if not lines:
        raise RequestFileError(f"{path} holds no requests; expected one JSON object a line")
    return [_request(row, path.parent, f"{path}, line {number}") for number, row in lines]


def _request(row: dict[str, Any], root: Path, where: str) -> RequestRow:
    check_columns(row, _COLUMNS, where)
    label = row.get("type")
    if not isinstance(label, str) or label not in _LABELS:
        raise RequestFileError(
            f"{where}: 'type' is {label!r}, expected 'harmful' or 'safe'; {columns_found(row)}"
        )
    text = row.get("text")
    if text is not None and not isinstance(text, str):
        raise RequestFileError(f"{where}: 'text' is {text!r}; expected a string")
    words = text if text and says_something(text) else ""
    # The sets leave a column empty where a row has no such medium.
    media = {kind: row[kind] for kind in MEDIA if row.get(kind) not in (None, "")}
    sent = _sent(row, media, where)
    parts = [(kind, _file(root, name, where)) for kind, name in media.items()]
    if words and TEXT in sent:
        parts.append((TEXT, words))
    if not parts:
        raise RequestFileError(f"{where}: neither text nor a medium; {columns_found(row)}")
    name = str(row.get("id", hashlib.sha256(repr(parts).encode()).hexdigest()[:16]))
    return RequestRow(name, _LABELS[label], tuple(parts), root, "" if TEXT in sent else words)


def _sent(row: dict[str, Any], media: dict[Kind, Any], where: str) -> set[str]:
    """The kinds that ``modality`` names, or all; those of a medium must be those of the row."""
    modality = row.get("modality")
    if modality in (None, ""):
        return {TEXT, *media}
    named: set[str] = {kind for kind in (TEXT, *MEDIA) if kind in str(modality).lower()}
    if not named or named - {TEXT} != set(media):
        raise RequestFileError(
            f"{where}: 'modality' is {modality!r} and the row brings "
            f"{', '.join(media) or 'no medium'}; expected their names, such as 'image_text'"
        )
    return named


def _file(root: Path, name: object, where: str) -> str:
    if not isinstance(name, str):
        raise RequestFileError(f"{where}: a medium is {name!r}; expected the path of one file")
    for place in _places(root, name):
        path = root / place
        if path.is_file() and path.resolve().is_relative_to(root.resolve()):
            if path.stat().st_size == 0:
                raise RequestFileError(
                    f"{where}: {path} is empty; unpack it again, or take the row out"
                )
            return place
    raise RequestMediaError(
        f"{where}: there is no file {name} in {root}; unpack the set's media there"
    )


def _places(root: Path, name: str) -> list[str]:
    """The path as it is, and what follows the name of the file's own folder in it."""
    parts = PurePosixPath(name).parts
    inner = [at for at, part in enumerate(parts) if part == root.resolve().name]
    return [name, *(str(PurePosixPath(*parts[at + 1 :])) for at in inner[-1:])]
