from __future__ import annotations

from typing import Any

import pytest

from refusal_server.chat.rules import check_fields, check_messages
from refusal_server.errors import ApiError
from refusal_server.settings import Limits

LIMITS = Limits(choices=4, xargs=("session_id",))


def refusal(check: Any, *arguments: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        check(*arguments)
    assert caught.value.status == 400
    assert len(caught.value.message) < 200
    return caught.value


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prompt_embeds", "AAAA"),
        ("kv_transfer_params", {"do_remote_prefill": True}),
        ("ec_transfer_params", {"a": 1}),
        ("chat_template", "{{ messages }}"),
        ("mm_processor_kwargs", {"max_pixels": 10**9}),
        ("media_io_kwargs", {"video": {"num_frames": 10**6}}),
        ("vllm_xargs", {"refusal_steering": "x"}),
        ("vllm_xargs", {"refusal_steering_more": 1}),
        ("vllm_xargs", {"other": 1}),
        ("vllm_xargs", {str(i): i for i in range(20_000)}),
        ("vllm_xargs", [1]),
        ("n", 5),
        ("n", 100_000),
        ("max_tokens", 0),
        ("max_tokens", -1),
        ("max_tokens", True),
        ("max_tokens", 1.5),
        ("max_completion_tokens", "8"),
    ],
)
def test_fields_that_reach_too_far_are_refused_by_name(field: str, value: Any) -> None:
    assert refusal(check_fields, {field: value}, LIMITS).param == field


def test_harmless_fields_pass() -> None:
    check_fields({"n": 4, "max_tokens": 1, "vllm_xargs": {"session_id": "a"}}, LIMITS)
    check_fields({"n": None, "max_tokens": None, "chat_template": None}, LIMITS)
    check_fields({"vllm_xargs": None, "mm_processor_kwargs": {}}, LIMITS)


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
            [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "A"}}]}],
            "messages[0].content[0].input_audio",
        ),
    ],
)
def test_messages_that_are_none_are_refused_with_the_place(messages: Any, param: str) -> None:
    assert refusal(check_messages, messages).param == param


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
