"""Write the trained tower where the demo model's set-up finds it.

python -m deploy.demo.training.speech.store FOLDER/distilled.pt deploy/demo/towers/speech
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import towers
from deploy.demo.training.speech import grammar, whisper
from deploy.demo.training.speech.tower import POSITIONS, Tower

# A part of the class that nothing reads: marks around a sound are tokens of the text.
UNUSED = "audio_bos_eos_token.weight"


def describe(tower: Tower) -> dict[str, object]:
    """How the tower is built, and the words that it was trained to hear."""
    return {
        "audio_config": {
            "encoder_layers": whisper.LAYERS,
            "d_model": whisper.WIDTH,
            "encoder_attention_heads": whisper.HEADS,
            "encoder_ffn_dim": whisper.INNER,
            "num_mel_bins": whisper.MELS,
            "max_source_positions": POSITIONS,
            "n_window": POSITIONS,
        },
        "hop_length": tower.hop,
        "words": " ".join(grammar.vocabulary()),
    }


def load(path: Path) -> Tower:
    """The tower of a training's file."""
    state = torch.load(path, weights_only=True)
    width = state["tower"]["proj.bias"].shape[0]
    tower = Tower(width, state["hop"])
    tower.load_state_dict(state["tower"])
    return tower


def main() -> None:
    """Store a tower."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("trained", type=Path)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    tower = load(arguments.trained)
    weights = dict(tower.state_dict())
    weights[UNUSED] = torch.zeros(2, tower.proj.out_features)
    towers.save(arguments.folder, describe(tower), weights)


if __name__ == "__main__":
    main()
