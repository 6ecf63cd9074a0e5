"""Whole answers: the model's, once its steering is proven, or the guard's refusal in its place."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from starlette.responses import JSONResponse, Response
from vllm.entrypoints.openai.chat_completion.protocol import (
    ChatCompletionResponse,
    ChatCompletionResponseChoice,
    ChatMessage,
)

from refusal_server.chat.attempt import Attempt
from refusal_server.chat.internal import InternalReply
from refusal_server.chat.stream import DONE, event_stream
from refusal_server.detection.answer_text import said_by
from refusal_server.telemetry.ending import Usage


def answer(attempt: Attempt, result: ChatCompletionResponse) -> Response:
    """The response to ``attempt``; raises ``SteeringUnavailableError`` where proof is missing."""
    with attempt.watch:
        attempt.prove(finished=True)
        measured = attempt.measure()
        content = _reported(result, attempt.report(measured))
        response = JSONResponse(content, headers=attempt.header(measured))
        said = [said_by(each.message) for each in result.choices]
    attempt.answered(measured, said, _usage(result))
    return response


def refuse(attempt: Attempt, draft: InternalReply, text: str) -> Response:
    """The refusal ``text`` for every choice, under the steering that ``draft`` has earned."""
    measured = attempt.measure(draft.traces)
    refusal = _Refusal(attempt, draft, text, attempt.report(measured, draft.traces))
    attempt.refused(measured, _usage(draft.response))
    headers = attempt.header(measured)
    if attempt.call.request.stream:
        return event_stream(refusal.events(), headers)
    return JSONResponse(refusal.content(), headers=headers)


@dataclass(frozen=True, slots=True)
class _Refusal:
    """A refusal as OpenAI shapes it, ``message.refusal`` instead of ``content``.

    The draft's tokens are what it has used; ``steering`` is the report, if one is asked for.
    """

    attempt: Attempt
    draft: InternalReply
    text: str
    steering: dict[str, Any] | None

    def content(self) -> dict[str, Any]:
        """The body of a whole answer, the fields of any other of this server's."""
        message = ChatMessage(role="assistant", content=None, refusal=self.text)
        choices = [
            ChatCompletionResponseChoice(index=index, message=message, finish_reason="stop")
            for index in range(self._choices)
        ]
        answer = ChatCompletionResponse(
            id=self._id,
            model=self.draft.response.model,
            choices=choices,
            usage=self.draft.response.usage,
        )
        return _reported(answer, self.steering)

    def events(self) -> Iterator[str]:
        """The same as server-sent events, the steering report on the last chunk."""
        opening = {"role": "assistant", "refusal": self.text}
        chunks: list[tuple[list[dict[str, Any]], dict[str, Any]]] = [
            *(([_choice(index, opening, None)], {}) for index in range(self._choices)),
            *(([_choice(index, {}, "stop")], {}) for index in range(self._choices)),
        ]
        options = self.attempt.call.request.stream_options
        if options is not None and options.include_usage:
            chunks.append(([], {"usage": self.draft.response.usage.model_dump(exclude_none=True)}))
        if self.steering is not None:
            chunks[-1][1]["steering"] = self.steering
        created = int(time.time())
        for choices, more in chunks:
            yield self._event(created, choices, more)
        yield DONE

    @property
    def _id(self) -> str:
        asked = self.attempt.passed.headers.get("x-request-id")
        return f"chatcmpl-{asked or self.attempt.call.request.request_id}"

    @property
    def _choices(self) -> int:
        return self.attempt.call.request.n or 1

    def _event(
        self, created: int, choices: list[dict[str, Any]], more: dict[str, Any] | None = None
    ) -> str:
        chunk = {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": created,
            "model": self.draft.response.model,
            "choices": choices,
            **(more or {}),
        }
        return f"data: {json.dumps(chunk)}\n\n"


def _choice(index: int, delta: dict[str, Any], finish_reason: str | None) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


def _reported(result: ChatCompletionResponse, steering: dict[str, Any] | None) -> dict[str, Any]:
    content: dict[str, Any] = result.model_dump()
    return content if steering is None else {**content, "steering": steering}


def _usage(result: ChatCompletionResponse) -> Usage:
    return Usage(result.usage.prompt_tokens, result.usage.completion_tokens or 0)
