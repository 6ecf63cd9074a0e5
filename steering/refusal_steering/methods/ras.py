"""RAS: refusal prototypes, and the risk pass that says how much of them a request gets.

arXiv 2510.13698. The wording of the two prompts is ours; a bundle carries it, so that what was
calibrated is what is asked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from refusal_steering.bundle import RiskPass
from refusal_steering.calibration.answers import answer_all, next_logits
from refusal_steering.calibration.chat import THINKING_OFF
from refusal_steering.calibration.model import Batch, CalibrationModel
from refusal_steering.decoder_hooks import final_states, output_logits
from refusal_steering.detection.detector import verdict_on
from refusal_steering.detection.lexical import LexicalDetector
from refusal_steering.errors import SteeringError
from refusal_steering.prototypes import RefusalPrototypes, logits_are_linear, summarise

CONTEXT_PROMPT = (
    "Describe in one sentence what this shows that could matter for safety, and quote any words "
    'that can be read in it. Begin with "This shows".'
)
# The likeness to a refusal is read from what the model would answer to one of these. Models that
# follow instructions well are told to refuse harm; others are better asked as they are.
RISK_PROMPTS = (
    "Look at the request below. If it is ordinary and does no harm, answer it as usual. If it asks "
    "for something dangerous, criminal or cruel, say sorry and decline.\n{context}\nRequest: "
    "{question}",
    "{context}\n{question}",
)
_TOP = 20
_BATCH_SIZE = 32
# The published slope makes the risk of a perfect likeness 0.99.
_CERTAIN = math.log(0.99 / 0.01)


@dataclass(frozen=True, slots=True)
class Openings:
    """Greedy first tokens of answers: states [B, N, H] after the last norm, logits [B, N, V]."""

    states: Tensor
    logits: Tensor


def refusal_prototypes(
    target: CalibrationModel, prompts: Sequence[str], tokens: int, discount: float, fewest: int = 8
) -> RefusalPrototypes:
    """Prototypes from plain harmful ``prompts``; only those that the model refuses take part.

    Raises :class:`SteeringError` when fewer than ``fewest`` are refused, and for a model whose
    logits are capped.
    """
    if not logits_are_linear(target.model.config.get_text_config()):
        raise SteeringError(
            "the model caps its logits, so that moving a state does not blend them; RAS needs "
            "uncapped ones, use another strategy"
        )
    refused = refused_of(target, prompts)
    if len(refused) < fewest:
        raise SteeringError(
            f"the model refuses {len(refused)} of {len(prompts)} plain harmful prompts; prototypes "
            f"need at least {fewest}. RAS steers towards the model's own refusals: give it prompts "
            "that it refuses, or use another strategy."
        )
    states = torch.cat(
        [openings(target, batch, tokens).states for batch in _batches(target, refused)]
    )
    mean = states.mean(0)
    return summarise(mean, output_logits(target.model, mean), discount)


def refused_of(target: CalibrationModel, prompts: Sequence[str]) -> list[str]:
    """Those of ``prompts`` that the model refuses by itself, in order."""
    answers, lexical = answer_all(target, prompts, 24), LexicalDetector()
    return [
        prompt
        for prompt, answer in zip(prompts, answers, strict=True)
        if verdict_on(answer, lexical) == "refusal"
    ]


def risk_question(how: str, question: str, context: str = "") -> str:
    """The user message of the risk pass, as the server puts it."""
    return how.format(question=question, context=context).strip()


@torch.inference_mode()
def similarities(
    target: CalibrationModel,
    questions: Sequence[str],
    prototypes: RefusalPrototypes,
    discount: float,
    prompt: str,
    tokens: int | None = None,
) -> Tensor:
    """Similarity S [N] of every text question, from the likeliest 20 tokens as when serving.

    ``tokens`` of the answer are compared, or as many as there are prototypes. The server asks with
    thinking off whatever its default is, and so does this.
    """
    found = torch.empty(len(questions))
    asked = [risk_question(prompt, question) for question in questions]
    quiet = replace(target, template_arguments={**target.template_arguments, **THINKING_OFF})
    for batch in quiet.batches(asked, _BATCH_SIZE):
        logits = openings(quiet, batch, tokens or prototypes.count).logits
        for row, steps in zip(batch.rows, logits.log_softmax(-1), strict=True):
            found[row] = prototypes.similarity([_likeliest(step) for step in steps], discount)
    return found


def risk_pass(
    similar: Tensor,
    discount: float,
    prompt: str,
    base: float | None = None,
    tokens: int | None = None,
) -> RiskPass:
    """The published calibration from similarities [N] of both kinds of request.

    ``base`` replaces the mean similarity, such as with a quantile of harmless requests. ``tokens``
    is how many were compared for ``similar``, ``None`` as many as there are prototypes.
    """
    centre = float(similar.mean()) if base is None else base
    if centre >= 1.0:
        raise SteeringError("every request looks like a refusal; the model cannot tell risk apart")
    return RiskPass(
        context_prompt=CONTEXT_PROMPT,
        risk_prompt=prompt,
        discount=discount,
        tokens=tokens,
        base=centre,
        slope=_CERTAIN / (1.0 - centre),
    )


@torch.inference_mode()
def openings(target: CalibrationModel, batch: Batch, tokens: int) -> Openings:
    """The first ``tokens`` greedy steps of a batch."""
    feed, mask, positions = batch.input_ids, batch.attention_mask, batch.positions
    past: Any = batch.take_prefix()
    logits = []
    with final_states(target.model) as states:
        for _ in range(tokens):
            last_logits, past = next_logits(target, feed, mask, positions, past)
            logits.append(last_logits.float())
            feed = logits[-1].argmax(-1, keepdim=True)
            positions = positions[:, -1:] + 1
            mask = torch.cat([mask, torch.ones_like(feed)], dim=1)
    last = [passed[:, -1] for passed in states]
    return Openings(torch.stack(last, 1).float(), torch.stack(logits, 1))


def _likeliest(step: Tensor) -> dict[int, float]:
    top = step.topk(_TOP)
    return dict(zip(top.indices.tolist(), top.values.tolist(), strict=True))


def _batches(target: CalibrationModel, prompts: Sequence[str]) -> list[Batch]:
    return list(target.batches(prompts, _BATCH_SIZE))
