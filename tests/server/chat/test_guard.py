"""Forms that a refusal does not fit into: drafted first, refused in OpenAI's shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

from refusal_server.errors import ApiError
from refusal_server.settings import Passes
from tests.server.fixtures.scripted import Rig, Script

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
FORMS: list[dict[str, Any]] = [
    {"response_format": {"type": "json_object"}},
    {"response_format": SCHEMA},
    {"structured_outputs": {"regex": "[a-z]+"}},
    {"structured_outputs": {"choice": ["yes", "no"]}},
    {"tools": [TOOL], "tool_choice": "required"},
    {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "f"}}},
    {"allowed_token_ids": [1, 2]},
    {"logit_bias": {"40": -100}},
    {"bad_words": ["sorry"]},
    {"chat_template_kwargs": {"enable_thinking": True}},
    {"reasoning_effort": "low"},
    {"thinking_token_budget": 100},
]
FREE: list[dict[str, Any]] = [
    {},
    {"response_format": {"type": "text"}},
    {"tools": [TOOL], "tool_choice": "auto"},
    {"tools": [TOOL]},
    {"tools": [TOOL], "tool_choice": "none"},
    {"reasoning_effort": "none"},
]
REFUSAL = "I'm sorry, but I can't help with that."
TEXT = Passes().refusal


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path, Script(says={"draft": REFUSAL}))


@pytest.mark.parametrize("form", FORMS)
def test_a_form_whose_draft_refuses_is_refused(rig: Rig, form: dict[str, Any]) -> None:
    body = rig.ask("static", **form)
    assert rig.script.kinds == ["draft"]
    (choice,) = body["choices"]
    assert choice["finish_reason"] == "stop"
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"] is None
    assert choice["message"]["refusal"] == TEXT
    assert "tool_calls" not in choice["message"]
    assert body["usage"]["completion_tokens"] == 3
    assert body["id"] == "chatcmpl-7"
    assert body["header"]["rows_verified"] == "1"
    assert body["steering"]["coefficient"] == 2.0
    assert rig.count("steering_requests_total", outcome="refusal") == 1
    assert rig.count("steering_rows_verified_total") == 1


@pytest.mark.parametrize("form", FORMS)
def test_a_form_whose_draft_is_harmless_is_answered_once_as_asked(
    rig: Rig, form: dict[str, Any]
) -> None:
    rig.script.says["draft"] = "DRAFTED WORDS"
    body = rig.ask("static", temperature=0.7, max_tokens=50, **form)
    assert rig.script.kinds == ["draft", "answer"]
    draft, answer = rig.script.calls
    assert draft.directive == answer.directive
    assert draft.messages == answer.messages
    assert (draft.request.max_completion_tokens, draft.request.temperature) == (24, 0.0)
    assert draft.request.extract_structured_outputs() is None
    assert not (draft.request.tools or draft.request.logit_bias or draft.request.bad_words)
    assert draft.request.allowed_token_ids is None
    assert draft.request.chat_template_kwargs == {"enable_thinking": False, "thinking": False}
    messages = answer.messages
    asked = ChatCompletionRequest(messages=messages, temperature=0.7, max_tokens=50, **form)
    names = ("temperature", "max_tokens", "tool_choice", "tools", *form)
    given, wanted = answer.request.model_dump(), asked.model_dump()
    assert {name: given[name] for name in names} == {name: wanted[name] for name in names}
    assert "DRAFTED" not in str(body)
    assert body["choices"][0]["message"]["content"] == "fine"
    assert rig.count("steering_requests_total", outcome="answer") == 1


@pytest.mark.parametrize("form", FREE)
@pytest.mark.parametrize("policy", ["static", "ras"])
def test_free_forms_are_not_drafted(rig: Rig, form: dict[str, Any], policy: str) -> None:
    rig.ask(policy, **form)
    assert "draft" not in rig.script.kinds
    assert rig.script.kinds[-1] == "answer"


@pytest.mark.parametrize("policy", ["off", "shadow-ras"])
def test_only_enforced_policies_are_guarded(rig: Rig, policy: str) -> None:
    rig.ask(policy, **FORMS[0])
    assert "draft" not in rig.script.kinds
    assert len(rig.script.of("answer")) == 1


def test_where_the_model_may_think_everything_is_drafted(tmp_path: Path) -> None:
    rig = Rig(tmp_path, Script(says={"draft": REFUSAL}), thinks=True)
    assert rig.ask("static")["choices"][0]["message"]["refusal"] == TEXT
    assert rig.script.kinds == ["draft"]


def test_what_earned_nothing_is_not_drafted_to_the_end(rig: Rig) -> None:
    rig.script.coefficient = 0.0
    rig.ask("omnisteer", **FORMS[0])
    assert rig.script.kinds == ["probe", "answer"]
    first, answer = rig.script.calls
    assert first.directive == answer.directive
    rig.script.calls.clear()
    rig.script.coefficient = 0.5
    rig.ask("omnisteer", **FORMS[0])
    assert rig.script.kinds == ["probe", "draft"]


def test_strength_zero_is_not_drafted_at_all(tmp_path: Path) -> None:
    rules: dict[str, dict[str, Any]] = {
        "zero": {"mode": "enforce", "bundle": "omnisteer", "floor": 0.0}
    }
    rig = Rig(tmp_path, Script(says={"draft": REFUSAL}), rules)
    rig.ask("zero", steering={"strength": 0}, **FORMS[0])
    assert rig.script.kinds == ["answer"]


def test_without_hold_later_tokens_may_earn_what_the_first_did_not(tmp_path: Path) -> None:
    window = {"decode_tokens": None, "hold": False}
    rules: dict[str, dict[str, Any]] = {
        "each": {"mode": "enforce", "bundle": "omnisteer", "window": window}
    }
    rig = Rig(tmp_path, Script(says={"draft": REFUSAL}, coefficient=0.0), rules)
    rig.ask("each", **FORMS[0])
    assert rig.script.kinds == ["draft"]


def test_a_blend_of_zero_is_not_drafted_and_any_other_is(rig: Rig) -> None:
    rig.script.risk_logit = -20.0
    rig.ask("cascade", **FORMS[0])
    assert rig.script.kinds == ["probe", "answer"]
    rig.script.calls.clear()
    rig.script.risk_logit = 20.0
    body = rig.ask("cascade", **FORMS[0])
    assert rig.script.kinds == ["probe", "draft"]
    assert rig.script.calls[-1].directive is not None
    assert rig.script.calls[-1].directive.blend == 0.9
    assert body["choices"][0]["message"]["refusal"] == TEXT
    assert body["steering"]["blended"] == 1


@pytest.mark.parametrize("usage", [False, True])
def test_a_streamed_refusal(rig: Rig, usage: bool) -> None:
    options = {"stream_options": {"include_usage": True}} if usage else {}
    *events, done = rig.stream("static", n=2, **FORMS[0], **options)
    assert rig.script.kinds == ["draft"]
    assert rig.script.calls[0].request.n == 1
    assert done == "[DONE]"
    assert {event["object"] for event in events} == {"chat.completion.chunk"}
    assert {event["id"] for event in events} == {"chatcmpl-7"}
    said = [event["choices"][0] for event in events if event["choices"]]
    assert [(c["index"], c["delta"], c["finish_reason"]) for c in said] == [
        *((index, {"role": "assistant", "refusal": TEXT}, None) for index in (0, 1)),
        *((index, {}, "stop") for index in (0, 1)),
    ]
    assert events[-1]["steering"]["rows_verified"] == 1
    assert [event["usage"]["prompt_tokens"] for event in events[4:]] == [5] * usage
    assert rig.count("steering_requests_total", outcome="refusal") == 1


def test_every_choice_is_refused_and_the_stream_of_a_harmless_form_is_plain(rig: Rig) -> None:
    choices = rig.ask("static", n=3, **FORMS[0])["choices"]
    assert [(c["index"], c["message"]["refusal"]) for c in choices] == [
        (index, TEXT) for index in range(3)
    ]
    rig.script.says["draft"] = "DRAFTED"
    rig.script.calls.clear()
    events = rig.stream("static", **FORMS[0])
    assert rig.script.kinds == ["draft", "answer"]
    assert "DRAFTED" not in str(events)


@pytest.mark.parametrize("kind", ["draft", "probe"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_failed_draft_ends_the_request(rig: Rig, kind: str, stream: bool) -> None:
    rig.script.says[kind] = RuntimeError("secret")
    with pytest.raises(ApiError) as caught:
        rig.ask("omnisteer", stream=stream, **FORMS[0])
    assert (caught.value.status, caught.value.code) == (503, "steering_unavailable")
    assert not rig.script.of("answer")
