"""Takes admitted chat calls to the engine, and their answers to whoever shapes them."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from opentelemetry.trace import Span, Tracer, get_tracer
from starlette.requests import Request
from starlette.responses import Response
from vllm.entrypoints.openai.chat_completion.protocol import (
    ChatCompletionRequest,
    ChatCompletionResponse,
)
from vllm.entrypoints.openai.chat_completion.serving import OpenAIServingChat
from vllm.entrypoints.serve.engine.protocol import ErrorResponse

from refusal_server.chat.answer import answer, refuse
from refusal_server.chat.attempt import Attempt
from refusal_server.chat.guard.refusal_guard import RefusalGuard
from refusal_server.chat.internal import InternalChat, stay_cancelled
from refusal_server.chat.request import ChatCall
from refusal_server.chat.risk.assessment import ForwardRisk
from refusal_server.chat.risk.contexts import VisualContexts
from refusal_server.chat.risk.judge import RiskJudge
from refusal_server.chat.stream import open_stream
from refusal_server.chat.vllm_errors import from_response
from refusal_server.errors import internal_error
from refusal_server.settings import Passes
from refusal_server.telemetry.metrics import Metrics
from refusal_server.telemetry.observer import Observer
from refusal_server.telemetry.traces import trace_span
from refusal_steering.directive import Directive
from refusal_steering.errors import UndecidedRiskError
from refusal_steering.gate.token_texts import Tokenizer, TokenTexts
from refusal_steering.vllm_plugin.gateway import steering_context

# Other headers that vLLM reads would let a caller pick a rank, a priority or a session.
_PASSED_HEADERS = (b"x-request-id", b"traceparent", b"tracestate")


class ChatService:
    """One serving object of vLLM's, its errors made to raise.

    ``thinks`` says that the server's model may think before it answers, unasked. ``tokenizer`` is
    the model's; without one a report tells no texts of the prompt. ``tracer`` makes the requests'
    spans; without one, that of whoever records traces in this process.
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
        tokenizer: Tokenizer | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        _raise_stream_errors(serving)
        internal = InternalChat(serving)
        contexts = VisualContexts(internal, passes.visual_contexts)
        self._judge = RiskJudge(internal, contexts, metrics)
        self._guard = RefusalGuard(internal, passes, thinks)
        self._refusal = passes.refusal
        self._serving = serving
        self._report_tokens = report_tokens
        self._observer = observer or Observer(metrics)
        self._texts = TokenTexts(tokenizer)
        self._tracer = tracer or get_tracer("refusal_server")

    async def respond(self, call: ChatCall, raw: Request) -> Response:
        """Answer one call; raises :class:`ApiError` before anything was sent."""
        span = trace_span.begin(self._tracer, raw.scope["headers"])
        passed = _passed_on(raw, span)
        attempt = Attempt(call, passed, self._observer, self._report_tokens, self._texts, span)
        try:
            with attempt.watch:
                attempt.prompt_sha256 = await self._observer.digest(attempt.admitted)
            return await self._answer(attempt)
        except asyncio.CancelledError:
            attempt.aborted()
            raise
        except Exception as error:
            raise attempt.failed(error) from error

    async def _answer(self, attempt: Attempt) -> Response:
        if not attempt.call.choice.awaits_risk:
            return await self._answer_known(attempt)
        read, opening = None, self._opening(attempt.call)
        if opening is not None:
            started = time.perf_counter()
            try:
                # vLLM may change the fields of a request that it serves; the copy leaves ours.
                return await self._begin(attempt, attempt.call.request.model_copy(), opening)
            except UndecidedRiskError:
                stay_cancelled()
                read = ForwardRisk(attempt.begin_anew(), time.perf_counter() - started)
        attempt.call = await self._judge.assess(attempt.call, read)
        return await self._answer_known(attempt, again=read is not None)

    def _opening(self, call: ChatCall) -> Directive | None:
        """What ``call`` is answered under at once; ``None`` where its risk must be known first.

        A draft is steered by the risk, too. All choices of a request get one share, and so one
        reading.
        """
        if (call.request.n or 1) > 1 or self._guard.drafts(call):
            return None
        return call.choice.opening

    async def _answer_known(self, attempt: Attempt, *, again: bool = False) -> Response:
        """Answer a call that waits for nothing; ``again`` after an answer that was dropped."""
        call = attempt.call
        directive = attempt.directive = call.choice.directive
        draft = await self._guard.refusal(call, directive)
        if draft is not None:
            return refuse(attempt, draft, self._refusal)
        return await self._begin(attempt, call.unread() if again else call.request, directive)

    async def _begin(
        self, attempt: Attempt, request: ChatCompletionRequest, directive: Directive | None
    ) -> Response:
        attempt.directive = directive
        with steering_context(directive) as attempt.context:
            result = await self._serving.create_chat_completion(request, attempt.passed)
        if isinstance(result, ErrorResponse):
            stay_cancelled()
            raise from_response(result)
        if isinstance(result, ChatCompletionResponse):
            return answer(attempt, result)
        return await open_stream(attempt, result)


def _raise_stream_errors(serving: OpenAIServingChat) -> None:
    """vLLM writes an exception inside a stream as one more event; let it raise instead."""

    def raise_it(error: Any, *_: Any, **__: Any) -> str:
        raise error if isinstance(error, BaseException) else internal_error()

    logging.getLogger(OpenAIServingChat.__module__).addFilter(_is_an_error)
    serving.create_streaming_error_response = raise_it
    serving._convert_generation_error_to_streaming_response = raise_it  # noqa: SLF001


def _is_an_error(record: logging.LogRecord) -> bool:
    """Whether vLLM writes of a failure; an open share is the usual way to the risk pass."""
    return not (record.exc_info and isinstance(record.exc_info[1], UndecidedRiskError))


def _passed_on(raw: Request, span: Span) -> Request:
    headers = [pair for pair in raw.scope["headers"] if pair[0] in _PASSED_HEADERS]
    return Request({**raw.scope, "headers": trace_span.below(span, headers)}, raw.receive)
