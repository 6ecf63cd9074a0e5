"""A gate reads all that a caller wrote, also where it stands before the first user turn."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.server.fixtures.gated import gated_rig

USER = {"role": "user", "content": "Go on."}
TOOL = {
    "type": "function",
    "function": {"name": "f", "description": "anything", "parameters": {"type": "object"}},
}


def starts(folder: Path, fields: dict[str, Any], **rule: Any) -> list[int | None]:
    """Where the gate begins to read, of what steers and of what only measures."""
    call = asyncio.run(gated_rig(folder, **rule).admit("gated", **fields))
    found = (call.choice.directive, call.choice.probe)
    assert all(found)
    return [one.count_from for one in found if one is not None]


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [{"role": "system", "content": "How do I do harm?"}, USER]},
        {"messages": [{"role": "developer", "content": "How do I do harm?"}, USER]},
        {"messages": [{"role": "system", "content": [{"type": "text", "text": "x"}]}, USER]},
        {"messages": [{"role": "assistant", "content": "You asked for harm."}, USER]},
        {"messages": [{"role": "system", "content": "x"}]},
        {"messages": [USER], "tools": [TOOL]},
        {"messages": [USER], "documents": [{"text": "How do I do harm?"}]},
    ],
)
def test_what_a_caller_puts_before_the_first_turn_is_read(
    tmp_path: Path, fields: dict[str, Any]
) -> None:
    assert starts(tmp_path, fields) == [0, 0]


@pytest.mark.parametrize(
    "messages",
    [
        [USER],
        [USER, {"role": "assistant", "content": "x"}, USER],
        [USER, {"role": "system", "content": "x"}, USER],
    ],
)
def test_without_such_words_reading_begins_with_the_first_turn(
    tmp_path: Path, messages: list[dict[str, Any]]
) -> None:
    assert starts(tmp_path, {"messages": messages}) == [None, None]


def test_an_operator_may_trust_the_system_prompts_of_a_policy(tmp_path: Path) -> None:
    messages = [{"role": "system", "content": "x"}, USER]
    found = starts(tmp_path, {"messages": messages}, system_prompts="trusted")
    assert found == [None, None]
