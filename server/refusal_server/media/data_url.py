"""``data:`` URLs: base64 only, bounded, decoded strictly."""

from __future__ import annotations

import base64
import binascii

from refusal_server.errors import ApiError, bad_request


def invalid_media(problem: str, where: str) -> ApiError:
    """A 400 for a medium that cannot be used."""
    return bad_request(f"{where} {problem}.", code="invalid_media", param=where)


def decode(text: str, max_bytes: int, where: str) -> bytes:
    """The bytes of one base64 text; raises a 400 or 413."""
    if len(text) > max_bytes * 4 // 3 + 4:
        message = f"{where} is larger than {max_bytes} bytes."
        raise ApiError(413, message, code="media_too_large", param=where)
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid_media("is not valid base64", where) from error
    if not raw:
        raise invalid_media("is empty", where)
    return raw


def split(url: str, where: str) -> tuple[str, str]:
    """The media type and the base64 text of a ``data:`` URL."""
    head, comma, text = url[len("data:") :].partition(",")
    media_type, *parameters = head.split(";")
    if not comma or not parameters or parameters[-1] != "base64":
        raise invalid_media("must be a base64 data URL: data:<type>;base64,<data>", where)
    return media_type.strip().lower(), text
