"""The requests of a build: the contrast set of this project, or the user's own files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from refusal_steering.errors import SteeringError
from refusal_steering.prompts import contrast_set
from refusal_steering.prompts.contrast_set import Item, Label
from refusal_steering.prompts.prompt_file import PromptFileError, read_prompts

_FEWEST = 60
_HARMLESS_NAMES = ("harmless", "benign")


@dataclass(frozen=True, slots=True)
class Corpus:
    """Items of both labels, what they are called, and the digest of where they come from."""

    items: tuple[Item, ...]
    name: str
    sha256: str

    @classmethod
    def shipped(cls) -> Corpus:
        """The contrast set that comes with the package."""
        return cls(contrast_set.load_items(), "contrast set", contrast_set.digest())

    @classmethod
    def of_files(cls, harmful: Path, harmless: Path) -> Corpus:
        """Requests of two JSONL files with ``prompt``; wrapped in the same forms as ours.

        Raises :class:`SteeringError` for files that were swapped, that hold the same request, or
        that have too few requests to calibrate with.
        """
        _refuse_swapped(harmful, harmless)
        bad, good = _requests(harmful, "harmful"), _requests(harmless, "harmless")
        if both := [text for text in bad if text in good]:
            raise PromptFileError(
                f"{harmful}, line {bad[both[0]]}, is the same request as {harmless}, line "
                f"{good[both[0]]} ({len(both)} such); a request is to be refused or answered"
            )
        items = (*_items(bad, "harmful"), *_items(good, "harmless"))
        for split in ("train", "tune", "held"):
            for label in (True, False):
                count = sum(i.split == split and i.harmful == label for i in items)
                if count < _FEWEST // 10:
                    raise SteeringError(
                        f"only {count} {'harmful' if label else 'harmless'} requests fall into the "
                        f"split {split!r}; give at least {_FEWEST} of each kind"
                    )
        digest = hashlib.sha256(harmful.read_bytes() + harmless.read_bytes()).hexdigest()
        return cls(items, f"{harmful.name}, {harmless.name}", digest)

    def split(self, name: str, label: Label | None = None) -> list[Item]:
        """Items of one split, of one label or of both."""
        return [i for i in self.items if i.split == name and label in (None, i.label)]


def _refuse_swapped(harmful: Path, harmless: Path) -> None:
    """The files' names alone tell, where no row has a label."""
    names = harmful.name.lower(), harmless.name.lower()
    swapped = any(word in names[0] for word in _HARMLESS_NAMES) and not any(
        word in names[1] for word in _HARMLESS_NAMES
    )
    if swapped:
        raise PromptFileError(
            f"{harmful} is given as the harmful requests and {harmless} as the harmless ones; by "
            "their names they are swapped. Swap them, or rename the files"
        )


def _requests(path: Path, label: Label) -> Mapping[str, int]:
    """The requests of a file, each once, with the line that it stands in."""
    found: dict[str, int] = {}
    for row in read_prompts(path, label):
        if row.label != label:
            raise PromptFileError(
                f"{path}, line {row.line}, is labelled {row.label}, not {label}; keep the labels "
                "in two files, and check that the files are not swapped"
            )
        try:
            found.setdefault(row.text.strip(), row.line)
        except PromptFileError as error:
            raise PromptFileError(f"{path}: {error}") from error
    return found


def _items(requests: Mapping[str, int], label: Label) -> list[Item]:
    return [
        Item(
            f"{label}-{hashlib.sha256(text.encode()).hexdigest()[:12]}", label, "own", "whole", text
        )
        for text in requests
    ]
