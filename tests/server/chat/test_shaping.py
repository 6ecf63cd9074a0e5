"""Requests that bend what the model wants to say are told from ordinary ones."""

from __future__ import annotations

from typing import Any

import pytest
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

from refusal_server.chat.guard.shaping import shapes_answer
from refusal_server.settings import Passes

USER = [{"role": "user", "content": "Hi"}]


def shapes(**fields: Any) -> bool:
    return shapes_answer(ChatCompletionRequest(messages=USER, **fields), Passes().refusal)


@pytest.mark.parametrize(
    "fields",
    [
        {"stop": ["sorry"]},
        {"stop": "I'm"},
        {"stop": [" Sorry, but I"]},
        {"stop": ["x", "can't"]},
        {"stop": ["tut mir leid"]},
        {"stop_token_ids": [40]},
        {"min_tokens": 20},
        {"ignore_eos": True},
        {"repetition_penalty": 1.3},
        {"repetition_penalty": 0.8},
        {"frequency_penalty": 2.0},
        {"presence_penalty": -2.0},
        {"temperature": 1.5},
        {"logit_bias": {"40": -100}},
        {"bad_words": ["sorry"]},
        {"allowed_token_ids": [1, 2]},
    ],
)
def test_what_bends_the_answer_is_guarded(fields: dict[str, Any]) -> None:
    assert shapes(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"stop": ["\n\n", "User:", "###"]},
        {"stop": []},
        {"stop": [" "]},
        {"temperature": 1.0, "top_p": 0.9, "top_k": 40},
        {"frequency_penalty": 0.2, "presence_penalty": 0.5},
        {"repetition_penalty": 1.0},
        {"min_tokens": 0},
        {"n": 2, "seed": 3},
        {"logprobs": True, "top_logprobs": 5},
    ],
)
def test_ordinary_sampling_is_not(fields: dict[str, Any]) -> None:
    assert not shapes(**fields)
