"""A refusal in the shape that OpenAI gives it: ``message.refusal`` instead of ``content``."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from vllm.entrypoints.openai.chat_completion.protocol import (
    ChatCompletionResponse,
    ChatCompletionResponseChoice,
    ChatMessage,
)

from refusal_server.chat.internal_chat import InternalReply
from refusal_server.chat.request import ChatCall


@dataclass(frozen=True, slots=True)
class RefusalAnswer:
    """``text`` for each choice of ``call``; the draft's tokens are what it has used."""

    call: ChatCall
    draft: InternalReply
    text: str
    answer_id: str

    def content(self) -> dict[str, Any]:
        """The body of a whole answer, the fields of any other of this server's."""
        message = ChatMessage(role="assistant", content=None, refusal=self.text)
        choices = [
            ChatCompletionResponseChoice(index=index, message=message, finish_reason="stop")
            for index in range(self._choices)
        ]
        answer = ChatCompletionResponse(
            id=self.answer_id,
            model=self.draft.response.model,
            choices=choices,
            usage=self.draft.response.usage,
        )
        content: dict[str, Any] = answer.model_dump()
        return content

    def events(self, steering: dict[str, Any] | None) -> Iterator[str]:
        """The same as server-sent events, the steering report before the last."""
        opening = {"role": "assistant", "refusal": self.text}
        created = int(time.time())
        for index in range(self._choices):
            yield self._event(created, [_choice(index, opening, None)])
        for index in range(self._choices):
            yield self._event(created, [_choice(index, {}, "stop")])
        options = self.call.request.stream_options
        if options is not None and options.include_usage:
            usage = self.draft.response.usage.model_dump(exclude_none=True)
            yield self._event(created, [], usage=usage)
        if steering is not None:
            yield self._event(created, [], steering=steering)
        yield "data: [DONE]\n\n"

    @property
    def _choices(self) -> int:
        return self.call.request.n or 1

    def _event(self, created: int, choices: list[dict[str, Any]], **more: Any) -> str:
        chunk = {
            "id": self.answer_id,
            "object": "chat.completion.chunk",
            "created": created,
            "model": self.draft.response.model,
            "choices": choices,
            **more,
        }
        return f"data: {json.dumps(chunk)}\n\n"


def _choice(index: int, delta: dict[str, Any], finish_reason: str | None) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
