"""Where media stand in a prompt, from the prompt as vLLM's renderer hands it to the engine.

vLLM sends the processed medium along once and later only its hash, so the layouts that were read
are remembered by hash.
"""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from refusal_steering.gate.prompt_tokens import MediaLayout, MediaTokens, PromptTokens

logger = logging.getLogger(__name__)

_REMEMBERED = 1024
_NOTHING = MediaLayout()
# Whisper's features, which the audio encoders of the Qwen families take: 16 kHz, a hop of 160.
_FEATURES_PER_SECOND = 100.0


class PromptReadings:
    """Reads the tokens of the prompts of one engine."""

    def __init__(self) -> None:
        self._layouts: OrderedDict[str, MediaLayout] = OrderedDict()

    def tokens(self, prompt: object) -> PromptTokens | None:
        """The tokens of a rendered prompt; ``None`` for one that is not rendered."""
        if not isinstance(prompt, Mapping) or prompt.get("prompt_token_ids") is None:
            return None
        ids = prompt["prompt_token_ids"]
        try:
            media = sorted(self._media(prompt), key=lambda medium: medium.first)
        except Exception:
            # What is only told must not end a request.
            logger.exception("the media of a prompt could not be located")
            return PromptTokens(ids)
        return PromptTokens(ids, tuple(media))

    def _media(self, prompt: Mapping[str, Any]) -> Iterator[MediaTokens]:
        kwargs, hashes = prompt.get("mm_kwargs") or {}, prompt.get("mm_hashes") or {}
        for modality, ranges in (prompt.get("mm_placeholders") or {}).items():
            items = kwargs.get(modality) or [None] * len(ranges)
            names = hashes.get(modality) or [None] * len(ranges)
            for found, item, name in zip(ranges, items, names, strict=True):
                # Inclusive ends; several runs where other tokens stand between, as times do.
                runs = found.extract_embeds_range()
                count = sum(last + 1 - first for first, last in runs)
                layout = self._layout(modality, item, name, count)
                for first, last in runs:
                    whole = last + 1 - first == count
                    yield MediaTokens(
                        modality, first, last + 1 - first, layout if whole else _NOTHING
                    )

    def _layout(self, modality: str, item: Any, name: str | None, count: int) -> MediaLayout:
        key = f"{modality}/{name}"
        if item is None:
            return self._layouts.get(key, _NOTHING)
        found = layout_of(modality, {field: item[field].data for field in item}, count)
        if name is not None:
            self._layouts[key] = found
            self._layouts.move_to_end(key)
            if len(self._layouts) > _REMEMBERED:
                self._layouts.popitem(last=False)
        return found


def layout_of(modality: str, fields: Mapping[str, Any], count: int) -> MediaLayout:
    """How ``count`` tokens lie, from the fields of one processed medium.

    Nothing is guessed: a grid is told where the patches, merged in squares, make up just so many
    tokens, and a length in time where the processor says how long a token or the whole lasts.
    """
    if modality == "audio":
        features = fields.get("audio_feature_lengths")
        if features is None:
            return _NOTHING
        return MediaLayout(seconds=_number(features) / _FEATURES_PER_SECOND)
    patches = fields.get(f"{modality}_grid_thw")
    grid = None if patches is None else _merged(_numbers(patches), count)
    if grid is None or modality == "image":
        return MediaLayout(grid)
    step = fields.get("second_per_grid_ts")
    return MediaLayout(grid, None if step is None else grid[0] * _number(step))


def _merged(patches: Sequence[float], count: int) -> tuple[int, int, int] | None:
    """The grid of tokens over a grid of patches, if it is one of squares of patches."""
    frames, rows, columns = (int(size) for size in patches)
    merge = math.isqrt(frames * rows * columns // count) if count else 0
    if not merge or rows % merge or columns % merge:
        return None
    grid = frames, rows // merge, columns // merge
    return grid if math.prod(grid) == count else None


def _numbers(value: Any) -> list[float]:
    values = value.flatten().tolist() if hasattr(value, "flatten") else value
    return [float(each) for each in values]


def _number(value: Any) -> float:
    (number,) = _numbers(value) if hasattr(value, "flatten") else (float(value),)
    return number
