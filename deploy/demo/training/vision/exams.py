"""Fixed sets of pictures and films that measure what the tower names."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from deploy.demo.training.vision import drawings
from deploy.demo.training.vision.drawings import Drawings
from deploy.demo.training.vision.scenes import Scene, Style, make

SIDE, FRAMES = 112, 8
PLAIN = Style(sizes=(0.6, 0.95), vivid=False)
BUSY = Style(sizes=(0.45, 1.0), vivid=True)
SETS = {
    "training artist (Noto)": "noto",
    "development artist (Mozilla)": "fxemoji",
    "unseen artist (Microsoft)": "fluent-emoji",
    "unseen artist, flat": "fluent-emoji-flat",
    "stamps and photographs": "stamps",
}
UNSEEN = "fluent-emoji"


@dataclass(frozen=True)
class Exam:
    """Pictures or films of one kind.

    Attributes:
        name: for the table.
        films: frames of each; a picture is a film of one frame.
    """

    name: str
    films: tuple[tuple[Scene, ...], ...]


def all_of_them(cache: Path, side: int = SIDE) -> list[Exam]:
    """Every exam, always the same."""
    exams = [
        Exam(name, tuple((scene,) for scene in _singles(drawings.load(cache, artist), side, PLAIN)))
        for name, artist in SETS.items()
    ]
    unseen = drawings.load(cache, UNSEEN)
    busy = tuple((scene,) for scene in _singles(unseen, side, BUSY))
    exams.append(Exam("unseen artist, any size, place and background", busy))
    exams.append(Exam("unseen artist, two things", tuple((s,) for s in _pairs(unseen, side))))
    exams.append(Exam("unseen artist, film", tuple(_films(unseen, side))))
    return exams


def _singles(artist: Drawings, side: int, style: Style) -> list[Scene]:
    random = np.random.default_rng(11)
    labels = artist.labels.tolist()
    return [make([thing], side, style, random) for thing in zip(artist.pixels, labels, strict=True)]


def _pairs(artist: Drawings, side: int) -> list[Scene]:
    random = np.random.default_rng(12)
    order = random.permutation(len(artist.labels)).tolist()
    labels = artist.labels.tolist()
    return [
        make([(artist.pixels[n], labels[n]) for n in (one, other)], side, PLAIN, random)
        for one, other in pairwise(order)
        if labels[one] != labels[other]
    ]


def _films(artist: Drawings, side: int) -> list[tuple[Scene, ...]]:
    """A thing that moves and grows before a background that stays."""
    films = []
    for number, (drawing, label) in enumerate(
        zip(artist.pixels, artist.labels.tolist(), strict=True)
    ):
        random = np.random.default_rng((13, number))
        first, last = random.uniform(0.55, 0.95, 2).tolist()
        sizes = np.linspace(first, last, FRAMES).tolist()
        frames = [
            make(
                [(drawing, label)],
                side,
                Style(sizes=(size, size + 1e-6), vivid=False),
                np.random.default_rng((14, number)),
            )
            for size in sizes
        ]
        films.append(tuple(frames))
    return films
