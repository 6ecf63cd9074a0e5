"""Answers admitted chat calls through vLLM, and lets no unproven answer pass."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionResponse
from vllm.entrypoints.openai.chat_completion.serving import OpenAIServingChat
from vllm.entrypoints.serve.engine.protocol import ErrorResponse

from refusal_server.chat import report
from refusal_server.chat.internal_chat import InternalChat, InternalReply, stay_cancelled
from refusal_server.chat.observer import Ending, Observer, Usage
from refusal_server.chat.refusal_answer import RefusalAnswer
from refusal_server.chat.refusal_guard import RefusalGuard
from refusal_server.chat.request import ChatCall
from refusal_server.chat.risk.risk_pass import RiskJudge
from refusal_server.chat.risk.visual_context import VisualContexts
from refusal_server.chat.vllm_errors import from_response, translate
from refusal_server.detection.answer_text import Said, StreamedAnswer, said_by
from refusal_server.errors import ApiError, internal_error
from refusal_server.settings import Passes
from refusal_server.telemetry.metrics import Metrics, Outcome
from refusal_server.telemetry.stopwatch import Stopwatch
from refusal_steering.errors import SteeringUnavailableError
from refusal_steering.trace import Trace
from refusal_steering.vllm_plugin.gateway import SteeringContext, steering_context

logger = logging.getLogger(__name__)

_STREAM_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}
_DONE = "data: [DONE]\n\n"
# Other headers that vLLM reads would let a caller pick a rank, a priority or a session.
_PASSED_HEADERS = (b"x-request-id", b"traceparent", b"tracestate")


@dataclass(slots=True)
class _Attempt:
    """One call on its way to an answer, and what is known of it so far."""

    call: ChatCall
    watch: Stopwatch
    passed: Request
    prompt_sha256: str | None = None
    context: SteeringContext | None = None

    @property
    def traces(self) -> Sequence[Trace]:
        return self.context.traces if self.context else ()

    @property
    def usage(self) -> Usage | None:
        """What vLLM leaves with the request once its stream has ended."""
        metadata = getattr(self.passed.state, "request_metadata", None)
        found = getattr(metadata, "final_usage_info", None)
        return None if found is None else Usage(found.prompt_tokens, found.completion_tokens or 0)

    def ending(self, outcome: Outcome, **more: Any) -> Ending:
        """How it has ended; ``more`` are fields of :class:`Ending`."""
        fields = {"traces": self.traces, "usage": self.usage, **more}
        overhead = self.watch.seconds
        return Ending(
            self.call, outcome, overhead=overhead, prompt_sha256=self.prompt_sha256, **fields
        )


class ChatService:
    """One serving object of vLLM's, its errors made to raise.

    ``thinks`` says that the server's model may think before it answers, unasked.
    """

    def __init__(
        self,
        serving: OpenAIServingChat,
        metrics: Metrics,
        report_tokens: int,
        passes: Passes,
        *,
        thinks: bool = False,
        observer: Observer | None = None,
    ) -> None:
        _raise_stream_errors(serving)
        internal = InternalChat(serving)
        contexts = VisualContexts(internal, passes.visual_contexts)
        self._judge = RiskJudge(internal, contexts, metrics)
        self._guard = RefusalGuard(internal, passes.draft_tokens, thinks)
        self._refusal = passes.refusal
        self._serving = serving
        self._metrics = metrics
        self._report_tokens = report_tokens
        self._observer = observer or Observer(metrics)

    async def respond(self, call: ChatCall, raw: Request) -> Response:
        """Answer one call; raises :class:`ApiError` before anything was sent."""
        attempt = _Attempt(call, Stopwatch(call.admission), _passed_on(raw))
        try:
            with attempt.watch:
                attempt.prompt_sha256 = await self._observer.digest(call)
            return await self._answer(attempt, raw)
        except asyncio.CancelledError:
            self._observer.ended(attempt.ending("aborted"))
            raise
        except Exception as error:
            raise self._failed(attempt, error) from error

    async def _answer(self, attempt: _Attempt, raw: Request) -> Response:
        call = attempt.call = await self._judge.assess(attempt.call)
        draft = await self._guard.refusal(call)
        if draft is not None:
            return self._refused(attempt, draft, raw)
        with steering_context(call.choice.directive) as context:
            attempt.context = context
            result = await self._serving.create_chat_completion(call.request, attempt.passed)
        if isinstance(result, ErrorResponse):
            stay_cancelled()
            raise from_response(result)
        if isinstance(result, ChatCompletionResponse):
            return self._complete(attempt, result, context)
        return await self._open_stream(attempt, result, context)

    def _refused(self, attempt: _Attempt, draft: InternalReply, raw: Request) -> Response:
        """The guard's refusal, under the steering that its draft has earned."""
        call = attempt.call
        asked = raw.headers.get("x-request-id") or call.request.request_id
        answer = RefusalAnswer(call, draft, self._refusal, f"chatcmpl-{asked}")
        steering = self._report(call, draft.traces) if call.choice.report else None
        usage = _spent(draft.response)
        self._observer.ended(attempt.ending("refusal", traces=draft.traces, usage=usage))
        headers = _headers(call, draft.traces)
        if call.request.stream:
            return StreamingResponse(
                answer.events(steering),
                media_type="text/event-stream",
                headers=headers | _STREAM_HEADERS,
            )
        content = answer.content()
        if steering is not None:
            content["steering"] = steering
        return JSONResponse(content, headers=headers)

    def _complete(
        self, attempt: _Attempt, result: ChatCompletionResponse, context: SteeringContext
    ) -> Response:
        call = attempt.call
        with attempt.watch:
            _require_proof(call, context, finished=True)
            content = result.model_dump()
            if call.choice.report and call.choice.steers:
                content["steering"] = self._report(call, context.traces)
            response = JSONResponse(content, headers=_headers(call, context.traces))
            said = [said_by(choice.message) for choice in result.choices]
            outcome = self._observer.outcome(said)
        usage = _spent(result)
        self._observer.ended(attempt.ending(outcome, said=said, usage=usage))
        return response

    async def _open_stream(
        self, attempt: _Attempt, stream: AsyncGenerator[str, None], context: SteeringContext
    ) -> Response:
        call = attempt.call
        # vLLM yields the first chunk once the first token is there, so the device has measured.
        try:
            first = await anext(stream, None)
            if first is None:
                raise internal_error()
            _require_proof(call, context, finished=False)
        except BaseException:
            await stream.aclose()
            raise
        return StreamingResponse(
            self._events(attempt, first, stream, context),
            media_type="text/event-stream",
            headers=_headers(call, context.traces) | _STREAM_HEADERS,
        )

    async def _events(
        self,
        attempt: _Attempt,
        first: str,
        stream: AsyncGenerator[str, None],
        context: SteeringContext,
    ) -> AsyncIterator[str]:
        call = attempt.call
        outcome: Outcome = "aborted"
        answer = StreamedAnswer(call.request.n or 1)
        said: list[Said] = []
        try:
            async for event in _chain(first, stream):
                if event == _DONE:
                    break
                with attempt.watch:
                    answer.add(event)
                yield event
            with attempt.watch:
                self._audit(call, context)
                said = answer.said()
                outcome = self._observer.outcome(said)
            if call.choice.report and call.choice.steers:
                yield _report_event(first, self._report(call, context.traces))
            yield _DONE
        except Exception as error:
            outcome = "error"
            yield self._failed(attempt, error).event()
        finally:
            if outcome != "error":
                self._observer.ended(attempt.ending(outcome, said=said))
            await stream.aclose()

    def _audit(self, call: ChatCall, context: SteeringContext) -> None:
        """The last look at a stream whose tokens have been sent."""
        try:
            _require_proof(call, context, finished=True)
        except SteeringUnavailableError:
            self._metrics.count_fail_open()
            raise

    def _failed(self, attempt: _Attempt, error: Exception) -> ApiError:
        if isinstance(error, SteeringUnavailableError):
            self._metrics.count_failure(attempt.call.labels)
            logger.error("steering has failed for a request: %s", error)
        known = translate(error)
        if known is None:
            logger.error("unexpected error while answering", exc_info=error)
        known = known or internal_error()
        self._observer.ended(attempt.ending("error", error=known.code))
        return known

    def _report(self, call: ChatCall, traces: Sequence[Trace]) -> dict[str, Any]:
        return report.body(call.choice, traces, self._report_tokens)


