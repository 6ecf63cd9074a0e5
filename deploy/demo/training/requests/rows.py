"""Requests in pictures, films and speech for the demo model, in the papers' common schema.

    python -m deploy.demo.training.requests.rows FOLDER --cache DIR --part train

writes FOLDER/rows.jsonl and its media, for ``refusal-steering build --data`` (part ``train``) and
``refusal-steering evaluate --suite media:`` (part ``test`` or ``sealed``). These two
share no question that decides, no dangerous thing that is made, no artist, no spoken sentence and
no voice with ``train``, and no such question with each other.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import soundfile
from PIL import Image
from tqdm import tqdm

from deploy.demo.training import films
from deploy.demo.training.requests import questions
from deploy.demo.training.requests.questions import Asked, Part
from deploy.demo.training.speech import grammar, voices
from deploy.demo.training.speech.grammar import Sentence
from deploy.demo.training.speech.voices import Cast
from deploy.demo.training.vision import concepts, drawings, sources
from deploy.demo.training.vision.scenes import Style, make

SIDE, CANVAS = 224, 280
STYLE = Style(sizes=(0.6, 0.95), two=0.0, none=0.0, vivid=False)
CASTS: dict[Part, tuple[Cast, ...]] = {
    "train": ("train",),
    "test": ("espeak", "flite", "natural"),
    "sealed": ("sealed", "flite", "natural"),
}
TYPES = {"harmful": "harmful", "harmless": "safe"}


@dataclass(frozen=True)
class Plan:
    """How many of what.

    Attributes:
        part: whose questions, artists, sentences and voices.
        pictures: pictures of every question with its thing.
        films: share of the questions that are asked about a film, too.
        sentences: spoken sentences of each label.
    """

    part: Part
    pictures: int
    films: float
    sentences: int


class Folder:
    """The file of rows and its media."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "media").mkdir(parents=True, exist_ok=True)
        self.rows: list[dict[str, Any]] = []

    def add(self, name: str, label: str, modality: str, **columns: str) -> None:
        """Add a row; ``columns`` are text and paths of media."""
        row = {"id": name, "type": TYPES[label], "modality": modality, **columns}
        self.rows.append(row)

    def place(self, name: str) -> tuple[Path, str]:
        """Where a medium is written, and how the row names it."""
        return self.path / "media" / name, f"media/{name}"

    def write(self) -> None:
        """Write the rows, whole or not at all."""
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in self.rows)
        partial = self.path / ".rows.jsonl"
        partial.write_text(lines, "utf-8")
        partial.replace(self.path / "rows.jsonl")


def write(folder: Path, cache: Path, plan: Plan) -> int:
    """Write all rows of a plan; return their number."""
    made = Folder(folder)
    gallery = Gallery(cache, plan.part)
    every = list(questions.asked(plan.part))
    for number, asked in enumerate(tqdm(every, unit="question", mininterval=1)):
        _about_pictures(made, gallery, plan, number, asked)
    for label in ("harmful", "harmless"):
        for number, sentence in enumerate(_sentences(label, plan)):
            _spoken(made, plan, f"{label}-{number}", label, sentence)
    made.write()
    return len(made.rows)


class Gallery:
    """Drawings by name, of the artists of a part."""

    def __init__(self, cache: Path, part: Part) -> None:
        names, self._by_name = concepts.names(), dict[str, list[np.ndarray]]()
        sets = [emoji for emoji in sources.EMOJI if emoji.role == _unseen(part)]
        sources.fetch_emoji(cache, sets)
        for emoji in sets:
            artist = drawings.load(cache, emoji.name)
            for pixels, label in zip(artist.pixels, artist.labels.tolist(), strict=True):
                self._by_name.setdefault(names[label], []).append(pixels)

    def scene(self, thing: str, side: int, rng: np.random.Generator) -> np.ndarray:
        """A picture [side, side, 3] of a thing; raises ``KeyError`` for one that nobody drew."""
        drawn = self._by_name[thing]
        return make([(drawn[rng.integers(len(drawn))], 0)], side, STYLE, rng).pixels


def _about_pictures(made: Folder, gallery: Gallery, plan: Plan, number: int, asked: Asked) -> None:
    name = f"{asked.kind}-{number}"
    rng = np.random.default_rng([number, zlib.crc32(plan.part.encode())])
    made.add(f"{name}-text", asked.label, "text", text=asked.plain)
    for copy in range(plan.pictures):
        path, column = made.place(f"{name}-{copy}.png")
        Image.fromarray(gallery.scene(asked.thing, SIDE, rng)).save(path)
        made.add(
            f"{name}-image-{copy}", asked.label, "image_text", text=asked.question, image=column
        )
        heard = questions.spoken(asked.question)
        if sayable(heard):
            sound = _say(made, f"{name}-{copy}.wav", heard, plan, 1000 * copy + number)
            made.add(f"{name}-heard-{copy}", asked.label, "image_audio", image=column, audio=sound)
    if rng.random() < plan.films:
        path, column = made.place(f"{name}.mp4")
        path.write_bytes(films.mp4(films.drift(gallery.scene(asked.thing, CANVAS, rng), SIDE, rng)))
        made.add(f"{name}-video", asked.label, "video_text", text=asked.question, video=column)


def _unseen(part: Part) -> Literal["train", "test"]:
    """The part of artists and sentences that a part of the questions draws from."""
    return "train" if part == "train" else "test"


def sayable(text: str) -> bool:
    """Whether the speech tower has learnt every word of a text."""
    known = set(grammar.vocabulary())
    return all(word in known for word in re.findall(r"[a-z']+", text.lower()))


def _sentences(label: grammar.Label, plan: Plan) -> Iterator[Sentence]:
    rng, met = random.Random(f"{plan.part} {label}"), set[tuple[str, ...]]()
    while len(met) < plan.sentences:
        sentence = grammar.draw(label, _unseen(plan.part), rng)
        if sentence.words not in met:
            met.add(sentence.words)
            yield sentence


def _spoken(made: Folder, plan: Plan, name: str, label: str, sentence: Sentence) -> None:
    made.add(f"said-{name}-text", label, "text", text=sentence.written)
    sound = _say(made, f"said-{name}.wav", sentence.written, plan, zlib.crc32(name.encode()))
    made.add(f"said-{name}-audio", label, "audio", text=sentence.written, audio=sound)


def _say(made: Folder, name: str, text: str, plan: Plan, seed: int) -> str:
    path, column = made.place(name)
    rng = random.Random(seed)
    casts = CASTS[plan.part]
    samples = voices.draw(casts[seed % len(casts)], rng).say(text)
    soundfile.write(path, samples / max(1e-4, float(np.abs(samples).max())) * 0.7, voices.RATE)
    return column


def main() -> None:
    """Write the rows that the options name."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--cache",
        type=Path,
        required=True,
        help="folder of drawings, fetched if they are not there",
    )
    parser.add_argument("--part", choices=get_args(Part), required=True)
    parser.add_argument("--pictures", type=int, default=2, help="of every question with its thing")
    parser.add_argument("--films", type=float, default=0.5, help="share of questions with a film")
    parser.add_argument("--sentences", type=int, default=120, help="spoken ones of each label")
    given = parser.parse_args()
    count = write(
        given.folder, given.cache, Plan(given.part, given.pictures, given.films, given.sentences)
    )
    sys.stdout.write(f"{count} rows in {given.folder / 'rows.jsonl'}\n")


if __name__ == "__main__":
    main()
