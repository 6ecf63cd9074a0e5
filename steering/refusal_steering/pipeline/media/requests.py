"""Labelled requests in text and media: what a build through the engine is made from.

A user's own data are rows in the common schema of the papers, one JSON object a line::

    {"id": 17, "type": "harmful", "modality": "image_text", "text": "...", "image": "a/b.png"}

``type`` is ``harmful`` or ``safe``. Media are files beside the JSONL file. What a row brings
decides its group; ``modality`` is theirs to name. Parts of a set are drawn by request id, never by
row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from refusal_steering.errors import SteeringError
from refusal_steering.evaluation.suites.media import file_part, text_part
from refusal_steering.prompts.contrast_set import Split
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


@dataclass(frozen=True, slots=True)
class MediaRequest:
    """One request: ``parts`` are kinds with the words, or the path of the file below ``root``.

    ``group`` names which media it brings and whether text comes with them.
    """

    id: str
    harmful: bool
    split: Split
    parts: tuple[tuple[Kind, str], ...]
    root: Path

    @property
    def group(self) -> str:
        """``text``, ``image``, ``text+image`` and so on, always in the same order."""
        kinds = dict.fromkeys(kind for kind, _ in self.parts)
        return "+".join(kind for kind in (TEXT, *MEDIA) if kind in kinds)

    @property
    def media(self) -> tuple[str, ...]:
        """The media that it brings, each once."""
        return tuple(kind for kind in MEDIA if kind in self.group.split("+"))

    @property
    def text(self) -> str:
        """Its words; empty where it has none."""
        return "\n".join(value for kind, value in self.parts if kind == TEXT)

    def messages(self) -> list[dict[str, Any]]:
        """The request in OpenAI's form, with its files read now.

        Raises ``SteeringError`` for a file that cannot be read as a medium.
        """
        if self.group == TEXT:
            return [{"role": "user", "content": self.text}]
        parts = [
            text_part(value) if kind == TEXT else file_part(self.root, value)
            for kind, value in self.parts
        ]
        return [{"role": "user", "content": parts}]


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests in order, what they are called, and a digest of them and of their files' names."""

    all: tuple[MediaRequest, ...]
    name: str
    sha256: str

    def chosen(
        self, split: Split | None = None, group: str | None = None, harmful: bool | None = None
    ) -> list[int]:
        """Places of the requests of one split, group and label, or of all."""
        return [
            place
            for place, one in enumerate(self.all)
            if split in (None, one.split)
            and group in (None, one.group)
            and harmful in (None, one.harmful)
        ]

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups, text first, then those of one medium alone."""
        found = dict.fromkeys(one.group for one in self.all)
        return tuple(sorted(found, key=lambda name: (name != TEXT, name.count("+"), name)))

    def usable(self, takes: Iterable[str]) -> Requests:
        """Those that bring no other media than ``takes``."""
        media = set(takes)
        return self._those(tuple(one for one in self.all if set(one.media) <= media))

    def part(self, *splits: Split) -> Requests:
        """Those of some splits."""
        return self._those(tuple(one for one in self.all if one.split in splits))

    def _those(self, kept: tuple[MediaRequest, ...]) -> Requests:
        return Requests(kept, self.name, digest_of(kept))


def digest_of(requests: Sequence[MediaRequest]) -> str:
    """Hex sha256 of what the requests say and of the names of their files."""
    found = hashlib.sha256()
    for one in requests:
        found.update(repr((one.id, one.harmful, one.split, one.parts)).encode())
    return found.hexdigest()


def split_of(request_id: str) -> Split:
    """Where a request belongs, by a hash of its id: 60 % train, 15 % tune, 25 % held out."""
    share = hashlib.sha256(request_id.encode()).digest()[0] / 256
    return "train" if share < 0.6 else "tune" if share < 0.75 else "held"


def read_requests(path: Path, rows: int | None = None, held: int | None = None) -> Requests:
    """The requests of a file in the papers' schema.

    At most ``rows`` of each group, label and split, and at most ``held`` of those held out.

    Every file that a row names is looked for. Raises :class:`RequestFileError`.
    """
    try:
        lines = read_json_lines(path)
    except JsonLinesError as error:
        raise RequestFileError(str(error)) from error
    taken: dict[tuple[str, bool, Split], int] = {}
    found = []
    for number, row in lines:
        one = _request(row, path, f"{path}, line {number}")
        cell = (one.group, one.harmful, one.split)
        taken[cell] = taken.get(cell, 0) + 1
        most = held if one.split == "held" else rows
        if most is None or taken[cell] <= most:
            found.append(one)
    if not found:
        raise RequestFileError(f"{path} holds no requests; expected one JSON object a line")
    return Requests(tuple(found), path.name, digest_of(found))


def _request(row: dict[str, Any], path: Path, where: str) -> MediaRequest:
    check_columns(row, _COLUMNS, where)
    label = row.get("type")
    if label not in _LABELS:
        raise RequestFileError(
            f"{where}: 'type' is {label!r}, expected 'harmful' or 'safe'; {columns_found(row)}"
        )
    given: list[tuple[Kind, str]] = []
    for kind in MEDIA:
        # The sets leave a column empty where a row has no such medium.
        if (name := row.get(kind)) not in (None, ""):
            given.append((kind, _file(path.parent, name, where)))
    text = row.get("text")
    if text is not None and not isinstance(text, str):
        raise RequestFileError(f"{where}: 'text' is {text!r}; expected a string")
    if text and says_something(text):
        given.append((TEXT, text))
    if not given:
        raise RequestFileError(f"{where}: neither text nor a medium; {columns_found(row)}")
    name = str(row.get("id", hashlib.sha256(repr(given).encode()).hexdigest()[:16]))
    return MediaRequest(name, _LABELS[label], split_of(name), tuple(given), path.parent)


def _file(root: Path, name: object, where: str) -> str:
    if not isinstance(name, str):
        raise RequestFileError(f"{where}: a medium is {name!r}; expected the path of one file")
    if not (root / name).is_file():
        raise RequestFileError(f"{where}: there is no file {root / name}; unpack the media there")
    return name
