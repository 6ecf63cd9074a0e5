"""Has every medium of a request read in a cage before the engine sees any."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from refusal_server.errors import ApiError
from refusal_server.media.data_url import invalid_media, is_data_url, join, split
from refusal_server.media.fetch import MediaFetcher
from refusal_server.media.parts import media_parts, unsupported_modality
from refusal_server.media.worker.protocol import Job, Kind, Reading
from refusal_server.media.worker_pool import MediaReader
from refusal_server.settings import Media

_FRAME_LIST_TYPE = "video/jpeg"
_KINDS: dict[str, Kind] = {"image": "image", "audio": "audio", "video": "video"}
# Line breaks and percent signs make text longer than its bytes need.
_LONGEST_TEXT = 2


class MediaGuard:
    """Knows the limits, what the served model takes (modality to largest count), and a reader."""

    def __init__(self, limits: Media, takes: Mapping[str, int], reader: MediaReader) -> None:
        self._limits = limits
        self._takes = takes
        self._reader = reader
        self._fetcher = MediaFetcher(limits)

    async def check(self, messages: list[dict[str, Any]]) -> str:
        """Check checked messages' media and replace what vLLM could not read; their label."""
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
            medium = part[part["type"]]
            if part["type"] == "input_audio":
                await self._check_input_audio(medium, where)
            else:
                await self._check_url(_KINDS[modality], medium, where)
        return "text" if not counts else next(iter(counts)) if len(counts) == 1 else "mixed"

    async def _check_input_audio(self, medium: dict[str, Any], where: str) -> None:
        text = medium["data"]
        if is_data_url(text):
            text = split(text, where).text
        # The format is what the caller's client believes; the bytes say what they are.
        reading = await self._read("audio", text, where)
        medium["data"], medium["format"] = _text(reading, text), "wav"

    async def _check_url(self, kind: Kind, medium: dict[str, Any], where: str) -> None:
        if not is_data_url(medium["url"]):
            fetched = await self._fetcher.fetch(medium["url"], where)
            reading = await self._reader.read(Job(kind, fetched, base64=False))
            _refuse(reading, where)
            medium["url"] = join(reading.media_type, _text(reading, ""))
            return
        media_type, text, plain = split(medium["url"], where)
        if kind == "video" and media_type == _FRAME_LIST_TYPE:
            kind = "frames"
        reading = await self._read(kind, text, where)
        if reading.text is not None or not plain:
            medium["url"] = join(reading.media_type, _text(reading, text))

    async def _read(self, kind: Kind, text: str, where: str) -> Reading:
        most = self._limits.item_bytes
        if len(text) > _LONGEST_TEXT * most * 4 // 3 + 4:
            raise _too_large(most, where)
        try:
            data = text.encode("ascii")
        except UnicodeEncodeError as error:
            raise invalid_media("is not valid base64", where) from error
        reading = await self._reader.read(Job(kind, data, base64=True))
        _refuse(reading, where)
        return reading


def _text(reading: Reading, sent: str) -> str:
    return sent if reading.text is None else reading.text.decode("ascii")


def _refuse(reading: Reading, where: str) -> None:
    if reading.problem is None:
        return
    if reading.code == "media_too_large":
        raise ApiError(413, f"{where} {reading.problem}.", code=reading.code, param=where)
    raise invalid_media(reading.problem, where)


def _too_large(most: int, where: str) -> ApiError:
    return ApiError(
        413, f"{where} is larger than {most} bytes.", code="media_too_large", param=where
    )
