"""A streamed answer: vLLM's events from the first proven token on, the report before the end."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from typing import Any

from starlette.responses import Response, StreamingResponse

from refusal_server.chat.attempt import Attempt
from refusal_server.detection.answer_text import Said, StreamedAnswer
from refusal_server.errors import internal_error

DONE = "data: [DONE]\n\n"
_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


def event_stream(
    events: AsyncIterator[str] | Iterator[str], headers: Mapping[str, str]
) -> Response:
    """A response of server-sent events, with ``headers`` besides its own."""
    headers = {**headers, **_HEADERS}
    return StreamingResponse(events, media_type="text/event-stream", headers=headers)


async def open_stream(attempt: Attempt, events: AsyncGenerator[str, None]) -> Response:
    """The response to ``attempt``; raises where no token comes or none has proof."""
    # vLLM yields the first event once the first token is there, so the device has measured.
    try:
        first = await anext(events, None)
        if first is None:
            raise internal_error()
        attempt.streams()
        attempt.prove(finished=False)
    except BaseException:
        await events.aclose()
        raise
    return event_stream(_answered(attempt, first, events), attempt.header(attempt.measure()))


async def _answered(
    attempt: Attempt, first: str, events: AsyncGenerator[str, None]
) -> AsyncIterator[str]:
    """The events; where the answer fails, an error is the last of them and there is no end."""
    answer = StreamedAnswer(attempt.call.request.n or 1)
    said: list[Said] | None = None
    last = _LastChunk(first)
    sent = failed = False
    try:
        event: str | None = first
        while event is not None and event != DONE:
            with attempt.watch:
                answer.add(event)
                # The last chunk waits for the proof of the whole answer, and takes the report.
                held = last.push(event)
            if held is not None:
                yield held
            if not last.holds:
                yield event
            event = await anext(events, None)
        sent = True
        with attempt.watch:
            attempt.prove(finished=True)
            measured, said = attempt.measure(), answer.said()
        for event in last.close(attempt.report(measured)):
            yield event
        yield DONE
    except Exception as error:
        failed = True
        yield attempt.failed(error, sent=sent).event()
    finally:
        if said is not None and not failed:
            attempt.answered(measured, said, attempt.usage)
        elif not failed:
            attempt.aborted()
        await events.aclose()


class _LastChunk:
    """Holds back the chunk that ends an answer, so that the report can stand on it.

    Proxies drop chunks that OpenAI's API does not have, and keep the one with ``finish_reason`` or
    usage. Other chunks pass at once.
    """

    def __init__(self, opening: str) -> None:
        self._opening = opening
        self._held: str | None = None

    @property
    def holds(self) -> bool:
        """Whether the newest event is held back."""
        return self._held is not None

    def push(self, event: str) -> str | None:
        """Take ``event`` in; the one that was held back until now, which is not the last."""
        ready = self._held
        # vLLM writes compact JSON; inside texts every quote is escaped, so these marks are fields.
        ends = '"finish_reason":"' in event or '"choices":[]' in event
        self._held = event if ends else None
        return ready

    def close(self, steering: dict[str, Any] | None) -> list[str]:
        """The last events of an answer, ``steering`` on the very last of them."""
        if steering is None:
            return [] if self._held is None else [self._held]
        chunk = json.loads((self._held or self._opening).removeprefix("data: "))
        if self._held is None:
            named = ("id", "object", "created", "model")
            chunk = {name: chunk.get(name) for name in named} | {"choices": []}
        return [f"data: {json.dumps({**chunk, 'steering': steering})}\n\n"]
