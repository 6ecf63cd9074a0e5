"""Print word errors of the stored tower on unseen sentences, by voices and by what disturbs them.

    python -m deploy.demo.training.speech.hearing MODEL FOLDER

Words are read off the tower itself, as the tokens nearest to what it puts out, in the grammar's
vocabulary. Intervals are of 95 %, over sentences drawn with replacement.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import towers
from deploy.demo.training.speech import ctc, sound, utterances
from deploy.demo.training.speech.embedding import Embedding
from deploy.demo.training.speech.errors import word_errors
from deploy.demo.training.speech.targets import Targets
from deploy.demo.training.speech.tower import Tower, mel
from deploy.demo.training.speech.utterances import Utterance
from deploy.demo.training.speech.voices import Samples

SETS = ("test-known", "test-espeak", "test-flite", "test-natural")
NOISE_DECIBELS = 10.0
BATCH, DRAWS = 25, 2000


def noisy(samples: Samples, number: int) -> Samples:
    """The sound with pink noise 10 dB below it."""
    noise = sound.noise(len(samples), np.random.default_rng(number), slope=0.5)
    return sound.noisy(samples, noise, NOISE_DECIBELS)


CONDITIONS: dict[str, Callable[[Samples, int], Samples]] = {
    "as spoken": lambda samples, _: samples,
    "noise at 10 dB": noisy,
    "telephone band": lambda samples, _: sound.telephone(samples),
}


def stored_tower(home: Path | None = None) -> Tower:
    """The tower as the demo model gets it."""
    stored = towers.find("speech", home)
    if stored is None:
        raise SystemExit("no trained tower is stored; train and store one first")
    weights = {name: part.float() for name, part in stored.weights().items()}
    tower = Tower(weights["proj.bias"].shape[0], int(stored.description["hop_length"]))
    tower.load_state_dict({name: weights[name] for name in tower.state_dict()})
    return tower.eval()


@torch.no_grad()
def counts(
    tower: Tower,
    targets: Targets,
    known: list[Utterance],
    change: Callable[[Samples, int], Samples],
) -> np.ndarray:
    """Wrong words and said words [n, 2] of every utterance."""
    rows = []
    for start in range(0, len(known), BATCH):
        batch = known[start : start + BATCH]
        mels = [
            mel(change(ctc.floats(each.samples), start + place), tower.hop)
            for place, each in enumerate(batch)
        ]
        heard = tower(mels)
        for each, vectors, length in zip(batch, heard.vectors, heard.lengths, strict=True):
            said = each.sentence.words
            rows.append((word_errors(said, targets.read(vectors[:length])), len(said)))
    return np.array(rows)


def interval(rows: np.ndarray) -> tuple[float, float]:
    """Bounds of the share of wrong words."""
    rng = np.random.default_rng(0)
    drawn = rows[rng.integers(0, len(rows), (DRAWS, len(rows)))].sum(1)
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], (0.025, 0.975))
    return float(low), float(high)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tower, targets = stored_tower(), Targets(Embedding(arguments.model))
    sys.stdout.write("| voices | sentences | words | " + " | ".join(CONDITIONS) + " |\n")
    sys.stdout.write("|---|---|---|" + "---|" * len(CONDITIONS) + "\n")
    for name in SETS:
        known, cells = utterances.load(name, arguments.folder), []
        for change in CONDITIONS.values():
            rows = counts(tower, targets, known, change)
            low, high = interval(rows)
            cells.append(f"{rows[:, 0].sum() / rows[:, 1].sum():.3f} ({low:.3f} to {high:.3f})")
        line = " | ".join([name, str(len(known)), str(rows[:, 1].sum()), *cells])
        sys.stdout.write(f"| {line} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
