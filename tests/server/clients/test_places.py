"""An error names its place in the body, in JSON's words, and tells neither values nor parsers."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.server.fixtures.client_site import HELLO, ClientSite, refusal

CALL: dict[str, Any] = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOOL: dict[str, Any] = {"type": "function", "function": {"name": "f", "parameters": {}}}
# Pydantic's words for JSON's types, and names of its forms.
PARSERS_WORDS = re.compile(r"dictionary|\blist\b|instance of|Param\b|valid boolean|str\b|\.dict")


def function(**more: Any) -> dict[str, Any]:
    return {"tools": [TOOL, {"type": "function", "function": {"name": "f", **more}}]}


def chosen(**function: Any) -> dict[str, Any]:
    return {"tools": [TOOL], "tool_choice": {"type": "function", "function": function}}


def schema(**more: Any) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "x", **more}}}


@pytest.mark.parametrize(
    ("fields", "param", "problem"),
    [
        ({"stop": 7}, "stop", "must be a string"),
        ({"stop": ["a", 7]}, "stop[1]", "must be a string"),
        ({"stop": [["a"]]}, "stop[0]", "must be a string"),
        ({"n": -1}, "n", "must be at least 1"),
        ({"n": 0}, "n", "must be at least 1"),
        ({"stream": "perhaps"}, "stream", "must be true or false"),
        ({"temperature": "warm"}, "temperature", "must be a number"),
        ({"seed": 1.5}, "seed", "must be an integer"),
        ({"logit_bias": 7}, "logit_bias", "must be an object"),
        ({"logit_bias": {"5": "x"}}, "logit_bias.5", "must be a number"),
        ({"bad_words": 7}, "bad_words", "must be an array"),
        ({"stop_token_ids": ["x"]}, "stop_token_ids[0]", "must be an integer"),
        ({"structured_outputs": 7}, "structured_outputs", "must be an object"),
        ({"structured_outputs": {"regex": 7}}, "structured_outputs.regex", "must be a string"),
        ({"structured_outputs": {"choice": [7]}}, "structured_outputs.choice[0]", "a string"),
        ({"response_format": 7}, "response_format", "must be an object"),
        (schema(schema=7), "response_format.json_schema.schema", "must be an object"),
        (schema(name=7, schema={}), "response_format.json_schema.name", "must be a string"),
        ({"response_format": {"type": "json_schema"}}, "response_format", "json_schema"),
        ({"stream": True, "stream_options": 7}, "stream_options", "must be an object"),
        ({"tools": 7}, "tools", "must be an array"),
        ({"tools": [7]}, "tools[0]", "must be an object"),
        ({"tools": [TOOL, {"type": "function"}]}, "tools[1].function", "is missing"),
        (function(name=7), "tools[1].function.name", "must be a string"),
        (function(parameters="{}"), "tools[1].function.parameters", "must be an object"),
        (function(description=[]), "tools[1].function.description", "must be a string"),
        ({"tools": [TOOL], "tool_choice": [{"a": 1}]}, "tool_choice", "must be none, auto"),
        ({"tools": [TOOL], "tool_choice": "f"}, "tool_choice", "must be none, auto"),
        (chosen(name=7), "tool_choice", "must be none, auto"),
        (chosen(), "tool_choice", "must be none, auto"),
    ],
)
def test_a_field_of_another_type(
    site: ClientSite, fields: dict[str, Any], param: str, problem: str
) -> None:
    error = refusal(site.chat(**fields))
    assert error["param"] == param
    assert problem in error["message"]
    assert not PARSERS_WORDS.search(error["message"]), error


@pytest.mark.parametrize("key", ["name", "tool_call_id", "refusal", "reasoning_content"])
@pytest.mark.parametrize("value", [7, True, [], {"secret": 1}, ["x"]])
@pytest.mark.parametrize("role", ["user", "assistant", "tool"])
def test_a_key_of_a_message(site: ClientSite, role: str, key: str, value: Any) -> None:
    error = refusal(site.chat([*HELLO, {"role": role, "content": "x", key: value}, *HELLO]))
    assert error["param"] == f"messages[1].{key}"
    assert error["message"] == f"messages[1].{key} must be a string."


@pytest.mark.parametrize(
    ("call", "param"),
    [
        (7, ""),
        ({**CALL, "id": 7}, ".id"),
        ({**CALL, "type": "custom"}, ".type"),
        ({**CALL, "type": 7}, ".type"),
        ({**CALL, "function": "f"}, ""),
        ({**CALL, "function": {"arguments": "{}"}}, ""),
        ({**CALL, "function": {"name": 7, "arguments": "{}"}}, ""),
    ],
)
@pytest.mark.parametrize("before", [0, 5, 38])
def test_a_call_deep_in_a_history(site: ClientSite, call: Any, param: str, before: int) -> None:
    turn = {"role": "assistant", "content": None, "tool_calls": [CALL, call]}
    result = {"role": "tool", "tool_call_id": "c", "content": "8"}
    error = refusal(site.chat([*HELLO * (before + 1), turn, result]))
    assert error["param"] == f"messages[{before + 1}].tool_calls[1]{param}"


@pytest.mark.parametrize(
    "call",
    [
        {"id": "c", "function": {"name": "f", "arguments": "{}"}},
        {"function": {"name": "f", "arguments": {"a": 1}}},
        {"id": "c", "type": "function", "index": 0, "function": {"name": "f"}},
        {"id": "c", "type": "function", "function": {"name": "f", "arguments": ""}},
        {"id": "", "type": "function", "function": {"name": "f", "arguments": "not JSON"}},
    ],
)
def test_calls_as_hand_made_histories_have_them(site: ClientSite, call: dict[str, Any]) -> None:
    turn = {"role": "assistant", "content": None, "tool_calls": [call]}
    site.asked([*HELLO, turn, {"role": "tool", "tool_call_id": "c", "content": "8"}])
    (sent,) = site.script.of("answer")[-1].messages[1]["tool_calls"]
    assert isinstance(sent["function"]["arguments"], str)
    assert (sent["type"], type(sent["id"])) == ("function", str)
