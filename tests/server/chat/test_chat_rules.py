from __future__ import annotations

from typing import Any

import pytest

from refusal_server.chat.rules import check_messages
from refusal_server.errors import ApiError


def refusal(check: Any, *arguments: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        check(*arguments)
    assert caught.value.status == 400
    assert len(caught.value.message) < 200
    return caught.value


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        (None, "messages"),
        ([], "messages"),
        ({}, "messages"),
        ("hello", "messages"),
        ([{"role": "user", "content": "x"}] * 5000, "messages"),
        (["hello"], "messages[0]"),
        ([{"content": "x"}], "messages[0].role"),
        ([{"role": "wizard", "content": "x"}], "messages[0].role"),
        ([{"role": ["user"], "content": "x"}], "messages[0].role"),
        ([{"role": "user"}], "messages[0].content"),
        ([{"role": "user", "content": None}], "messages[0].content"),
        ([{"role": "user", "content": 7}], "messages[0].content"),
        ([{"role": "user", "content": []}], "messages[0].content"),
        ([{"role": "user", "content": ["x"]}], "messages[0].content[0].type"),
        ([{"role": "user", "content": [{"text": "x"}]}], "messages[0].content[0].type"),
        ([{"role": "user", "content": [{"type": ["text"]}]}], "messages[0].content[0].type"),
        (
            [{"role": "user", "content": [{"type": "image_embeds", "image_embeds": "A"}]}],
            "messages[0].content[0].type",
        ),
        ([{"role": "user", "content": [{"type": "text", "text": 1}]}], "messages[0].content[0]"),
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": "http://x"}]}],
            "messages[0].content[0].image_url",
        ),
        (
            [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": 7}}]}],
            "messages[0].content[0].input_audio",
        ),
    ],
)
def test_messages_that_are_none_are_refused_with_the_place(messages: Any, param: str) -> None:
    assert refusal(check_messages, messages).param == param


CALL: dict[str, Any] = {"type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("calls", "place"),
    [
        ("f()", ""),
        ({}, ""),
        ([7], "[0]"),
        ([CALL, {"type": "function"}], "[1]"),
        ([{"function": "f"}], "[0]"),
        ([{"function": {"arguments": "{}"}}], "[0]"),
        ([{"function": {"name": 7}}], "[0]"),
        ([{**CALL, "type": "custom"}], "[0].type"),
        ([{**CALL, "type": 7}], "[0].type"),
        ([CALL, {**CALL, "id": 7}], "[1].id"),
    ],
)
def test_calls_that_are_none_are_refused_with_the_place(calls: Any, place: str) -> None:
    messages = [{"role": "assistant", "content": "x", "tool_calls": calls}]
    assert refusal(check_messages, messages).param == f"messages[0].tool_calls{place}"


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ("{}", "{}"),
        ("not JSON", "not JSON"),
        (None, "{}"),
        ({"a": [1]}, '{"a": [1]}'),
        ([], "[]"),
        (7, "7"),
    ],
)
def test_what_clients_leave_out_of_their_calls_is_completed(sent: Any, read: str) -> None:
    """Some clients send arguments as an object, or without a type; templates want a string."""
    call: dict[str, Any] = {"id": "1", "function": {"name": "f", "arguments": sent}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    check_messages([message])
    assert call == {"id": "1", "type": "function", "function": {"name": "f", "arguments": read}}


@pytest.mark.parametrize("key", ["id", "type", "index"])
def test_a_null_key_of_a_call_is_completed_too(key: str) -> None:
    call: dict[str, Any] = {**CALL, "id": "1", key: None}
    check_messages([{"role": "assistant", "tool_calls": [CALL, call]}])
    assert call.get("type") == "function"
    assert call["id"] == ("call_1" if key == "id" else "1")
    assert "index" not in call


def test_no_calls_are_no_calls() -> None:
    message = {"role": "assistant", "content": "x", "tool_calls": None}
    check_messages([message])
    assert "tool_calls" not in message


def test_real_conversations_pass() -> None:
    check_messages(
        [
            {"role": "system", "content": "Be brief."},
            {"role": "developer", "content": [{"type": "text", "text": "x"}]},
            {"role": "user", "content": "hello"},
            {"role": "assistant", "content": None, "tool_calls": []},
            {"role": "tool", "tool_call_id": "1", "content": "sunny"},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
        ]
    )
