"""Labelled requests in text and media: what a build through the engine is made from.

A user's own data are rows in the common schema of the papers, as ``evaluate`` reads it
(:mod:`refusal_steering.evaluation.suites.request_rows`). What a row sends decides its group. Parts
of a set are drawn by request id, never by row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refusal_steering.evaluation.suites.media import file_part, text_part
from refusal_steering.evaluation.suites.request_rows import (
    MEDIA,
    TEXT,
    Kind,
    RequestRow,
    group_of,
    read_request_rows,
)
from refusal_steering.prompts.contrast_set import Split

# The kinds of a request's parts are named here too, for the stages.
__all__ = (
    "MEDIA",
    "TEXT",
    "Kind",
    "MediaRequest",
    "Requests",
    "digest_of",
    "read_requests",
    "split_of",
)


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
        return group_of(self.parts)

    @property
    def media(self) -> tuple[str, ...]:
        """The media that it brings, one for each item."""
        return tuple(kind for medium in MEDIA for kind, _ in self.parts if kind == medium)

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

    @property
    def by_media(self) -> Mapping[tuple[str, ...], list[int]]:
        """Places of the requests that bring the same media, which are re-centred alike."""
        found: dict[tuple[str, ...], list[int]] = {}
        for place, one in enumerate(self.all):
            found.setdefault(one.media, []).append(place)
        return found

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

    At most ``rows`` of each group, label and split, and at most ``held`` of those held out. Raises
    as :func:`~refusal_steering.evaluation.suites.request_rows.read_request_rows`.
    """
    taken: dict[tuple[str, bool, Split], int] = {}
    found = []
    for row in read_request_rows(path):
        one = _request(row)
        cell = (one.group, one.harmful, one.split)
        taken[cell] = taken.get(cell, 0) + 1
        most = held if one.split == "held" else rows
        if most is None or taken[cell] <= most:
            found.append(one)
    return Requests(tuple(found), path.name, digest_of(found))


def _request(row: RequestRow) -> MediaRequest:
    return MediaRequest(row.id, row.harmful, split_of(row.id), row.parts, row.root)
