"""Turns that clients send back: without content, with a refusal, with what they have made of it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.server.fixtures.client_site import HELLO, ClientSite, refusal

CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
RESULT = {"role": "tool", "tool_call_id": "c", "content": "8"}
REFUSAL = "I'm sorry, but I can't help with that."


def text(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    parts = [{"text": content}] if isinstance(content, str) else content
    return "".join(part.get("text") or part.get("refusal") or "" for part in parts)


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"content": None},
        {"content": []},
        {"content": ""},
        {"content": [{"type": "text", "text": ""}]},
    ],
    ids=["missing", "null", "no parts", "empty", "empty part"],
)
@pytest.mark.parametrize(
    "turns",
    [
        [{"role": "assistant"}, *HELLO],
        [{"role": "assistant", "tool_calls": [CALL]}, RESULT],
        [{"role": "assistant", "tool_calls": []}, *HELLO],
        [{"role": "assistant", "tool_calls": None}, *HELLO],
        [{"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "tool_call_id": "c"}],
        [
            {"role": "assistant", "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c"},
            *HELLO,
        ],
        [{"role": "function", "name": "f"}, *HELLO],
    ],
    ids=["alone", "calls", "no calls", "null calls", "tool at the end", "tool", "function"],
)
def test_a_turn_may_say_nothing(
    site: ClientSite, turns: list[dict[str, Any]], content: dict[str, Any]
) -> None:
    place = next((i for i, turn in enumerate(turns) if turn["role"] in ("tool", "function")), 0)
    place = place if "content" not in turns[place] else 0
    turns = [{**turn, **content} if i == place else turn for i, turn in enumerate(turns)]
    asked = site.asked([*HELLO, *turns])
    assert text(asked[1 + place]) == ""


@pytest.mark.parametrize("role", ["user", "system", "developer"])
@pytest.mark.parametrize("content", [{}, {"content": None}, {"content": []}, {"content": {}}])
def test_who_asks_says_something(site: ClientSite, role: str, content: dict[str, Any]) -> None:
    error = refusal(site.chat([*HELLO, {"role": role, **content}]))
    assert error["param"] == "messages[1].content"


@pytest.mark.parametrize(
    "turn",
    [
        {"content": None, "refusal": REFUSAL},
        {"content": "", "refusal": REFUSAL},
        {"content": [], "refusal": REFUSAL},
        {"refusal": REFUSAL},
        {"content": REFUSAL, "refusal": None},
        {"content": REFUSAL, "refusal": REFUSAL},
        {"content": [{"type": "refusal", "refusal": REFUSAL}]},
        {"content": [{"type": "refusal", "refusal": REFUSAL, "text": None}]},
        {"content": [{"type": "text", "text": ""}], "refusal": REFUSAL},
        {"content": None, "refusal": REFUSAL, "tool_calls": None, "annotations": [], "audio": None},
        {"content": None, "provider_specific_fields": {"refusal": REFUSAL}},
        {"content": "", "provider_specific_fields": {"refusal": REFUSAL}, "function_call": None},
    ],
)
def test_our_refusal_sent_back_is_seen_by_the_model(site: ClientSite, turn: dict[str, Any]) -> None:
    asked = site.asked([*HELLO, {"role": "assistant", **turn}, {"role": "user", "content": "Why?"}])
    assert text(asked[1]) == REFUSAL
