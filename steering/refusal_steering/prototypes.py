"""Refusal prototypes: what the model's first answer states look like when it refuses (RAS).

arXiv 2510.13698: prototype n is the mean final state, after the last norm, from which the model
chose token n of its answers to policy-violating instructions. Because the output layer is linear,
moving a state towards a prototype is the same as blending their logits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class RefusalPrototypes:
    """Float32 tensors on the CPU.

    ``states`` [N, H], one for each of the first N generated tokens. ``tokens`` [K] int64 and
    ``likelihood`` [K] are the largest entries of P = sum_n discount^n softmax(W states[n]);
    ``norm`` is the length of all of P.
    """

    states: Tensor
    tokens: Tensor
    likelihood: Tensor
    norm: float

    @property
    def count(self) -> int:
        """How many generated tokens have a prototype."""
        return int(self.states.shape[0])

    def similarity(self, steps: Sequence[Mapping[int, float]], discount: float) -> float:
        """Cosine S in [0, 1] between P and Q = sum_n discount^n q_n.

        ``steps`` are log-probabilities by token id of the first answer tokens, at least the
        likeliest 20 of each (the rest of Q then changes S by less than 0.004).
        """
        mass: dict[int, float] = {}
        for n, step in enumerate(steps[: self.count]):
            for token, logprob in step.items():
                mass[token] = mass.get(token, 0.0) + float(discount**n) * math.exp(logprob)
        length = math.sqrt(sum(value * value for value in mass.values()))
        if length == 0.0 or self.norm == 0.0:
            return 0.0
        likely = dict(zip(self.tokens.tolist(), self.likelihood.tolist(), strict=True))
        shared = sum(value * likely.get(token, 0.0) for token, value in mass.items())
        return min(1.0, float(shared) / (length * self.norm))


def logits_are_linear(text_config: object) -> bool:
    """Whether a model's logits follow its final states in proportion, so that they can be blended.

    ``text_config`` is the configuration of its language model. A scale keeps the proportion; the
    cap that some families put on their logits does not.
    """
    return not getattr(text_config, "final_logit_softcapping", None)


def summarise(
    states: Tensor, logits: Tensor, discount: float, keep: int = 512
) -> RefusalPrototypes:
    """Prototypes from mean states [N, H] and the logits [N, V] of each."""
    weights = discount ** torch.arange(logits.shape[0], dtype=torch.float32)
    whole = (weights.unsqueeze(-1) * logits.float().softmax(-1)).sum(0)
    likelihood, tokens = whole.topk(min(keep, whole.shape[0]))
    return RefusalPrototypes(states.float(), tokens, likelihood, float(whole.norm()))


def risk_of(similarity: float, base: float, slope: float) -> float:
    """The risk r = sigmoid(slope * (S - base))."""
    return 1.0 / (1.0 + math.exp(-max(-60.0, min(60.0, slope * (similarity - base)))))
