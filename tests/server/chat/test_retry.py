"""A refused request is still that request when it is asked again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from refusal_server.chat.guard.retry import retried
from refusal_server.settings import Passes
from tests.server.fixtures.scripted import Call, Rig, Script

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

OURS = "Das mache ich nicht mit."


def again(messages: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    return retried(messages, OURS)


@pytest.mark.parametrize("refusal", REFUSALS)
def test_the_refused_request_is_judged_with_its_correction(refusal: dict[str, Any]) -> None:
    system = {"role": "system", "content": "S"}
    folded, bare = again([system, BAD, refusal, AGAIN])
    assert folded[0] == system
    assert [part["text"] for part in folded[1]["content"]] == [BAD["content"], AGAIN["content"]]
    assert bare == [system, BAD]


def said(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


@pytest.mark.parametrize(
    "answer",
    [
        *(
            said(text)
            for text in ("null", "None", "{}", "[]", '""', "...", "\u200b", " \n", "```\n```")
        ),
        *(said(text) for text in ("(no content)", "[empty response]", "<empty>", "undefined")),
        said(OURS),
        said(f"> {OURS}"),
        said("", additional_kwargs={"refusal": "No."}),
        said("", tool_calls=[]),
        {"role": "assistant", "provider_specific_fields": {"refusal": "No."}},
        said('{"refusal": "I\'m sorry, but I can\'t help with that."}'),
        said("I\u2019m sorry, but I can\u2019t help with that."),
    ],
)
def test_whatever_a_client_makes_of_a_refusal_is_one(answer: dict[str, Any]) -> None:
    assert again([BAD, answer, AGAIN])[1:] == [[BAD]]


@pytest.mark.parametrize(
    "later",
    [
        [AGAIN],
        [AGAIN, AGAIN],
        [{"role": "user", "content": "Validation error: the field is missing. Fix it."}],
    ],
)
def test_an_answer_that_the_client_left_out_was_none(later: list[dict[str, Any]]) -> None:
    folded, bare = again([BAD, *later])
    assert folded[0]["content"][0]["text"] == BAD["content"]
    assert bare == [BAD]


@pytest.mark.parametrize("role", ["system", "developer", "user"])
def test_a_correction_in_anybodys_name_is_one(role: str) -> None:
    note = {**AGAIN, "role": role}
    folded, bare = again([BAD, REFUSALS[1], note])
    assert [part["text"] for part in folded[0]["content"]] == [BAD["content"], AGAIN["content"]]
    assert bare == [BAD]


def test_every_later_turn_is_part_of_it() -> None:
    folded, _ = again([BAD, REFUSALS[0], AGAIN, REFUSALS[1], AGAIN])
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
        [BAD, {"role": "user", "content": "And tell me about Paris."}],
        [AGAIN],
        [BAD, {"role": "assistant", "content": "42"}, AGAIN],
    ],
)
def test_a_conversation_without_a_refused_request_is_left_alone(
    messages: list[dict[str, Any]],
) -> None:
    assert again(messages) == []


@pytest.mark.parametrize(
    "text",
    [
        AGAIN["content"],
        "The answer was empty. Please send it again.",
        "Validation Error found: 1 validation error. Recall the function correctly, fix the errors",
        "Correct your JSON ONLY RESPONSE, based on the following errors: EOF at line 1",
        "Fix the errors and try again.",
        "The completion did not satisfy the constraints given. Please try again:",
        "Deine Antwort war kein gültiges JSON. Korrigiere sie.",
        "Ta réponse est vide, corrige le format.",
        "你的回答不是有效的 JSON,请更正。",
        "Ответ пустой, исправь формат.",
    ],
)
def test_a_turn_that_only_corrects_leaves_the_request_as_it_was(text: str) -> None:
    assert again([BAD, REFUSALS[0], {"role": "user", "content": text}])[1:] == [[BAD]]


@pytest.mark.parametrize(
    "text",
    [
        "What is the capital of France?",
        "Thank you. How do I cook rice?",
        "Write a poem about the sea.",
        "Wie wird das Wetter morgen?",
        "今天天气怎么样?",
        "Continue.",
    ],
)
def test_a_turn_that_asks_for_something_is_judged_with_the_request_only(text: str) -> None:
    assert len(again([BAD, REFUSALS[0], {"role": "user", "content": text}])) == 1


@pytest.mark.parametrize("refusal", REFUSALS[:5])
def test_a_correction_that_hides_the_request_is_refused_again(
    tmp_path: Path, refusal: dict[str, Any]
) -> None:
    """The folded request is not recognised; the refused one still is."""
    script = Script()

    async def recognise(call: Call) -> None:
        alone = call.messages == [BAD]
        script.says["draft"] = "I'm sorry, but I can't help." if alone else "Here you are."

    script.before = recognise
    rig = Rig(tmp_path, script)
    body = rig.ask("static", messages=[BAD, dict(refusal), AGAIN])
    assert body["choices"][0]["message"]["refusal"] == Passes().refusal
    assert rig.script.kinds == ["draft", "draft"]


@pytest.mark.parametrize("refusal", REFUSALS[:5])
def test_a_retry_is_refused_again(tmp_path: Path, refusal: dict[str, Any]) -> None:
    rig = Rig(tmp_path, Script(says={"draft": "I'm sorry, but I can't help with that."}))
    body = rig.ask("static", messages=[BAD, dict(refusal), AGAIN])
    assert body["choices"][0]["message"]["refusal"] == Passes().refusal
    assert rig.script.kinds == ["draft"]
