"""No grammar that takes long to compile comes to the engine, and ordinary ones all do."""

from __future__ import annotations

import json
from typing import Any

import pytest

from refusal_server.chat.grammar.limits import check_grammar, repeats
from refusal_server.errors import ApiError
from refusal_server.settings import Limits

LIMITS = Limits(grammar_chars=5000, grammar_choices=50, grammar_repeats=300, regex_chars=200)
ADDRESS = {
    "type": "object",
    "properties": {
        "street": {"type": "string", "maxLength": 100},
        "zip": {"type": "string", "pattern": "^[0-9]{5}(-[0-9]{4})?$"},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 10},
        "maxLength": {"type": "integer", "maximum": 10**15},
        "pattern": {"type": "string"},
        "choice": {"type": "boolean"},
    },
    "required": ["street", "zip"],
}


def schema(value: Any) -> list[dict[str, Any]]:
    """The same schema at every place where a request may bring one."""
    function = {"type": "function", "function": {"name": "f", "parameters": value}}
    named = {"type": "function", "function": {"name": "f"}}
    return [
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": value}}},
        {"response_format": {"type": "structural_tag", "structures": [{"schema": value}]}},
        {"structured_outputs": {"json": value}},
        {"structured_outputs": {"json": json.dumps(value)}},
        {"tools": [function], "tool_choice": "required"},
        {"tools": [function], "tool_choice": named},
    ]


def deep(value: Any) -> Any:
    for _ in range(20):
        value = {"type": "object", "properties": {"a": value}}
    return value


STRING = {"type": "string"}
LONG = {
    "a long string": STRING | {"maxLength": 301},
    "a long string at least": STRING | {"minLength": 301},
    "no length that anybody needs": STRING | {"maxLength": 10**18},
    "a float for a length": STRING | {"maxLength": 1e6},
    "many items": {"type": "array", "maxItems": 301},
    "many items at least": {"type": "array", "minItems": 301},
    "many properties": {"type": "object", "minProperties": 301},
    "many short strings": {"anyOf": [STRING | {"maxLength": 10} for _ in range(31)]},
    "deep inside": deep(STRING | {"maxLength": 301}),
    "a counted pattern": STRING | {"pattern": "^[a-z]{1,301}$"},
    "counted twice": STRING | {"pattern": "^([a-z]{1,20}x){1,20}$"},
    "patterns of names": {"patternProperties": {"^a{301}$": STRING}},
    "many values": {"enum": list(range(51))},
    "many values in parts": {"anyOf": [{"enum": list(range(26))}, {"enum": list(range(25))}]},
    "long patterns": {"anyOf": [STRING | {"pattern": "a" * 101}, STRING | {"pattern": "b" * 100}]},
    "much text": {"description": "x" * 5000},
}


@pytest.mark.parametrize("value", LONG.values(), ids=LONG)
def test_a_schema_beyond_the_limits_is_refused_wherever_it_stands(value: Any) -> None:
    for body in schema(value):
        with pytest.raises(ApiError) as caught:
            check_grammar(body, LIMITS)
        error = caught.value
        assert (error.status, error.code) == (400, "grammar_too_complex")
        assert error.param == next(iter(body))


@pytest.mark.parametrize(
    "grammar",
    [
        {"choice": [f"choice {n}" for n in range(51)]},
        {"choice": ["x" * 5001]},
        {"regex": "a" * 201},
        {"regex": "a{1,301}"},
        {"regex": "(a{1,18}b){18}"},
        {"regex": "((((a{9}){9}){9}){9}){9}"},
        {"regex": "[^]}]{999999999999999999999}"},
        {"grammar": "root ::= [a-z]{1,301}"},
        {"grammar": "root ::= a a a\n" + "a ::= [a-z]{150}\nb ::= [a-z]{151}"},
    ],
)
def test_grammars_of_other_kinds_are_bounded_too(grammar: dict[str, Any]) -> None:
    with pytest.raises(ApiError) as caught:
        check_grammar({"structured_outputs": grammar}, LIMITS)
    assert (caught.value.code, caught.value.param) == ("grammar_too_complex", "structured_outputs")


@pytest.mark.parametrize("text", ["{", "[" * 4000, "nonsense", ""])
def test_a_schema_that_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(ApiError) as caught:
        check_grammar({"structured_outputs": {"json": text}}, LIMITS)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"response_format": None, "structured_outputs": None},
        {"response_format": {"type": "text"}},
        {"response_format": {"type": "json_object"}},
        {"structured_outputs": {"choice": [f"choice {n}" for n in range(50)]}},
        {"structured_outputs": {"regex": r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?Z?"}},
        {"structured_outputs": {"regex": "(yes|no)[.!]?"}},
        {"structured_outputs": {"grammar": 'root ::= "a" | "b"'}},
        *schema(ADDRESS),
        *schema(deep(ADDRESS)),
        {"tools": [{"function": {"parameters": LONG["a long string"]}}]},
        {"tools": [{"function": {"parameters": LONG["many values"]}}], "tool_choice": "auto"},
        {"tools": [{"function": {"parameters": LONG["much text"]}}], "tool_choice": "none"},
    ],
)
def test_ordinary_grammars_pass(body: dict[str, Any]) -> None:
    check_grammar(body, LIMITS)


@pytest.mark.parametrize(
    ("pattern", "count"),
    [
        ("", 0),
        ("abc", 0),
        ("[a-z]+", 0),
        ("a{3}", 3),
        ("a{1,3}", 3),
        ("a{2,}", 2),
        ("xa{3}", 4),
        ("(ab){3}", 6),
        ("(a{2}b){3}", 9),
        ("((a|b){2}){5}", 20),
        ("[]a{9}]{4}", 4),
        (r"[\]{9}]{4}", 4),
        (r"\{{4}", 4),
        (r"\({4}", 4),
        ("a{,5}", 5),
        ("a{}", 1),
        ("{4}", 0),
        ("a{2}{3}", 6),
        ("(a{4}", 4),
        ("a{4})", 5),
        ("[a{4}", 1),
        ("(?:ab){2}", 6),
    ],
)
def test_counted_repeats_are_written_out(pattern: str, count: int) -> None:
    assert repeats(pattern) == count
