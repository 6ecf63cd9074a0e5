"""What vllm-router writes into every chat says nothing; the same keys of a caller's do."""

from __future__ import annotations

from typing import Any

import pytest

from tests.server.fixtures.client_site import ClientSite, refusal

# A chat of one message behind vllm-router 0.1.17, as it reaches a replica.
ADDED: dict[str, Any] = {
    "stream": False,
    "logprobs": False,
    "no_stop_trim": False,
    "ignore_eos": False,
    "continue_final_message": False,
    "skip_special_tokens": True,
    "separate_reasoning": True,
    "stream_reasoning": True,
    "return_hidden_states": False,
    "include_reasoning": True,
}


def test_a_chat_behind_a_router_is_the_chat_before_it(site: ClientSite) -> None:
    assert site.chat().status_code == 200
    answer = site.chat(**ADDED)
    assert answer.status_code == 200, answer.text
    before, behind = (call.request for call in site.script.of("answer")[-2:])
    for name in type(before).model_fields:
        if name not in ("cache_salt", "request_id"):
            assert getattr(behind, name) == getattr(before, name), name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("no_stop_trim", True),
        ("return_hidden_states", True),
        ("separate_reasoning", False),
        ("stream_reasoning", False),
        ("separate_reasoning", 1),
        ("no_stop_trim", 0),
        ("no_stop_trim", "false"),
        ("return_hidden_states", []),
    ],
)
def test_another_value_is_the_callers_and_is_refused(
    site: ClientSite, name: str, value: Any
) -> None:
    assert name in refusal(site.chat(**{name: value}))["message"]
