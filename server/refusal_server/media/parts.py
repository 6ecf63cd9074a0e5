"""Where the media of a chat's messages stand, and which kinds of parts bring them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from refusal_server.errors import ApiError, bad_request

MEDIA_KEYS = {
    "image_url": "image",
    "input_audio": "audio",
    "audio_url": "audio",
    "video_url": "video",
}


def media_parts(messages: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Every medium of checked messages: its modality, its part, and its place."""
    for index, message in enumerate(messages):
        content = message.get("content")
        for number, part in enumerate(content if isinstance(content, list) else ()):
            modality = MEDIA_KEYS.get(part["type"])
            if modality is not None:
                yield modality, part, f"messages[{index}].content[{number}].{part['type']}"


def unsupported_modality(modality: str, takes: Mapping[str, int], where: str) -> ApiError:
    """The 400 for a medium that the served model cannot take."""
    accepted = ", ".join(("text", *sorted(takes)))
    return bad_request(
        f"The served model does not take {modality}; it takes {accepted}.",
        code="unsupported_modality",
        param=where,
    )
