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
    sent = failed = False
    try:
        async for event in _chain(first, events):
            if event == DONE:
                break
            with attempt.watch:
                answer.add(event)
            yield event
        sent = True
        with attempt.watch:
            attempt.prove(finished=True)
            measured, said = attempt.measure(), answer.said()
        steering = attempt.report(measured)
        if steering is not None:
            yield _report_event(first, steering)
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


async def _chain(first: str, events: AsyncIterator[str]) -> AsyncIterator[str]:
    yield first
    async for event in events:
        yield event


def _report_event(first: str, steering: dict[str, Any]) -> str:
    opening = json.loads(first.removeprefix("data: "))
    chunk = {name: opening.get(name) for name in ("id", "object", "created", "model")}
    return f"data: {json.dumps({**chunk, 'choices': [], 'steering': steering})}\n\n"
