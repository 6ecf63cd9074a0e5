"""Spoken sentences on disk: one file of samples and one of descriptions for each set.

    python -m deploy.demo.training.speech.utterances FOLDER --scale 1.0

A set that is there already is kept.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deploy.demo.training.speech import grammar, voices
from deploy.demo.training.speech.grammar import Label, Part, Sentence
from deploy.demo.training.speech.voices import Cast, Voice


@dataclass(frozen=True, slots=True)
class Plan:
    """A set of utterances: how many, of which part, by which voices."""

    count: int
    part: Part
    cast: Cast | None
    labels: dict[Label, int]

    def voice(self, rng: random.Random) -> Voice:
        """Draw a voice; the known ones where no cast is named."""
        return voices.known(rng) if self.cast is None else voices.draw(self.cast, rng)


@dataclass(frozen=True, slots=True)
class Utterance:
    """A spoken sentence, as 16-bit samples."""

    sentence: Sentence
    voice: str
    samples: NDArray[np.int16]


MIXED: dict[Label, int] = {
    "harmless": 38, "harmful": 27, "carrier": 6, "pointing": 14, "words": 15
}  # fmt: skip
REQUESTS: dict[Label, int] = {"harmless": 45, "harmful": 45, "carrier": 10}
PLANS: dict[str, Plan] = {
    "train": Plan(8000, "train", "train", MIXED),
    "development": Plan(120, "development", None, REQUESTS),
    "development-voices": Plan(120, "development", "development", REQUESTS),
    "test-known": Plan(200, "test", None, REQUESTS),
    "test-espeak": Plan(200, "test", "espeak", REQUESTS),
    "test-flite": Plan(200, "test", "flite", REQUESTS),
    "test-natural": Plan(200, "test", "natural", REQUESTS),
}


def make(name: str, folder: Path, scale: float) -> None:
    """Speak a set and write it, unless it is there."""
    plan, rng = PLANS[name], random.Random(name)
    target, described = folder / f"{name}.npy", folder / f"{name}.json"
    if described.is_file():
        return
    sounds, rows = [], []
    count = round(plan.count * scale) if name == "train" else plan.count
    for number in range(count):
        label = rng.choices(tuple(plan.labels), tuple(plan.labels.values()))[0]
        sentence, voice = grammar.draw(label, plan.part, rng), plan.voice(rng)
        samples = voice.say(sentence.written)
        loudest = max(1e-4, float(np.abs(samples).max()))
        sounds.append((samples / loudest * 16_000).astype(np.int16))
        rows.append(
            {
                "words": " ".join(sentence.words), "label": label, "core": sentence.core,
                "voice": f"{voice.synthesiser} {voice.name} {voice.words_per_minute} "
                f"{voice.pitch:.2f}", "length": len(samples),
            }
        )  # fmt: skip
        if number % 100 == 99:
            sys.stderr.write(f"\r{name}: {number + 1} of {count}")
    sys.stderr.write("\n")
    np.save(target, np.concatenate(sounds))
    described.write_text("\n".join(map(json.dumps, rows)) + "\n", "utf-8")


def load(name: str, folder: Path) -> list[Utterance]:
    """Read a set back."""
    return list(_read(name, folder))


def _read(name: str, folder: Path) -> Iterator[Utterance]:
    samples = np.load(folder / f"{name}.npy", mmap_mode="r")
    start = 0
    for line in (folder / f"{name}.json").read_text("utf-8").splitlines():
        row = json.loads(line)
        sentence = Sentence(tuple(row["words"].split()), row["label"], row["core"])
        yield Utterance(sentence, row["voice"], samples[start : start + row["length"]])
        start += row["length"]


def main() -> None:
    """Make all sets."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the training set")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for name in PLANS:
        make(name, arguments.folder, arguments.scale)


if __name__ == "__main__":
    main()
