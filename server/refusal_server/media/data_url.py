"""The head of ``data:`` URLs; what follows it is decoded by a media worker."""

from __future__ import annotations

import re
from typing import NamedTuple

from refusal_server.errors import ApiError, bad_request

_SCHEME = "data:"
_LONGEST_HEAD = 1024
# The mark may stand before other parameters.
_HEAD_END = re.compile(r";\s*base64\s*(?:;[^;,]*)*,", re.IGNORECASE)
# Recorders of browsers write codecs=vp8,opus without quotes; any other comma ends the head.
_HEAD = re.compile(r'([^;,"]*)(?:;[^;,"=]*(?:=(?:"[^"]*"|[^;"]*))?)*')
_MEDIA_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+")


class DataUrl(NamedTuple):
    """A media type in lower case, and base64 text; ``plain`` if the URL has nothing else."""

    media_type: str
    text: str
    plain: bool


def invalid_media(problem: str, where: str) -> ApiError:
    """A 400 for a medium that cannot be used."""
    return bad_request(f"{where} {problem}.", code="invalid_media", param=where)


def is_data_url(url: str) -> bool:
    """Whether ``url`` has the scheme, in any spelling that clients send."""
    return url[:_LONGEST_HEAD].lstrip()[: len(_SCHEME)].lower() == _SCHEME


def split(url: str, where: str) -> DataUrl:
    """The parts of a base64 ``data:`` URL, other parameters dropped; raises a 400."""
    end = _HEAD_END.search(url, 0, _LONGEST_HEAD)
    head = end and _HEAD.fullmatch(url[: end.start()].lstrip()[len(_SCHEME) :])
    if end is None or head is None:
        raise invalid_media("must be a base64 data URL: data:<type>;base64,<data>", where)
    named = head[1].strip().lower()
    media_type = named if _MEDIA_TYPE.fullmatch(named) else ""
    plain = url.startswith(join(media_type, ""))
    return DataUrl(media_type, url[end.end() :], plain)


def join(media_type: str, text: str) -> str:
    """The URL that vLLM reads."""
    return f"{_SCHEME}{media_type};base64,{text}"
