"""MARS through the engine that serves: one layer, one direction of text, re-centred for media.

The frame comes from text requests to learn from: harmful ones that the model refuses, harmless ones
that it answers. The layer is chosen on tuning requests, which made no frame: in thousands of
dimensions a frame's own rows always come apart. Whether the direction causes refusals at all is
then tried once, with the engine.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from refusal_steering.analysis.layer_scores import layer_scores
from refusal_steering.analysis.phenomena import LabelledRows, TextFrame
from refusal_steering.bundle import Window, make_bundle
from refusal_steering.coefficient import LayerSteering
from refusal_steering.engine import (
    EngineAnswer,
    EngineFacts,
    Messages,
    ServedModel,
    Steered,
    in_batches,
)
from refusal_steering.errors import SteeringError
from refusal_steering.methods.mars import TextDirection, mars_layer, media_offset
from refusal_steering.pipeline.media.blending.risk import refused_texts
from refusal_steering.pipeline.media.collecting import StoredRows
from refusal_steering.pipeline.media.plan import MediaPlan
from refusal_steering.pipeline.media.requests import TEXT
from refusal_steering.pipeline.media.work import Kept, Work
from refusal_steering.pipeline.parts import Part
from refusal_steering.prompts.neutral_media import NEUTRAL_SIZES, neutral_part
from refusal_steering.spec import SteeringSpec
from refusal_steering.terms import MOST_COUNTED

_FEWEST = 8
_UNFILTERED = (
    "mars takes all text requests for its frame: too few harmful ones are refused, or too few "
    "harmless ones answered"
)
NEUTRAL_PROMPTS = 4
TRIED = 16
_ALONE = "alone"
# What a token outside of the likeliest 20 counts as, in nats.
_UNLIKELY = -12.0


def mars_part(model: ServedModel, rows: StoredRows, plan: MediaPlan, work: Work) -> Part:
    """Strategy ``mars``.

    Raises ``SteeringError`` where no layer separates, or where its direction causes no refusals.
    """
    learning, filtered = _frame_rows(model, rows, work)
    at, scores = _layer(model, rows, learning)
    harmful = torch.tensor([rows.requests.all[place].harmful for place in learning])
    layer = mars_layer(rows.layer(at)[learning], harmful, plan.mars)
    effect = _effect(model, rows, at, layer, work)
    if effect is not None and effect <= 0.0:
        raise SteeringError(
            f"the direction of layer {at} makes refusals no likelier ({effect:+.2f} nats on "
            "harmless requests); this model has no refusal direction of text to steer along"
        )
    midpoint = TextDirection.between(rows.layer(at)[learning], harmful).midpoint
    offsets = _offsets(model, rows, at, midpoint, plan, work)
    layer = replace(layer, offsets=offsets)
    spec = SteeringSpec.of_parts(
        {at: layer}, Window(decode_tokens=0, hold=True), dose_limit=plan.dose_limit
    )
    facts = {
        "layer_area_on_tuning_rows": scores,
        "refused_only": filtered,
        "refusal_nats": effect,
        "offset": plan.mars_offset,
        "sound_in_videos": model.facts.hears_videos,
        "offset_lengths": {
            medium: [round(float(length), 3) for length in by_count.norm(dim=-1)]
            for medium, by_count in offsets.items()
        },
    }
    return Part("mars", spec, facts=facts, notes=() if filtered else (_UNFILTERED,))


def _frame_rows(model: ServedModel, rows: StoredRows, work: Work) -> tuple[list[int], bool]:
    """Places of the text requests that make the frame, and whether refusals chose them."""
    requests = rows.requests
    refused = set(refused_texts(model, requests, work))
    text = requests.chosen("train", TEXT)
    clear = [at for at in text if (at in refused) == requests.all[at].harmful]
    labels = [requests.all[at].harmful for at in clear]
    if min(sum(labels), len(labels) - sum(labels)) < _FEWEST:
        return text, False
    return clear, True


def _layer(model: ServedModel, rows: StoredRows, learning: list[int]) -> tuple[int, float]:
    requests = rows.requests
    depth = model.facts.identity.num_layers
    frame = TextFrame.of(_labelled(rows, learning, depth))
    tuning = _labelled(rows, requests.chosen("tune", TEXT), depth)
    scores = layer_scores(tuning, frame)
    return scores.best, scores.separability[scores.best]


def _labelled(rows: StoredRows, places: list[int], depth: int) -> LabelledRows:
    hidden = torch.stack([rows.layer(layer)[places] for layer in range(depth)])
    harmful = torch.tensor([rows.requests.all[place].harmful for place in places])
    return LabelledRows(hidden, harmful, ("plain",) * len(places))


def _effect(
    model: ServedModel, rows: StoredRows, at: int, layer: LayerSteering, work: Work
) -> float | None:
    """How many nats likelier the first words of refusals become for harmless requests.

    ``None`` where the model refuses nothing, so that nobody knows what its refusals begin with.
    """
    requests = rows.requests
    refused = refused_texts(model, requests, work)[:TRIED]
    if not refused:
        return None
    opening = _openings(model, [requests.all[place].messages() for place in refused])
    constant = LayerSteering.static(layer.direction, layer.ceiling)
    identity = model.facts.identity
    manifest = {"name": "effect", "strategy": "static", "model": identity}
    bundle = make_bundle({at: constant}, manifest)
    model.load(bundle)
    asked = [requests.all[at].messages() for at in requests.chosen("tune", TEXT, False)[:TRIED]]
    plain = model.answers(asked, 1, logprobs=True)
    moved = model.answers(asked, 1, Steered(bundle, SteeringSpec.of(bundle)), logprobs=True)
    return fmean(_likelihood(one, opening) for one in moved) - fmean(
        _likelihood(one, opening) for one in plain
    )


def _openings(model: ServedModel, conversations: list[Messages]) -> set[int]:
    answers = model.answers(conversations, 1, logprobs=True)
    return {max(one.steps[0], key=lambda token: one.steps[0][token]) for one in answers}


def _likelihood(answer: EngineAnswer, tokens: set[int]) -> float:
    return max((answer.steps[0].get(token, _UNLIKELY) for token in tokens), default=_UNLIKELY)


def _offsets(
    model: ServedModel,
    rows: StoredRows,
    at: int,
    midpoint: Tensor,
    plan: MediaPlan,
    work: Work,
) -> dict[str, Tensor]:
    """What neutral media of real sizes add to a row of layer ``at``, by medium.

    Each is [C, H]: for 1 to C items of it in a request, as far as the server takes them.
    """
    requests = rows.requests
    prompts = [
        requests.all[p].text for p in requests.chosen("train", TEXT, False)[:NEUTRAL_PROMPTS]
    ]
    most = neutral_items(model.facts)

    def measure() -> Kept:
        alone = _rows_at(model, [_beside(prompt, []) for prompt in prompts], at).mean(0)
        beside = {
            medium: torch.stack(
                [
                    _with_media(model, medium, count, prompts, at).mean(0)
                    for count in range(1, items + 1)
                ]
            )
            for medium, items in most.items()
        }
        return Kept({**beside, _ALONE: alone})

    inputs = {"model": model.facts.digest, "layer": at, "prompts": prompts, "items": most}
    found = dict(work.kept("offsets", inputs, measure).tensors)
    alone = found.pop(_ALONE)
    return {
        medium: media_offset(plan.mars_offset, beside, alone, midpoint)
        for medium, beside in found.items()
    }


def neutral_items(facts: EngineFacts) -> dict[str, int]:
    """How many neutral items of each medium are measured; videos that are heard are audio too."""
    takes = facts.takes
    most = {medium: min(MOST_COUNTED, takes[medium]) for medium in NEUTRAL_SIZES if medium in takes}
    if facts.hears_videos and "video" in most:
        most["video"] = min(most["video"], takes.get("audio", 0))
    return {medium: count for medium, count in most.items() if count}


def _with_media(model: ServedModel, medium: str, count: int, prompts: list[str], at: int) -> Tensor:
    """Rows of every prompt beside ``count`` neutral items, of each size that is common."""
    conversations = [
        _beside(
            prompt,
            [
                neutral_part(medium, size, 10 * place + n, sound=model.facts.hears_videos)
                for n in range(count)
            ],
        )
        for place, (prompt, size) in enumerate(product(prompts, NEUTRAL_SIZES[medium]))
    ]
    return _rows_at(model, conversations, at)


def _rows_at(model: ServedModel, conversations: list[Messages], at: int) -> Tensor:
    parts = in_batches(model, conversations, "neutral media")
    return torch.cat([model.rows(part)[:, at] for part in parts])


def _beside(prompt: str, parts: list[dict[str, Any]]) -> Messages:
    content: Any = [*parts, {"type": "text", "text": prompt}] if parts else prompt
    return [{"role": "user", "content": content}]
