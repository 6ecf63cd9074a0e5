"""The things that the demo model learns to name, each by one token of its tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).with_name("concepts.txt")
VARIATION = "\ufe0f"


@dataclass(frozen=True)
class Concept:
    """A thing with a name.

    Attributes:
        name: one word, in small letters.
        codes: code points of the emoji that show it, in hexadecimal.
    """

    name: str
    codes: tuple[str, ...]


def load(file: Path = FILE) -> tuple[Concept, ...]:
    """Read the concepts; their order is the order of the classes in training."""
    lines = (line.split() for line in file.read_text("utf-8").splitlines())
    return tuple(
        Concept(name, tuple(f"{ord(emoji[0]):x}" for emoji in shown))
        for name, *shown in (line for line in lines if line and line[0] != "#")
    )


def names() -> tuple[str, ...]:
    """The names alone."""
    return tuple(concept.name for concept in load())
