"""Half a character, wherever a string may stand, is a 400 that says so and reaches no engine."""

from __future__ import annotations

from typing import Any

import pytest

from tests.server.fixtures.client_site import CHAT, HELLO, MODERATIONS, ClientSite, refusal

S = "\ud83d"
FUNCTION = {"name": "f", "parameters": {"type": "object", "properties": {}}}


def turn(**more: Any) -> dict[str, Any]:
    return {"messages": [*HELLO, {"role": "assistant", "content": "x", **more}, *HELLO]}


def tool(**more: Any) -> dict[str, Any]:
    return {"tools": [{"type": "function", "function": FUNCTION | more}]}


def call(**more: Any) -> dict[str, Any]:
    function = {"name": "f", "arguments": "{}", **more}
    return turn(tool_calls=[{"id": "c", "type": "function", "function": function}])


def part(**more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": "x", **more}]}]}


@pytest.mark.parametrize(
    "fields",
    [
        *({name: f"a{S}"} for name in ("model", "user", "safety_identifier", "cache_salt")),
        *({name: S} for name in ("reasoning_effort", "service_tier", "request_id", "not_a_field")),
        {"messages": [{"role": S, "content": "x"}]},
        {"messages": [{"role": "user", "content": f"{S} at the start"}]},
        {"messages": [{"role": "user", "content": "the wrong way round \ude00\ud83d"}]},
        turn(name=S),
        turn(refusal=S),
        turn(reasoning_content=S),
        turn(**{S: 1}),
        call(name=S),
        call(arguments='{"a": "' + S + '"}'),
        call(arguments={"a": {"b": [S]}}),
        turn(tool_calls=[{"id": S, "type": "function", "function": {"name": "f"}}]),
        {"messages": [*HELLO, {"role": "tool", "tool_call_id": S, "content": "8"}]},
        part(text=S),
        part(cache_control={"type": S}),
        {"messages": [{"role": "user", "content": [{"type": S}]}]},
        {
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": S}}]}
            ]
        },
        {"stop": S},
        {"stop": ["a", S]},
        {"bad_words": [S]},
        {"logit_bias": {S: 1}},
        {"metadata": {"a": S}},
        {"metadata": {S: "a"}},
        {"steering": {"policy": S}},
        {"steering": {S: 1}},
        {"vllm_xargs": {"a": S}},
        {"chat_template_kwargs": {"enable_thinking": S}},
        {"documents": [{"title": S}]},
        {"prediction": {"type": "content", "content": S}},
        {"structured_outputs": {"choice": [S]}},
        {"structured_outputs": {"regex": S}},
        {"structured_outputs": {"grammar": S}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": S, "schema": {}}}},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "x", "schema": {S: 1}},
            }
        },
        tool(name=S),
        tool(description=S),
        tool(parameters={"type": "object", "properties": {S: {}}}),
        {**tool(), "tool_choice": {"type": "function", "function": {"name": S}}},
        {S: "a key of its own"},
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_in_every_string_of_a_chat(site: ClientSite, fields: dict[str, Any], stream: bool) -> None:
    before = len(site.script.calls)
    error = refusal(site.send({"messages": HELLO, "stream": stream, **fields}))
    assert "lone surrogate: half a Unicode character" in error["message"]
    assert len(site.script.calls) == before


@pytest.mark.parametrize(
    "body",
    [
        {"input": S},
        {"input": ["x", S]},
        {"input": [{"type": "text", "text": S}]},
        {"input": "x", "user": S},
        {"input": "x", "model": S},
    ],
)
def test_in_every_string_of_a_moderation(site: ClientSite, body: dict[str, Any]) -> None:
    assert "lone surrogate" in refusal(site.send(body, MODERATIONS))["message"]


@pytest.mark.parametrize(
    "raw",
    [
        b'{"messages": [{"role": "user", "content": "\xed\xa0\xbd"}]}',
        b'{"messages": [{"role": "user", "content": "cut \xf0\x9f"}]}',
        '{"messages": [{"role": "user", "content": "é"}]}'.encode("latin-1"),
        '{"messages": [{"role": "user", "content": "x"}]}'.encode("utf-16"),
        '{"messages": [{"role": "user", "content": "x"}]}'.encode("utf-16-be"),
        '{"messages": [{"role": "user", "content": "x"}]}'.encode("utf-32"),
    ],
    ids=["cesu", "cut", "latin-1", "utf-16", "utf-16 without a mark", "utf-32"],
)
def test_bytes_that_are_not_utf_8_are_called_so(site: ClientSite, raw: bytes) -> None:
    assert "UTF-8" in refusal(site.send(raw))["message"]


@pytest.mark.parametrize(
    "text",
    [
        "\U0001f600",
        "\x00",
        "\uffff",
        "\ufffe",
        "\ud7ff\ue000",
        "\u2028\u2029\x85",
        "\\ud83d",
        "\ufeff",
    ],
)
@pytest.mark.parametrize("field", ["content", "stop", "user", "metadata"])
def test_whole_characters_of_every_kind_pass(site: ClientSite, field: str, text: str) -> None:
    fields: dict[str, dict[str, Any]] = {
        "stop": {"stop": [text]},
        "user": {"user": text},
        "metadata": {"metadata": {text: text}},
    }
    messages = [{"role": "user", "content": f"a {text} b"}]
    answer = site.send({"messages": messages, **fields.get(field, {})}, CHAT)
    assert answer.status_code == 200, answer.text
    assert site.script.of("answer")[-1].messages == messages
