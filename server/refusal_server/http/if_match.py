"""Which version a request means to replace: the ``If-Match`` header."""

from __future__ import annotations

from fastapi import Request

from refusal_server.errors import ApiError


def expected_version(request: Request) -> str | None:
    """The version that ``request`` names, with or without quotes; a weak tag is nobody's."""
    tag = request.headers.get("if-match")
    if tag is None:
        return None
    tag = tag.strip()
    return tag[1:-1] if len(tag) > 1 and tag[0] == tag[-1] == '"' else tag


def required_version(request: Request) -> str:
    """The same; raises a 428 where the header is missing."""
    expected = expected_version(request)
    if expected is None:
        raise ApiError(
            428,
            "Say which version is to be replaced: `If-Match: <version>`, as GET tells it.",
            code="precondition_required",
        )
    return expected
