"""Greedy answers of a model, steered or not, in batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from refusal_steering.calibration.batched import BatchBlend, BatchSteering, batch_steered
from refusal_steering.calibration.model import Batch, CalibrationModel
from refusal_steering.calibration.token_rows.openings import openings
from refusal_steering.decoder_hooks import output_logits
from refusal_steering.spec import SteeringSpec

_BATCH_SIZE = 32


@torch.inference_mode()
def answer_all(
    target: CalibrationModel,
    prompts: Sequence[str],
    tokens: int,
    spec: SteeringSpec | None = None,
    shares: Tensor | None = None,
) -> list[str]:
    """Greedy answers of at most ``tokens`` tokens, in the order of ``prompts``.

    ``shares`` [P] are the prompts' own blends, for strategies that measure the risk of each; they
    stand in for the spec's.
    """
    answers = [""] * len(prompts)
    blend = None if spec is None else _blend(target, len(prompts), spec, shares)
    opening = openings(target, prompts, spec.gate) if spec and spec.gate else None
    for batch in target.batches(prompts, _BATCH_SIZE):
        state = None
        if spec is not None:
            state = BatchSteering(spec, None if opening is None else opening[batch.rows])
        for row, ids in zip(batch.rows, _greedy(target, batch, tokens, state, blend), strict=True):
            answers[row] = target.tokenizer.decode(ids, skip_special_tokens=True)
    return answers


def _blend(
    target: CalibrationModel, prompts: int, spec: SteeringSpec, shares: Tensor | None
) -> BatchBlend | None:
    if spec.prototypes is None:
        return None
    if shares is None:
        shares = torch.full((prompts,), spec.applied_blend)
    return BatchBlend(shares, output_logits(target.model, spec.prototypes.states))


def _greedy(
    target: CalibrationModel,
    batch: Batch,
    tokens: int,
    state: BatchSteering | None,
    blend: BatchBlend | None,
) -> list[list[int]]:
    stop = stop_tokens(target)
    mask, positions, feed = batch.attention_mask, batch.positions, batch.input_ids
    past, chosen = batch.take_prefix(), []
    finished = torch.zeros(len(batch.rows), dtype=torch.bool)
    with batch_steered(target.decoder_layers, state):
        for step in range(tokens):
            if state:
                state.step = step
            logits, past = next_logits(target, feed, mask, positions, past)
            if blend:
                logits = blend.mix(step, batch.rows, logits.float())
            best = logits.argmax(-1)
            chosen.append(best.masked_fill(finished, stop[0]))
            finished |= torch.isin(best, torch.tensor(stop))
            if bool(finished.all()):
                break
            feed, positions = best.unsqueeze(-1), positions[:, -1:] + 1
            mask = torch.cat([mask, mask.new_ones(len(batch.rows), 1)], dim=1)
    return [_until(row, stop) for row in torch.stack(chosen, dim=1).tolist()]


def next_logits(
    target: CalibrationModel, feed: Tensor, mask: Tensor, positions: Tensor, past: Any
) -> tuple[Tensor, Any]:
    """One step of decoding [N]: the logits [N, V] after ``feed``, and the cache that goes on."""
    output = target.model(
        input_ids=feed,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=past,
        use_cache=True,
        logits_to_keep=1,
    )
    return output.logits[:, -1], output.past_key_values


def stop_tokens(target: CalibrationModel) -> list[int]:
    """The tokens that end an answer: the generation configuration's and the tokenizer's."""
    configured = target.model.generation_config.eos_token_id
    found = configured if isinstance(configured, list) else [configured]
    known = {token for token in (*found, target.tokenizer.eos_token_id) if token is not None}
    return sorted(known)


def _until(ids: list[int], stop: Sequence[int]) -> list[int]:
    return next((ids[:place] for place, token in enumerate(ids) if token in stop), ids)
