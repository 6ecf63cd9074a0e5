"""Checks every medium of a request before the engine decodes it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any

from refusal_server.media.audio import check_audio
from refusal_server.media.data_url import decode, invalid_media, split
from refusal_server.media.fetch import MediaFetcher
from refusal_server.media.image import check_image
from refusal_server.media.parts import media_parts, unsupported_modality
from refusal_server.media.video import FRAME_LIST_TYPE, check_frame_list, check_video
from refusal_server.settings import Media

_AUDIO_FORMAT = re.compile(r"[a-z0-9]{1,8}")


class MediaGuard:
    """Knows the limits and what the served model takes (modality to largest count)."""

    def __init__(self, limits: Media, takes: Mapping[str, int]) -> None:
        self._limits = limits
        self._takes = takes
        self._fetcher = MediaFetcher(limits)

    async def check(self, messages: list[dict[str, Any]]) -> str:
        """Check checked messages' media, replace fetched URLs; the request's modality label."""
        parts = list(media_parts(messages))
        counts: dict[str, int] = {}
        for modality, _, where in parts:
            counts[modality] = counts.get(modality, 0) + 1
            if modality not in self._takes:
                raise unsupported_modality(modality, self._takes, where)
            if counts[modality] > self._takes[modality]:
                problem = f"is one {modality} too many; at most {self._takes[modality]} may be sent"
                raise invalid_media(problem, where)
        for modality, part, where in parts:
            await self._check_part(modality, part, where)
        return "text" if not counts else next(iter(counts)) if len(counts) == 1 else "mixed"

    async def _check_part(self, modality: str, part: dict[str, Any], where: str) -> None:
        medium = part[part["type"]]
        if part["type"] == "input_audio":
            if not _AUDIO_FORMAT.fullmatch(medium["format"]):
                raise invalid_media("has a format that is not a plain name such as wav", where)
            await asyncio.to_thread(self._inspect, modality, "", medium["data"], where)
            return
        if medium["url"][:5].lower() != "data:":
            medium["url"] = await self._fetcher.fetch(medium["url"], where)
        media_type, text = split(medium["url"], where)
        await asyncio.to_thread(self._inspect, modality, media_type, text, where)

    def _inspect(self, modality: str, media_type: str, text: str, where: str) -> None:
        if modality == "video" and media_type == FRAME_LIST_TYPE:
            check_frame_list(text, self._limits, where)
            return
        raw = decode(text, self._limits.item_bytes, where)
        if modality == "image":
            check_image(raw, self._limits.image_pixels, where)
        elif modality == "audio":
            check_audio(raw, self._limits, where)
        else:
            check_video(raw, self._limits, where)
