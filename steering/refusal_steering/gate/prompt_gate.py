"""The gate of a bundle: one score for a whole prompt, read from its tokens by linear probes.

A probe of layer ``l`` scores every counted token by its residual stream, ``s_l(t)``. A prompt's
score is the mean over layers of ``max_t s_l(t)``, of ``sum_t softmax_t(q_l(t)) v_l(t)``, or of the
sum of both. Above a threshold it opens the coefficients of the bundle's layers, from 0 to 1 over a
stated width. The numbers are float32; this file is the formula, the engine computes the same in
pieces.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from refusal_steering.terms import media_set

Pooling = Literal["max", "attention", "both"]


@dataclass(frozen=True, slots=True)
class TokenProbe:
    """What one layer reads from the residual stream ``h`` [H] of a token; float32 on the CPU.

    ``weight . h + bias`` is the token's score, ``query . h`` its weight in the attention before the
    softmax, ``value . h + value_bias`` what the attention averages. Vectors have shape [H].
    Standardisation is folded into them by whoever trains.
    """

    weight: Tensor
    bias: float
    query: Tensor
    value: Tensor
    value_bias: float

    @classmethod
    def maximum(cls, weight: Tensor, bias: float) -> TokenProbe:
        """A probe without attention."""
        return cls(weight, bias, torch.zeros_like(weight), torch.zeros_like(weight), 0.0)

    @property
    def stacked(self) -> tuple[Tensor, Tensor]:
        """Rows [3, H] and biases [3]: score, query, value."""
        biases = torch.tensor([self.bias, 0.0, self.value_bias])
        return torch.stack((self.weight, self.query, self.value)), biases


@dataclass(frozen=True, slots=True)
class PromptScore:
    """The score of one prompt of ``T`` tokens, ``C`` of them counted.

    ``layers`` is each layer's pooled score, ``peaks`` the position of its highest token.
    ``risks`` [C] is the mean score over layers of every counted token, ``position`` where it is
    highest.
    """

    score: float
    layers: tuple[float, ...]
    peaks: tuple[int, ...]
    position: int
    risks: Tensor


@dataclass(frozen=True, slots=True)
class PromptGate:
    """Token probes by layer, and what their pooled score does.

    ``user_turn`` are the token ids that open a user turn in the chat template; empty counts every
    token. ``opens`` says that the score multiplies the coefficients; else it is only reported.
    ``threshold`` is that of every prompt whose media have none of their own in
    ``media_thresholds``, by :func:`~refusal_steering.terms.media_set`.
    """

    probes: Mapping[int, TokenProbe]
    pooling: Pooling
    threshold: float
    width: float
    opens: bool = True
    user_turn: tuple[int, ...] = ()
    media_thresholds: Mapping[str, float] = field(default_factory=dict)

    @property
    def layers(self) -> tuple[int, ...]:
        """Indices of the probed decoder layers, in order."""
        return tuple(sorted(self.probes))

    @property
    def uses(self) -> tuple[float, float]:
        """Factors of the maximum and of the attention in a layer's score: 0 or 1."""
        return float(self.pooling != "attention"), float(self.pooling != "max")

    @property
    def parts(self) -> int:
        """How many readings of a layer its score is the sum of."""
        return 2 if self.pooling == "both" else 1

    def token_risk(self, score: float) -> float:
        """The risk, 0 to 1, of a prompt in which every part of every layer scores ``score``.

        So a token's score compares with the risk of the whole, which is the sigmoid of the pooled
        score.
        """
        return float(torch.tensor(score * self.parts).sigmoid())

    @property
    def digest(self) -> str:
        """Names what is read, hex sha256: gates that differ in their threshold alone share it."""
        named = hashlib.sha256(self.pooling.encode())
        for index in self.layers:
            rows, biases = self.probes[index].stacked
            named.update(f"/{index}/".encode())
            named.update(torch.cat((rows.flatten(), biases)).numpy().tobytes())
        return named.hexdigest()

    def count_from(self, token_ids: Sequence[int]) -> int:
        """Position of the first counted token: the first one of the first user turn's content.

        System prompts before it are not read. A prompt without a user turn is read from its start,
        and the last token is always read.
        """
        return first_counted(token_ids, self.user_turn)

    def score(self, rows: Mapping[int, Tensor], count_from: int = 0) -> PromptScore:
        """Score a prompt by its residual rows [T, H] of every probed layer."""
        read = [self._read(index, rows[index][count_from:]) for index in self.layers]
        tokens = torch.stack([scores for scores, _ in read])
        pooled = torch.stack([layer for _, layer in read])
        risks = tokens.mean(0)
        return PromptScore(
            score=float(pooled.mean()),
            layers=tuple(pooled.tolist()),
            peaks=tuple(count_from + peak for peak in tokens.argmax(1).tolist()),
            position=count_from + int(risks.argmax()),
            risks=risks,
        )

    def threshold_of(self, media: Collection[str]) -> float:
        """The score up to which the gate stays shut for a prompt with ``media``."""
        return self.media_thresholds.get(media_set(media), self.threshold)

    def opening(self, score: float, media: Collection[str] = ()) -> float:
        """How far ``score`` opens the gate for a prompt with ``media``, 0 to 1.

        Exactly 0 up to the threshold, so that the requests that a conformal threshold spares are
        not touched at all; then a straight line, which of all shapes of this width moves least when
        rounding moves the score.
        """
        if not self.opens:
            return 1.0
        return max(0.0, min(1.0, (score - self.threshold_of(media)) / self.width))

    def _read(self, index: int, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Token scores [C] of one layer and their pooled score."""
        probe = self.probes[index]
        rows = rows.float()
        scores = rows @ probe.weight + probe.bias
        attention = (rows @ probe.query).softmax(0) @ (rows @ probe.value + probe.value_bias)
        maximum, attended = self.uses
        return scores, maximum * scores.amax() + attended * attention


def first_counted(token_ids: Sequence[int], user_turn: Sequence[int]) -> int:
    """Position of the first token of a prompt that a gate reads; see :meth:`PromptGate.count_from`.

    Of several ids in ``user_turn`` the last one is not compared. It is white space in most
    templates, and a tokenizer merges it with white space that the content begins with: a turn
    that begins with a blank line would go unread where a later turn is found.
    """
    last = len(token_ids) - 1
    wanted, size = list(user_turn[: max(1, len(user_turn) - 1)]), len(user_turn)
    if not wanted:
        return 0
    try:
        first = token_ids.index(wanted[0])
        while list(token_ids[first : first + len(wanted)]) != wanted:
            first = token_ids.index(wanted[0], first + 1)
    except ValueError:
        return 0
    return min(first + size, last) if first + size <= len(token_ids) else 0
