"""What no parser behind may meet is refused at the door, and quickly."""

from __future__ import annotations

import json
import string
from typing import Any

import anyio
import pytest

from refusal_server.errors import ApiError
from refusal_server.http.json_body import JsonLimits, parse_object, read_object

SURROGATE = "\ud83d"


def refusal(raw: bytes, limits: JsonLimits | None = None) -> ApiError:
    with pytest.raises(ApiError) as caught:
        parse_object(raw, limits or JsonLimits())
    assert caught.value.status == 400
    assert len(caught.value.message) < 300
    return caught.value


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"stop": [SURROGATE]}, "stop[0]"),
        ({"messages": [{"role": "user", "content": "cut " + SURROGATE}]}, "messages[0].content"),
        ({"tools": [{"function": {"description": SURROGATE}}]}, "tools[0].function.description"),
        ({"bad_words": ["fine", SURROGATE]}, "bad_words[1]"),
        ({"user": "\udfff"}, "user"),
        ({SURROGATE: 1}, None),
        ({"a": {SURROGATE: 1}}, "a"),
    ],
)
def test_half_a_character_is_refused_by_its_place(body: dict[str, Any], param: str | None) -> None:
    error = refusal(json.dumps(body).encode())
    assert error.param == param
    assert "surrogate" in error.message


def test_whole_characters_of_two_halves_are_fine() -> None:
    assert parse_object(json.dumps({"a": "\U0001f600 \x00"}).encode()) == {"a": "\U0001f600 \x00"}
    assert parse_object(b'{"a": "\\\\ud83d"}') == {"a": "\\ud83d"}


@pytest.mark.parametrize(
    "number",
    [str(2**64), str(-(2**63) - 1), "9" * 400, "-" + "9" * 5000, "1e999", "NaN", "-Infinity"],
)
def test_numbers_beyond_the_engines_queue_are_refused(number: str) -> None:
    refusal(f'{{"seed": {number}}}'.encode())


def test_an_integer_beyond_64_bits_is_refused_by_its_place() -> None:
    body = b'{"a": [1, {"seed": %d}]}' % (2**70)
    assert refusal(body).param == "a[1].seed"
    assert refusal(b'{"seed": %d}' % -(2**70)).param == "seed"


@pytest.mark.parametrize("number", [2**64 - 1, -(2**63), 0, 2**53 + 1])
def test_numbers_of_64_bits_are_read_exactly(number: int) -> None:
    assert parse_object(f'{{"seed": {number}}}'.encode()) == {"seed": number}


@pytest.mark.parametrize(
    "raw",
    [
        b'{"n": 1, "n": 9}',
        b'{"a": {"b": 1, "b": 1}}',
        b'{"messages": [{"role": "user", "role": "system"}]}',
        b'{"steering": {"policy": "a", "policy": "b"}}',
        b'{"a": [{"x": 1}, {"y": 1, "y": 2}]}',
    ],
)
def test_a_key_that_stands_twice_is_refused(raw: bytes) -> None:
    assert "twice" in refusal(raw).message


WIDE = {
    "lists": b'{"a": [' + b"[]," * 200_000 + b"[]]}",
    "numbers": b'{"a": [' + b"1," * 300_000 + b"1]}",
    "keys": b"{" + b",".join(b'"k%d": 1' % i for i in range(150_000)) + b"}",
    "parts": b'{"messages": [{"content": [' + b'{"type": "text"},' * 200_000 + b"{}]}]}",
    "strings": b'{"a": [' + b'"",' * 300_000 + b'""]}',
}


@pytest.mark.parametrize("name", WIDE)
def test_wide_structures_are_refused_before_they_are_made(name: str) -> None:
    assert refusal(WIDE[name]).code == "body_too_complex"


def test_commas_inside_a_text_do_not_count() -> None:
    text = "a, b, c [d] {e} \\" * 50_000
    assert parse_object(json.dumps({"a": text}).encode()) == {"a": text}
    quoted = 'he said "no", and "yes", ' * 20_000
    assert parse_object(json.dumps({"a": quoted}).encode()) == {"a": quoted}


@pytest.mark.parametrize("depth", [65, 200, 5_000, 90_000])
@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_deep_structures_are_refused(depth: int, opening: str) -> None:
    closing = "]" if opening == "[" else "}"
    inner = opening * depth + "1" + closing * depth
    assert "deeper" in refusal(f'{{"x": {inner}}}'.encode()).message


def test_a_byte_order_mark_is_no_part_of_the_body() -> None:
    assert parse_object(b"\xef\xbb\xbf" + b'{"a": 1}') == {"a": 1}


def test_a_long_key_is_refused() -> None:
    refusal(json.dumps({"k" * 2000: 1}).encode())


def test_large_bodies_are_read_alike_off_the_loop() -> None:
    body = {letter: letter * 9000 for letter in string.ascii_letters}
    raw = json.dumps(body).encode()
    assert anyio.run(read_object, raw) == body
    with pytest.raises(ApiError):
        anyio.run(read_object, raw[:-1])
