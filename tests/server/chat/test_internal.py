"""What internal requests read out of vLLM's own answers, and how they fail together."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from vllm.entrypoints.openai.chat_completion.protocol import (
    ChatCompletionLogProb,
    ChatCompletionLogProbs,
    ChatCompletionLogProbsContent,
    ChatCompletionRequest,
    ChatCompletionResponse,
)
from vllm.logprobs import Logprob

from refusal_server.chat.internal import InternalChat, reopened, together
from refusal_steering.errors import SteeringUnavailableError

STEPS = [
    {token: Logprob(-0.5 * rank, rank + 1, "x") for rank, token in enumerate(range(7 * n, 25))}
    for n in range(3)
]
USER: list[dict[str, Any]] = [{"role": "user", "content": "x"}]


class Serving:
    """Gives ``message`` with log-probabilities in vLLM's shape."""

    def __init__(self, message: dict[str, Any], *, by_id: bool = True) -> None:
        self.message, self.by_id = message, by_id

    async def create_chat_completion(self, request: ChatCompletionRequest, _: Any) -> Any:
        logprobs = None
        if request.logprobs:
            by_id = bool(self.by_id and request.return_tokens_as_token_ids)
            content = [step_of(step, request.top_logprobs or 0, by_id) for step in STEPS]
            logprobs = ChatCompletionLogProbs(content=content).model_dump()
        message = {"role": "assistant", **self.message}
        choices = [{"index": 0, "message": message, "logprobs": logprobs}]
        answer = {"model": "m", "choices": choices, "usage": {}}
        return ChatCompletionResponse.model_validate(answer)


def step_of(step: dict[int, Logprob], count: int, by_id: bool) -> ChatCompletionLogProbsContent:
    """One answer token as vLLM writes it: the likeliest tokens, by id or by their text."""
    top = [
        ChatCompletionLogProb(
            token=f"token_id:{token}" if by_id else str(found.decoded_token),
            logprob=found.logprob,
            bytes=list(str(found.decoded_token).encode()),
        )
        for token, found in list(step.items())[:count]
    ]
    return ChatCompletionLogProbsContent(**top[0].model_dump(), top_logprobs=top)


def ask(message: dict[str, Any], *, by_id: bool = True, **options: Any) -> Any:
    internal = InternalChat(Serving(message, by_id=by_id))
    fields = reopened(ChatCompletionRequest(messages=USER))
    return asyncio.run(internal.ask(USER, fields, tokens=3, **options))


def test_the_twenty_likeliest_tokens_of_each_step_are_read_by_id() -> None:
    steps = ask({"content": "x"}, logprobs=True).steps
    assert steps == tuple(
        {token: entry.logprob for token, entry in list(step.items())[:20]} for step in STEPS
    )
    assert ask({"content": "x"}).steps == ()
    with pytest.raises(SteeringUnavailableError, match="token ids"):
        ask({"content": "x"}, logprobs=True, by_id=False)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": "a"}, "a"),
        ({"content": "a", "reasoning": "b"}, "a"),
        ({"content": None, "reasoning": "b"}, "b"),
        ({"content": None}, ""),
    ],
)
def test_words_filed_under_thoughts_are_words(message: dict[str, Any], text: str) -> None:
    assert ask(message).text == text


def test_the_callers_messages_are_left_as_they_are() -> None:
    messages = [{"role": "assistant", "content": "a", "reasoning_content": "b"}, *USER]
    internal = InternalChat(Serving({"content": "x"}))
    asyncio.run(internal.ask(messages, {}, tokens=1))
    assert messages[0] == {"role": "assistant", "content": "a", "reasoning_content": "b"}


def test_the_first_error_ends_all_work_side_by_side() -> None:
    ended = []

    async def wait() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    async def fail() -> None:
        await asyncio.sleep(0.01)
        raise SteeringUnavailableError("no")

    with pytest.raises(SteeringUnavailableError, match="no"):
        asyncio.run(together(wait(), fail(), wait()))
    assert len(ended) == 2