def _raise_stream_errors(serving: OpenAIServingChat) -> None:
    """vLLM writes an exception inside a stream as one more event; let it raise instead."""

    def raise_it(error: Any, *_: Any, **__: Any) -> str:
        raise error if isinstance(error, BaseException) else internal_error()

    serving.create_streaming_error_response = raise_it
    serving._convert_generation_error_to_streaming_response = raise_it


def _require_proof(call: ChatCall, context: SteeringContext, finished: bool) -> None:
    """The gateway withholds unproven tokens; this catches answers that did not pass it."""
    if not call.choice.steers:
        return
    if context.error is not None:
        raise context.error
    expected = call.request.n or 1
    measured = [trace for trace in context.traces if trace.readings]
    if not measured or (finished and len(measured) != expected):
        raise SteeringUnavailableError(
            f"{len(measured)} of {expected} choices were steered with proof; the answer is withheld"
        )


def _spent(answer: ChatCompletionResponse) -> Usage:
    return Usage(answer.usage.prompt_tokens, answer.usage.completion_tokens or 0)


def _passed_on(raw: Request) -> Request:
    headers = [pair for pair in raw.scope["headers"] if pair[0] in _PASSED_HEADERS]
    return Request({**raw.scope, "headers": headers}, raw.receive)


def _headers(call: ChatCall, traces: Sequence[Trace]) -> dict[str, str]:
    return {report.HEADER: report.header(call.choice, traces)}


async def _chain(first: str, stream: AsyncIterator[str]) -> AsyncIterator[str]:
    yield first
    async for event in stream:
        yield event


def _report_event(first: str, steering: dict[str, Any]) -> str:
    opening = json.loads(first.removeprefix("data: "))
    chunk = {name: opening.get(name) for name in ("id", "object", "created", "model")}
    return f"data: {json.dumps({**chunk, 'choices': [], 'steering': steering})}\n\n"
