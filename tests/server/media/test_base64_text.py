"""Base64 as clients write it."""

from __future__ import annotations

import base64

import pybase64
import pytest

from refusal_server.media.worker.base64_text import decode, encode
from refusal_server.media.worker.unusable import Unusable

# Its base64 has +, / and padding.
RAW = bytes(range(256)) + b"\xfb\xff\xfe?"
TEXT = base64.b64encode(RAW)


def lines(text: bytes, end: bytes, width: int = 76) -> bytes:
    return end.join(text[i : i + width] for i in range(0, len(text), width))


@pytest.mark.parametrize(
    "text",
    [
        lines(TEXT, b"\n"),
        lines(TEXT, b"\r\n"),
        lines(TEXT, b"\n", 64) + b"\n",
        TEXT + b"\n",
        b" " + TEXT,
        b"\t\n" + TEXT + b"\r\n\r\n",
        TEXT.rstrip(b"="),
        TEXT + b"==",
        base64.urlsafe_b64encode(RAW),
        base64.urlsafe_b64encode(RAW).rstrip(b"="),
        TEXT.replace(b"+", b"%2B").replace(b"/", b"%2F").replace(b"=", b"%3D"),
        TEXT.replace(b"=", b"%3d"),
        lines(TEXT, b"%0A"),
        lines(TEXT, b"\r"),
        lines(TEXT, b" ", 4),
        lines(TEXT, b"\v\f", 8),
        "".join(f"%{byte:02x}" for byte in TEXT).encode(),
        TEXT[:100].replace(b"+", b"-") + TEXT[100:],
    ],
)
def test_every_spelling_means_the_same_bytes(text: bytes) -> None:
    decoded = decode(text, 1000)
    assert decoded.data == RAW
    assert not decoded.strict


@pytest.mark.parametrize("size", range(1, 8))
def test_what_is_strict_is_read_by_the_engines_decoder(size: int) -> None:
    text = encode(RAW[:size])
    assert decode(text, 1000) == (RAW[:size], True)
    assert pybase64.b64decode(text, validate=True) == RAW[:size]


@pytest.mark.parametrize(
    "text", [b"@@@@", b"%%%", b"abcde", b"a", b"ab=c", b"=abc", b"\x00\x00\x00\x00", "é".encode()]
)
def test_what_is_not_base64_is_refused(text: bytes) -> None:
    with pytest.raises(Unusable, match="is not valid base64"):
        decode(text, 1000)


@pytest.mark.parametrize("text", [b"", b"\n", b"====", b" ", b"%20"])
def test_nothing_is_refused(text: bytes) -> None:
    with pytest.raises(Unusable, match="is empty"):
        decode(text, 1000)


@pytest.mark.parametrize("text", [TEXT, lines(TEXT, b"\n"), TEXT.rstrip(b"=")])
def test_the_limit_is_one_of_bytes_not_of_text(text: bytes) -> None:
    assert decode(text, len(RAW)).data == RAW
    with pytest.raises(Unusable) as caught:
        decode(text, len(RAW) - 1)
    assert caught.value.code == "media_too_large"
