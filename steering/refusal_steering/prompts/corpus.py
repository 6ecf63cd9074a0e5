"""The requests of a build: the contrast set of this project, or the user's own files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from refusal_steering.errors import SteeringError
from refusal_steering.prompts import contrast_set
from refusal_steering.prompts.contrast_set import Item, Label
from refusal_steering.prompts.prompt_file import read_prompts

_FEWEST = 60


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

        Raises :class:`SteeringError` for too few requests to calibrate with.
        """
        items = (*_items(harmful, "harmful"), *_items(harmless, "harmless"))
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


def _items(path: Path, label: Label) -> Sequence[Item]:
    rows = read_prompts(path, label)
    if any(row.label != label for row in rows):
        raise SteeringError(f"{path} holds rows that are not {label}; keep the labels in two files")
    texts = dict.fromkeys(row.text.strip() for row in rows)
    return [
        Item(
            f"{label}-{hashlib.sha256(text.encode()).hexdigest()[:12]}", label, "own", "whole", text
        )
        for text in texts
    ]
