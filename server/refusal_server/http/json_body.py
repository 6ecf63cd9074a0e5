"""Reading a JSON body strictly, once: structure, text and numbers that everything behind can use.

The engine's own parser, its tokenizer and its message queue fail late and badly on lone
surrogates, integers beyond 64 bits and deep or wide structures; here they are a 400.
"""

from __future__ import annotations

import asyncio
import functools
import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from refusal_server.errors import ApiError, bad_request

# Bodies above it are parsed in a thread: an ordinary one takes less than the switch.
_THREADED_BYTES = 64 * 2**10
# Structural characters of which a body may hold this many times its limit, inside texts included,
# before it is refused without a closer look.
_UNREAD_FACTOR = 8
_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_INT64 = 1 << 63
_UINT64 = 1 << 64
_LONGEST_INTEGER = 20
_LONGEST_PLACE = 200


@dataclass(frozen=True, slots=True)
class JsonLimits:
    """The most values that a body may hold, how deep they may nest, and the longest key."""

    nodes: int = 100_000
    depth: int = 64
    key_chars: int = 1024


DEFAULT = JsonLimits()


async def read_object(raw: bytes, limits: JsonLimits = DEFAULT) -> dict[str, Any]:
    """:func:`parse_object`, off the event loop for large bodies."""
    if len(raw) <= _THREADED_BYTES:
        return parse_object(raw, limits)
    return await asyncio.to_thread(parse_object, raw, limits)


def parse_object(raw: bytes, limits: JsonLimits = DEFAULT) -> dict[str, Any]:
    """The JSON object in ``raw``; raises a 400 that says what is wrong, never what was sent."""
    if raw.startswith(b"\xef\xbb\xbf"):
        raw = raw[3:]
    opened = raw.count(b"[") + raw.count(b"{")
    if opened + raw.count(b",") > limits.nodes:
        _check_width(raw, limits)
    value, beyond = _loaded(raw, limits)
    if not isinstance(value, dict):
        raise bad_request("The request body must be a JSON object.")
    if opened > limits.depth:
        _check_depth(value, limits)
    if beyond:
        raise _beyond(value)
    if b"\\u" in raw and _SURROGATE.search(raw):
        _check_texts(value)
    return value


class _Beyond:
    """Stands for an integer that no 64 bits hold, until its place is known."""


class _BeyondError(Exception):
    """A body holds such an integer."""


def _loaded(raw: bytes, limits: JsonLimits) -> tuple[Any, bool]:
    """The value, its keys and numbers checked; and whether it holds an integer beyond 64 bits."""
    try:
        text = raw.decode("utf-8")
        try:
            return _decoder(limits, _beyond_raises).decode(text), False
        except _BeyondError:
            return _decoder(limits, _beyond_stands).decode(text), True
    except UnicodeDecodeError as error:
        raise _not_utf8() from error
    except RecursionError as error:
        raise _too_deep(limits) from error
    except ValueError as error:
        if not raw.strip():
            raise bad_request("The request body is empty; expected a JSON object.") from error
        if b"\0" in raw:
            # What UTF-16 and UTF-32 look like to a reader of UTF-8.
            raise _not_utf8() from error
        position = getattr(error, "pos", None)
        where = "" if position is None else f" at character {position}"
        raise bad_request(f"The request body is not valid JSON{where}.") from error


@functools.cache
def _decoder(limits: JsonLimits, beyond: Callable[[], object]) -> json.JSONDecoder:
    """Made once: a decoder takes longer to make than an ordinary body to read."""

    def integer(text: str) -> object:
        # Longer than any 64-bit integer: not worth the quadratic time of a conversion.
        if len(text) <= _LONGEST_INTEGER and -_INT64 <= (number := int(text)) < _UINT64:
            return number
        return beyond()

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise bad_request("The request body has an object that names a key twice.")
        # Short ones add up to less than one long one: few objects need a closer look.
        if len("".join(found)) > limits.key_chars and max(map(len, found)) > limits.key_chars:
            raise bad_request(f"The request body has a key of over {limits.key_chars} characters.")
        return found

    return json.JSONDecoder(
        parse_constant=_no_constant,
        parse_float=_finite,
        parse_int=integer,
        object_pairs_hook=unique,
    )


def _beyond_raises() -> object:
    raise _BeyondError


def _beyond_stands() -> object:
    return _Beyond()


def _check_width(raw: bytes, limits: JsonLimits) -> None:
    """Count values before they are made: a comma or a bracket begins each but the first."""
    # Texts have commas too; a body full of them is counted without its texts.
    if _marks(raw) > _UNREAD_FACTOR * limits.nodes or _marks(_STRINGS.sub(b"", raw)) > limits.nodes:
        raise bad_request(
            f"The request body holds more than {limits.nodes} values.", code="body_too_complex"
        )


def _marks(raw: bytes) -> int:
    return raw.count(b",") + raw.count(b"[") + raw.count(b"{")


def _check_depth(value: dict[str, Any], limits: JsonLimits) -> None:
    level: list[Any] = [value]
    for _ in range(limits.depth):
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, dict | list)
        ]
        if not level:
            return
    raise _too_deep(limits)


def _check_texts(value: dict[str, Any]) -> None:
    """Refuse half a character: no tokenizer takes it, and no queue carries it."""
    for where, node in _places(value):
        texts = (node,) if isinstance(node, str) else node if isinstance(node, dict) else ()
        if not all(map(_whole, texts)):
            raise _half_a_character(where)


def _places(value: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every value with its place, such as ``messages[0].content``; the whole has none."""
    waiting: list[tuple[str, Any]] = [("", value)]
    while waiting:
        where, node = waiting.pop()
        yield where, node
        if isinstance(node, dict):
            dot = "." if where else ""
            waiting += ((f"{where}{dot}{key}", child) for key, child in node.items())
        elif isinstance(node, list):
            waiting += ((f"{where}[{place}]", child) for place, child in enumerate(node))


def _beyond(value: dict[str, Any]) -> ApiError:
    where = next((where for where, node in _places(value) if isinstance(node, _Beyond)), "")
    place = where if len(where) <= _LONGEST_PLACE else ""
    return bad_request(
        f"{place or 'The request body'} holds an integer of over 64 bits.", param=place or None
    )


def _whole(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _not_utf8() -> ApiError:
    return bad_request("The request body is not UTF-8.")


def _half_a_character(where: str) -> ApiError:
    place = where if len(where) <= _LONGEST_PLACE else ""
    return bad_request(
        f"{place or 'The request body'} holds a lone surrogate: half a Unicode character.",
        param=place or None,
    )


def _too_deep(limits: JsonLimits) -> ApiError:
    return bad_request(f"The request body is nested deeper than {limits.depth} levels.")


def _no_constant(name: str) -> float:
    raise bad_request(f"{name} is not a JSON number.")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise bad_request("The request body holds a number that is too large.")
    return number
