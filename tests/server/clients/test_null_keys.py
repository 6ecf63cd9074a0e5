"""Typed clients write null for what is not set, in every object that is made of fields."""

from __future__ import annotations

from typing import Any

import pytest

from refusal_server.chat.fields import FIELDS
from tests.server.fixtures.client_site import HELLO, MODERATIONS, ClientSite, refusal
from tests.server.fixtures.media import audio_part, data_url, image_part, video_part, wav

OTHERS = ("reasoning", "thinking", "extra_body", "provider", "not_a_field")
MESSAGE_KEYS = (
    *("name", "tool_calls", "function_call", "refusal", "audio", "annotations", "tool_call_id"),
    *("reasoning", "reasoning_content", "provider_specific_fields", "id", "images"),
)
FUNCTION: dict[str, Any] = {"name": "f", "parameters": {"type": "object", "properties": {}}}
TOOL: dict[str, Any] = {"type": "function", "function": FUNCTION}
CALL: dict[str, Any] = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
AUDIO_URL = {"type": "audio_url", "audio_url": {"url": data_url(wav(), "audio/wav")}}
PARTS: tuple[dict[str, Any], ...] = (
    {"type": "text", "text": "x"},
    *(image_part(), audio_part(), video_part(), AUDIO_URL),
)
PART_KEYS = (
    *("text", "refusal", "image_url", "input_audio", "audio_url", "video_url", "file", "uuid"),
    *("cache_control", "annotations", "detail", "id", "index", "name", "fps", "min_pixels"),
)
MEDIUM_KEYS = ("url", "data", "format", "detail", "uuid", "fps", "mime_type", "file_id", "filename")


def schema(**more: Any) -> dict[str, Any]:
    named = {"name": "x", "schema": {"type": "object"}, **more}
    return {"type": "json_schema", "json_schema": named}


@pytest.mark.parametrize("name", sorted({*FIELDS, *OTHERS} - {"messages"}))
def test_a_field_that_is_null_is_one_that_is_not_set(site: ClientSite, name: str) -> None:
    answer = site.chat(**{name: None})
    assert answer.status_code == 200, answer.text
    asked = site.script.of("answer")[-1].request
    default = type(asked).model_fields.get(name)
    if default is not None and default.default_factory is None and name not in ("model",):
        assert getattr(asked, name) in (default.default, site_default(asked, name))


def site_default(asked: Any, name: str) -> Any:
    """What the server sets for a field that is not there."""
    return getattr(asked, name) if name in ("cache_salt", "max_completion_tokens") else None


@pytest.mark.parametrize(
    "fields",
    [
        {"steering": {"policy": None, "strength": None, "report": None}},
        {"tools": [TOOL | {"function": FUNCTION | {"description": None, "strict": None}}]},
        {"tools": [TOOL | {"type": None, "strict": None, "cache_control": None}]},
        {"tools": [TOOL | {"function": {"name": "f", "parameters": None}}]},
        {"tools": [TOOL], "tool_choice": None, "parallel_tool_calls": None},
        {
            "tools": [TOOL],
            "tool_choice": {"type": "function", "function": {"name": "f", "a": None}},
        },
        {"response_format": schema(description=None, strict=None)},
        {"response_format": {"type": "json_object", "json_schema": None}},
        {"response_format": {"type": "text", "json_schema": None, "schema": None}},
        {"stream": None, "stream_options": {"include_usage": None}},
        {"stream": True, "stream_options": {"include_usage": None, "include_obfuscation": None}},
        {"structured_outputs": {"json": None, "regex": None, "choice": None, "grammar": None}},
        {"structured_outputs": {"json": {"type": "object"}, "regex": None, "choice": None}},
        {"chat_template_kwargs": {"enable_thinking": None}},
        {"metadata": {"session": None}},
    ],
)
def test_null_inside_a_field_is_not_set_either(site: ClientSite, fields: dict[str, Any]) -> None:
    answer = site.chat(**fields)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("role", ["system", "user", "assistant", "tool"])
