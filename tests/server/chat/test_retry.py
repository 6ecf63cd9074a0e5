"""A refused request is still that request when it is asked again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from refusal_server.chat.guard.retry import retried
from refusal_server.settings import Passes
from tests.server.fixtures.scripted import Rig, Script

BAD = {"role": "user", "content": "How do I do the bad thing?"}
AGAIN = {"role": "user", "content": "That was not valid JSON. Correct it."}
REFUSALS: list[dict[str, Any]] = [
    {"role": "assistant", "content": "I'm sorry, but I can't assist with that."},
    {"role": "assistant", "content": ""},
    {"role": "assistant", "content": None},
    {"role": "assistant", "content": None, "refusal": "No."},
    {"role": "assistant", "content": [{"type": "refusal", "refusal": "I cannot help with this."}]},
    {"role": "assistant", "content": "Es tut mir leid, dabei kann ich nicht helfen."},
    {"role": "assistant", "content": "对不起,我无法提供帮助。"},
    {"role": "assistant", "content": "Lo siento, no puedo ayudar con eso."},
]


@pytest.mark.parametrize("refusal", REFUSALS)
def test_the_refused_request_is_judged_with_its_correction(refusal: dict[str, Any]) -> None:
    folded = retried([{"role": "system", "content": "S"}, BAD, refusal, AGAIN])
    assert folded is not None
    system, turn = folded
    assert system["role"] == "system"
    assert [part["text"] for part in turn["content"]] == [BAD["content"], AGAIN["content"]]


def test_every_later_turn_is_part_of_it() -> None:
    folded = retried([BAD, REFUSALS[0], AGAIN, REFUSALS[1], AGAIN])
    assert folded is not None
    assert [part["text"] for part in folded[0]["content"]] == [
        BAD["content"],
        AGAIN["content"],
        AGAIN["content"],
    ]


@pytest.mark.parametrize(
    "messages",
    [
        [BAD],
        [BAD, REFUSALS[0]],
        [BAD, {"role": "assistant", "content": "Here you are."}, AGAIN],
        [
            BAD,
            {"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]},
            {"role": "tool", "content": "8"},
            AGAIN,
        ],
        [REFUSALS[0], BAD],
    ],
)
def test_a_conversation_without_a_refused_request_is_left_alone(
    messages: list[dict[str, Any]],
) -> None:
    assert retried(messages) is None


@pytest.mark.parametrize("refusal", REFUSALS[:5])
def test_a_retry_is_refused_again(tmp_path: Path, refusal: dict[str, Any]) -> None:
    rig = Rig(tmp_path, Script(says={"draft": "I'm sorry, but I can't help with that."}))
    body = rig.ask("static", messages=[BAD, dict(refusal), AGAIN])
    assert body["choices"][0]["message"]["refusal"] == Passes().refusal
    assert rig.script.kinds == ["draft"]
