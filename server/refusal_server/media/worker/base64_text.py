"""Base64 as ordinary clients write it: in lines, without padding, URL-safe, percent-encoded."""

from __future__ import annotations

import base64
import binascii
import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from refusal_server.media.worker.unusable import Unusable

_BLANKS = re.compile(rb"[ \t\r\n\f\v]+")
_URL_SAFE = bytes.maketrans(b"-_", b"+/")


class Decoded(NamedTuple):
    """``strict`` says that every base64 decoder reads the text as it stands."""

    data: bytes
    strict: bool


def decode(text: bytes, max_bytes: int) -> Decoded:
    """The bytes behind ``text``; raises :class:`Unusable`."""
    try:
        decoded = Decoded(binascii.a2b_base64(text, strict_mode=True), strict=True)
    except binascii.Error:
        decoded = Decoded(_leniently(text), strict=False)
    if not decoded.data:
        raise Unusable("is empty")
    check_size(decoded.data, max_bytes)
    return decoded


def check_size(data: bytes, max_bytes: int) -> None:
    """Raise :class:`Unusable` for more than ``max_bytes``."""
    if len(data) > max_bytes:
        raise Unusable(f"is larger than {max_bytes} bytes", code="media_too_large")


def encode(data: bytes) -> bytes:
    """Strict base64."""
    return base64.b64encode(data)


def _leniently(text: bytes) -> bytes:
    if b"%" in text:
        text = unquote_to_bytes(text)
    text = _BLANKS.sub(b"", text).translate(_URL_SAFE).rstrip(b"=")
    try:
        return binascii.a2b_base64(text + b"=" * (-len(text) % 4), strict_mode=True)
    except binascii.Error as error:
        raise Unusable("is not valid base64") from error