@pytest.mark.parametrize("key", MESSAGE_KEYS)
def test_a_null_key_of_a_message_is_dropped(site: ClientSite, role: str, key: str) -> None:
    turn = {"role": role, "content": "y"} | ({"tool_call_id": "c"} if role == "tool" else {})
    plain, nulls = (site.asked([*HELLO, each, *HELLO]) for each in (turn, {key: None, **turn}))
    assert nulls == plain


@pytest.mark.parametrize("place", ["call", "function"])
@pytest.mark.parametrize("key", ["index", "id", "type", "strict", "arguments", "description"])
def test_a_null_key_of_a_call_is_dropped(site: ClientSite, place: str, key: str) -> None:
    function = CALL["function"] | ({key: None} if place == "function" else {})
    call = CALL | ({key: None} if place == "call" else {}) | {"function": function}
    result = {"role": "tool", "tool_call_id": "c", "content": "8"}
    site.asked([*HELLO, {"role": "assistant", "content": None, "tool_calls": [call]}, result])


@pytest.mark.parametrize("part", PARTS, ids=[part["type"] for part in PARTS])
def test_null_keys_of_a_part_are_dropped(site: ClientSite, part: dict[str, Any]) -> None:
    kind = part["type"]
    inside = part[kind]
    if isinstance(inside, dict):
        inside = dict.fromkeys(MEDIUM_KEYS) | inside
    nulls = {**dict.fromkeys(PART_KEYS), "type": kind, kind: inside}
    plain, dropped = (
        site.asked([{"role": "user", "content": [dict(each)]}]) for each in (part, nulls)
    )
    assert dropped == plain


@pytest.mark.parametrize(
    ("schema", "arguments"),
    [
        ({"enum": [None, "a"]}, {"a": None}),
        ({"const": None}, {"a": {"b": None}}),
        ({"properties": {"a": {"default": None}}}, [None]),
    ],
)
def test_null_is_a_value_in_schemas_and_arguments(
    site: ClientSite, schema: dict[str, Any], arguments: Any
) -> None:
    function = {"name": "f", "parameters": {"type": "object", "properties": {"p": schema}}}
    call = CALL | {"function": {"name": "f", "arguments": arguments}}
    turns = [*HELLO, {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "content": "8"}]
    assert site.chat(turns, tools=[{"type": "function", "function": function}]).status_code == 200
    asked = site.script.of("answer")[-1]
    assert asked.request.tools[0].function.parameters["properties"]["p"] == schema
    assert "null" in asked.messages[-2]["tool_calls"][0]["function"]["arguments"]


@pytest.mark.parametrize(
    "body",
    [
        {"input": "x", "model": None, "user": None, "safety_identifier": None},
        {"input": "x", "metadata": None},
        {"input": [{"type": "text", "text": "x", "image_url": None}]},
        {"input": [{**image_part(), "text": None}]},
        {"input": [{**audio_part(), "text": None, "image_url": None}]},
    ],
)
def test_null_keys_of_a_moderation_are_dropped(site: ClientSite, body: dict[str, Any]) -> None:
    steering = {"policy": "omnisteer", "strength": None, "report": None}
    answer = site.send({**body, "steering": steering}, MODERATIONS)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": None},
        {"messages": [None]},
        {"messages": [{"role": None, "content": "x"}]},
        {"messages": [{"role": "user", "content": None}]},
        {"messages": [{"role": "user", "content": [None]}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": None}]}]},
        {"stop": [None]},
        {"tools": [None]},
        {"tools": [{"type": "function", "function": {"name": None}}]},
    ],
)
def test_null_for_what_is_needed_is_a_400_at_its_place(
    site: ClientSite, fields: dict[str, Any]
) -> None:
    error = refusal(site.send({"messages": HELLO, **fields}))
    assert error["param"].startswith(next(iter(fields)))
