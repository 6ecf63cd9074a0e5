"""Where media stand in a prompt, read from what vLLM's renderer makes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from vllm.inputs.engine import mm_input
from vllm.multimodal.inputs import (
    MultiModalBatchedField,
    MultiModalFieldElem,
    MultiModalKwargsItem,
    MultiModalKwargsItems,
    PlaceholderRange,
)

from refusal_steering.gate.prompt_tokens import MediaLayout, MediaTokens, PromptTokens
from refusal_steering.vllm_plugin.media_tokens import PromptReadings, layout_of

GRID = {"image_grid_thw": torch.tensor([1, 4, 6])}


def item(fields: dict[str, Any]) -> MultiModalKwargsItem:
    field = MultiModalBatchedField()
    return MultiModalKwargsItem({n: MultiModalFieldElem(v, field) for n, v in fields.items()})


def rendered(
    ranges: dict[str, list[PlaceholderRange]], fields: dict[str, Any] | None, name: str = "h"
) -> Any:
    names = {modality: [name] * len(found) for modality, found in ranges.items()}
    items = {
        modality: [None if fields is None else item(fields)] * len(found)
        for modality, found in ranges.items()
    }
    return mm_input(list(range(40)), MultiModalKwargsItems(items), names, ranges)


def media(found: PromptTokens | None) -> tuple[MediaTokens, ...]:
    assert found is not None
    return found.media


def test_a_picture_lies_on_its_grid_of_merged_patches() -> None:
    prompt = rendered({"image": [PlaceholderRange(3, 6)]}, GRID)
    found = PromptReadings().tokens(prompt)
    assert media(found) == (MediaTokens("image", 3, 6, MediaLayout((1, 2, 3))),)
    assert found is not None
    kinds = [found.modality_at(position) for position in (2, 3, 8, 9)]
    assert kinds == ["text", "image", "image", "text"]


def test_a_medium_that_vllm_sends_by_its_hash_keeps_its_layout() -> None:
    readings, ranges = PromptReadings(), {"image": [PlaceholderRange(3, 6)]}
    first = media(readings.tokens(rendered(ranges, GRID)))
    assert media(readings.tokens(rendered(ranges, None))) == first
    (other,) = media(readings.tokens(rendered(ranges, None, "other")))
    assert other == MediaTokens("image", 3, 6)


def test_markers_around_and_between_are_text() -> None:
    mask = torch.tensor([False, True, True, False, True, False])
    prompt = rendered({"video": [PlaceholderRange(2, 6, mask)]}, {})
    assert media(PromptReadings().tokens(prompt)) == (
        MediaTokens("video", 3, 2),
        MediaTokens("video", 6, 1),
    )


def test_media_stand_in_the_order_of_the_prompt() -> None:
    ranges = {"image": [PlaceholderRange(20, 2)], "audio": [PlaceholderRange(4, 3)]}
    found = media(PromptReadings().tokens(rendered(ranges, {})))
    assert [medium.modality for medium in found] == ["audio", "image"]


@pytest.mark.parametrize(
    ("modality", "fields", "count", "layout"),
    [
        ("image", {"image_grid_thw": torch.tensor([1, 4, 6])}, 24, MediaLayout((1, 4, 6))),
        ("image", {"image_grid_thw": torch.tensor([1, 4, 6])}, 7, MediaLayout()),
        ("image", {"image_grid_thw": torch.tensor([1, 4, 6])}, 0, MediaLayout()),
        ("image", {"pixel_values": torch.zeros(3, 8, 8)}, 24, MediaLayout()),
        (
            "video",
            {"video_grid_thw": torch.tensor([3, 4, 4]), "second_per_grid_ts": torch.tensor(0.5)},
            12,
            MediaLayout((3, 2, 2), 1.5),
        ),
        ("video", {"video_grid_thw": torch.tensor([3, 4, 4])}, 12, MediaLayout((3, 2, 2))),
        ("audio", {"audio_feature_lengths": torch.tensor(250)}, 62, MediaLayout(None, 2.5)),
        ("audio", {"input_features": torch.zeros(128, 250)}, 62, MediaLayout()),
    ],
)
def test_what_a_processor_tells_is_told_and_nothing_is_guessed(
    modality: str, fields: dict[str, Any], count: int, layout: MediaLayout
) -> None:
    assert layout_of(modality, fields, count) == layout


def test_what_cannot_be_located_ends_nothing() -> None:
    prompt = {"prompt_token_ids": [1, 2], "mm_placeholders": {"image": ["damaged"]}}
    assert PromptReadings().tokens(prompt) == PromptTokens([1, 2])
    assert PromptReadings().tokens("raw text") is None
