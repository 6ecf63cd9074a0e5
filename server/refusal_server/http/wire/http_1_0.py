"""Answers to clients of HTTP/1.0, which a proxy may be by default."""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


class _AnyLength:
    """What is left of an answer that ends with its connection."""

    def __lt__(self, _: int) -> bool:
        return False

    def __sub__(self, _: int) -> _AnyLength:
        return self

    def __eq__(self, _: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


def speak_1_0(cycle: RequestResponseCycle) -> None:
    """Have an answer come neither in pieces nor behind leave to send the body."""
    cycle.waiting_for_100_continue = False
    cycle.chunked_encoding = False
    length: Any = _AnyLength()
    cycle.expected_content_length = length
