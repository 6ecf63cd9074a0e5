"""Requests whose fields have no meaning, rows 13 to 30 of the threat table, on the real server."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.errors import check_error
from tests.server.fixtures.live import LiveServer

pytestmark = pytest.mark.engine
HELLO = [{"role": "user", "content": "hello"}]
LONG = "word " * 4000


def test_unknown_models(server: LiveServer) -> None:
    for model in ("gpt-4", "", "../../etc/passwd", "x" * 5000):
        error = check_error(server.chat(model=model), 404, "model_not_found")
        assert "passwd" not in error["message"]
    check_error(server.chat(model=7), 400)
    assert server.chat(model=None).status_code == 200


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 10**9}, None),
        ({"max_tokens": 10**30}, None),
        ({"max_completion_tokens": 10**9, "max_tokens": None}, None),
        ({"n": 100_000}, "n"),
        ({"temperature": -1}, None),
        ({"temperature": 10**6}, None),
        ({"temperature": "hot"}, None),
        ({"top_p": 2}, None),
        ({"top_p": 0}, None),
        ({"n": 0}, None),
        ({"n": -1}, None),
        ({"logprobs": True, "top_logprobs": 1000}, None),
        ({"logit_bias": {"99999999": 1}}, None),
        ({"logit_bias": {"x": 1}}, None),
        ({"seed": 2**70}, "seed"),
        ({"stop": ["x"] * 10_000}, None),
        ({"min_tokens": 100}, None),
        ({"allowed_token_ids": [10**9]}, None),
        ({"stop_token_ids": ["x"]}, None),
        ({"response_format": {"type": "json_schema"}}, None),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "a", "schema": {"type": "nonsense"}},
                }
            },
            None,
        ),
        ({"structured_outputs": {"regex": "("}}, None),
        ({"tools": []}, "tools"),
        ({"tool_choice": "required"}, None),
        ({"stream": False, "stream_options": {"include_usage": True}}, None),
        ({"stream": "yes please"}, "stream"),
        ({"use_beam_search": True}, "use_beam_search"),
        ({"prompt_embeds": "AAAA"}, "prompt_embeds"),
        ({"chat_template": "{{ 1 }}"}, "chat_template"),
        ({"chat_template_kwargs": {"chat_template": "{{ 1 }}"}}, None),
        ({"mm_processor_kwargs": {"max_pixels": 1}}, "mm_processor_kwargs"),
        ({"media_io_kwargs": {"video": {"num_frames": 9}}}, "media_io_kwargs"),
        ({"kv_transfer_params": {"do_remote_prefill": True}}, "kv_transfer_params"),
        ({"vllm_xargs": {"a": {"b": 1}}}, "vllm_xargs"),
        ({"vllm_xargs": {str(i): 1 for i in range(20_000)}}, "vllm_xargs"),
        ({"vllm_xargs": {"refusal_steering": "off"}}, "vllm_xargs"),
        ({"vllm_xargs": {"refusal_steering_gain": 0}}, "vllm_xargs"),
        ({"priority": 7}, "priority"),
        ({"cache_salt": ""}, None),
        ({"truncate_prompt_tokens": -5}, None),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_fields_that_have_no_meaning(
    server: LiveServer, fields: dict[str, Any], param: str | None, stream: bool
) -> None:
    error = check_error(server.chat(**{"stream": stream, **fields}), 400)
    if param is not None:
        assert error["param"] == param


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}},
        {"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}}},
        {"type": "array", "items": {"$ref": "#"}, "minItems": 1},
        {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_schema_that_no_value_meets(
    server: LiveServer, schema: dict[str, Any], stream: bool
) -> None:
    named = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    answer = server.chat(response_format=named, stream=stream)
    if answer.status_code == 200:
        # Some have no end rather than no beginning, or the stream has begun.
        assert "internal_error" not in answer.text
    else:
        check_error(answer, 400)
    assert server.chat().status_code == 200


def test_a_prompt_that_is_too_long(server: LiveServer) -> None:
    for text in (LONG, LONG * 20):
        check_error(server.chat(text), 400, "context_length_exceeded")


def test_without_max_tokens_the_servers_cap_holds(server: LiveServer) -> None:
    response = server.chat(max_tokens=None, min_tokens=12)
    assert response.json()["usage"]["completion_tokens"] == 12


@pytest.mark.parametrize(
    ("steering", "status", "code"),
    [
        ({"strength": 0.1}, 400, "invalid_steering"),
        ({"strength": 99}, 400, "invalid_steering"),
        ({"strength": -1}, 400, "invalid_steering"),
        ({"strength": True}, 400, "invalid_steering"),
        ({"strength": "1"}, 400, "invalid_steering"),
        ({"policy": "nope"}, 400, "invalid_steering"),
        ({"policy": None, "vector": [1, 2]}, 400, "invalid_steering"),
        ({"bundle": "../x"}, 400, "invalid_steering"),
        ({"policy": "weak"}, 403, "policy_not_allowed"),
        ("off", 400, "invalid_steering"),
        (False, 400, "invalid_steering"),
    ],
)
def test_steering_that_has_no_meaning_or_is_not_allowed(
    server: LiveServer, steering: Any, status: int, code: str
) -> None:
    before = server.metric("steering_denied_total")
    check_error(server.chat(steering=steering), status, code)
    assert server.metric("steering_denied_total") == before + 1
