"""The vectors that a cell should become: a name's, near its text embedding, or nothing's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from deploy.demo.training.vision import concepts
from deploy.demo.training.vision.scenes import BLANK, UNCLEAR

EMBEDDING = "model.embed_tokens.weight"
SHARPNESS = 8.0
PULL = 0.5
BLANK_WEIGHT = 0.3
WORDING = Path(__file__).with_name("wording.safetensors")
"""Gain and offset of the names' embeddings, and the vector of blank cells."""


@dataclass(frozen=True)
class Targets:
    """What cells should become.

    Attributes:
        vectors: [names + 1, width], the last one for blank cells, divided by ``scale``.
        scale: mean norm of the names' text embeddings.
    """

    vectors: Tensor
    scale: float


def load(model: Path, wording: Path = WORDING) -> Targets:
    """The targets from a backbone's folder, in the words that wording.py learned."""
    from safetensors.torch import load_file

    vectors, scale = embeddings(model)
    learned = load_file(wording)
    names = learned["gain"] * vectors + learned["offset"]
    return Targets(torch.cat([names, learned["blank"][None]]), scale)


def embeddings(model: Path) -> tuple[Tensor, float]:
    """The names' text embeddings, divided by their mean norm, and that norm.

    Args:
        model: folder of the backbone.

    Raises:
        SystemExit: a name is not one token.
    """
    from safetensors import safe_open
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    ids = {name: tokenizer.encode(f" {name}").ids for name in concepts.names()}
    long = [name for name, tokens in ids.items() if len(tokens) != 1]
    if long:
        raise SystemExit(f"names must be one token of {model}, unlike {', '.join(long)}")
    with safe_open(model / "model.safetensors", "pt") as file:
        table = file.get_slice(EMBEDDING)
        rows = torch.stack([table[tokens[0]].float() for tokens in ids.values()])
    scale = float(rows.norm(dim=1).mean())
    return rows / scale, scale


def scores(tokens: Tensor, targets: Targets) -> Tensor:
    """How near each token is to each target: [..., names + 1], the higher the nearer."""
    vectors = targets.vectors
    distance = (
        tokens.square().sum(-1, keepdim=True) - 2 * tokens @ vectors.T + vectors.square().sum(-1)
    )
    return -SHARPNESS / 2 * distance


def loss(tokens: Tensor, cells: Tensor, targets: Targets) -> Tensor:
    """Cross-entropy over the targets, and squared distance to the right one.

    Args:
        tokens: [cells, width], what the tower makes of cells.
        cells: [cells] as in ``Scene.cells``.
        targets: what they should become.
    """
    clear = cells != UNCLEAR
    tokens, cells = tokens[clear], cells[clear]
    blank = len(targets.vectors) - 1
    numbers = torch.where(cells == BLANK, blank, cells)
    weight = torch.where(cells == BLANK, BLANK_WEIGHT, 1.0)
    entropy = functional.cross_entropy(scores(tokens, targets), numbers, reduction="none")
    distance = (tokens - targets.vectors[numbers]).square().sum(-1)
    return ((entropy + PULL * distance) * weight).sum() / weight.sum()


def named(tokens: Tensor, targets: Targets) -> Tensor:
    """Shares of the names in a picture: [batch, names], from tokens [batch, cells, width]."""
    shares = scores(tokens, targets).softmax(-1)[..., :-1].sum(1)
    return shares / shares.sum(-1, keepdim=True)
