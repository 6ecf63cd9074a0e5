"""Which parts of a chat's messages bring media, where they stand, and what they must be."""

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
_DETAILS = ("auto", "low", "high", "original")
# The format of audio is a guess of the client's, and may be anything: the bytes decide.
_FIELDS = {**dict.fromkeys(MEDIA_KEYS, "url"), "input_audio": "data"}


def check_media_part(part: dict[str, Any], where: str) -> None:
    """Raise a 400 that names the place unless ``part`` brings one medium; drop its null keys."""
    kind = part["type"]
    if set(part) - {"type", kind, "cache_control"}:
        # A caller's own media id ("uuid") would name another caller's cached medium.
        raise bad_request(f"{where} takes only type and {kind}.", param=where)
    medium, place = part.get(kind), f"{where}.{kind}"
    field = _FIELDS[kind]
    if not isinstance(medium, dict) or not isinstance(medium.get(field), str):
        raise bad_request(f"{place} must be an object with {field}, a string.", param=place)
    for key in [key for key, value in medium.items() if value is None]:
        del medium[key]
    if kind == "image_url" and medium.get("detail", "auto") not in _DETAILS:
        known = ", ".join(_DETAILS)
        raise bad_request(f"{place}.detail must be one of {known}.", param=f"{place}.detail")


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
