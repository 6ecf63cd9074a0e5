"""What a bundle's gate has read of a prompt, as callers and operators are told it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from refusal_server.telemetry.ending import GatePlace, LayerPlace
from refusal_steering.gate.prompt_gate import PromptGate
from refusal_steering.gate.prompt_tokens import TEXT, MediaTokens, PromptTokens
from refusal_steering.gate.reading import GateReading, TokenRisks
from refusal_steering.gate.token_texts import TokenTexts
from refusal_steering.trace import Trace


def place_of(gate: PromptGate, traces: Sequence[Trace], texts: TokenTexts) -> GatePlace | None:
    """Where ``gate`` found the most, by the first of ``traces`` that was read."""
    found = _read(traces)
    if found is None:
        return None
    reading, prompt = found
    where = reading.position
    modality = _modality(prompt, where)
    return GatePlace(
        score=reading.score,
        opening=reading.opening,
        position=where,
        risk=gate.token_risk(reading.peak),
        modality=modality,
        text=texts.one(prompt.ids[where]) if prompt and modality == TEXT else None,
        layers=tuple(
            LayerPlace(layer, score, peak, _modality(prompt, peak))
            for layer, score, peak in zip(gate.layers, reading.layers, reading.peaks, strict=True)
        ),
    )


def section(
    gate: PromptGate,
    threshold: float,
    traces: Sequence[Trace],
    place: GatePlace | None,
    texts: TokenTexts,
) -> dict[str, Any] | None:
    """The report's ``gate``; with ``token_risks`` where the device was asked for them.

    ``threshold`` is that of the request's media.
    """
    found = _read(traces)
    if found is None or place is None:
        return None
    reading, prompt = found
    content = {**place.shown(text=True), "threshold": threshold, "pooling": gate.pooling}
    if reading.risks is None:
        return content
    return {**content, "token_risks": _along(gate, threshold, reading.risks, prompt, texts)}


def _along(
    gate: PromptGate,
    threshold: float,
    risks: TokenRisks,
    prompt: PromptTokens | None,
    texts: TokenTexts,
) -> dict[str, Any]:
    """The risk of every token that counts, or the highest of ``stride`` tokens in a row."""
    return {
        "first": risks.first,
        "stride": risks.stride,
        "threshold": _rounded(gate.token_risk(threshold / gate.parts)),
        "risks": [_rounded(gate.token_risk(score)) for score in risks.values],
        "texts": None if prompt is None else texts.each(_text_runs(risks, prompt)),
        "media": [] if prompt is None else [_medium(m) for m in _counted(risks, prompt)],
    }


def _text_runs(risks: TokenRisks, prompt: PromptTokens) -> list[list[int]]:
    """The text tokens behind each value; empty where all of them stand for media."""
    is_media = bytearray(len(prompt.ids))
    for medium in prompt.media:
        is_media[medium.first : medium.first + medium.count] = b"\1" * medium.count
    starts = range(risks.first, len(prompt.ids), risks.stride)
    return [
        [
            prompt.ids[position]
            for position in range(start, min(start + risks.stride, len(prompt.ids)))
            if not is_media[position]
        ]
        for start in starts
    ]


def _counted(risks: TokenRisks, prompt: PromptTokens) -> list[MediaTokens]:
    return [medium for medium in prompt.media if medium.first >= risks.first]


def _medium(medium: MediaTokens) -> dict[str, Any]:
    grid, seconds = medium.layout.grid, medium.layout.seconds
    named = None if grid is None else dict(zip(("frames", "rows", "columns"), grid, strict=True))
    return {
        "modality": medium.modality,
        "first": medium.first,
        "count": medium.count,
        "grid": named,
        "seconds": None if seconds is None else round(seconds, 3),
    }


def _read(traces: Sequence[Trace]) -> tuple[GateReading, PromptTokens | None] | None:
    """The first reading of ``traces``, and the prompt that it is of."""
    for trace in traces:
        if trace.gate is not None and math.isfinite(trace.gate.score):
            return trace.gate, trace.prompt
    return None


def _modality(prompt: PromptTokens | None, position: int) -> str | None:
    return None if prompt is None else prompt.modality_at(position)


def _rounded(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None
