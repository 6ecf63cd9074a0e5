"""The service over a stand-in for vLLM's serving object: nothing passes it unproven."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry
from starlette.requests import Request
from vllm.entrypoints.openai.chat_completion.protocol import (
    ChatCompletionRequest,
    ChatCompletionResponse,
)
from vllm.exceptions import GenerationError, QueueOverflowError, VLLMValidationError
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

from refusal_server.chat.request import ChatCall
from refusal_server.chat.service import ChatService
from refusal_server.chat.steering_field import choose, parse_ask
from refusal_server.errors import ApiError
from refusal_server.policy.policy_loader import load_policy_set
from refusal_server.settings import Passes
from refusal_server.telemetry.metrics import Metrics
from refusal_steering.errors import SteeringUnavailableError
from refusal_steering.trace import Reading
from refusal_steering.vllm_plugin.gateway import current_context
from tests.server.fixtures.bundles import write_bundle

CHUNK = 'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":[]}\n\n'
WORD = 'data: {"choices":[{"delta":{"content":"hello"}}]}\n\n'
DONE = "data: [DONE]\n\n"


class Serving:
    """Measures ``readings`` rows before the first token, then yields or raises as told."""

    def __init__(self, stream: bool, outcome: list[Any], readings: int = 1) -> None:
        self.stream, self.outcome, self.readings = stream, outcome, readings
        self.closed = False

    async def create_chat_completion(self, request: ChatCompletionRequest, raw: Request) -> Any:
        assert {name for name, _ in raw.scope["headers"]} <= {b"x-request-id"}
        context = current_context()
        assert context is not None
        if context.directive is not None:
            context.expect(request.n or 1)
            for row in range(self.readings):
                context.observe(0, Reading(row, (2.0,), 0.0, row + 1), 1)
        if self.stream:
            return self._events()
        return self._next(self.outcome[0])

    async def _events(self) -> AsyncIterator[str]:
        try:
            for item in self.outcome:
                try:
                    yield self._next(item)
                except Exception as error:
                    yield self.create_streaming_error_response(error)
        finally:
            self.closed = True

    def _next(self, item: Any) -> Any:
        if isinstance(item, Exception):
            raise item
        return item

    def create_streaming_error_response(self, *_: Any) -> str:
        raise AssertionError("errors in streams must not turn into vLLM's own events")

    def _convert_generation_error_to_streaming_response(self, *_: Any) -> str:
        raise AssertionError


class Rig:
    def __init__(self, folder: Path) -> None:
        write_bundle(folder / "b", hidden=8)
        rules = {
            "main": {"mode": "enforce", "bundle": "b"},
            "off": {"mode": "off", "selectable": True},
        }
        path = folder / "policy.yaml"
        path.write_text(yaml.safe_dump({"default": "main", "policies": rules}))
        self.policies = load_policy_set(path)
        self.registry = CollectorRegistry()
        self.metrics = Metrics("m", self.registry)

    def call(self, **ask: Any) -> ChatCall:
        messages: list[dict[str, Any]] = [{"role": "user", "content": "x"}]
        request = ChatCompletionRequest(messages=messages)
        return ChatCall(request, choose(parse_ask(ask), self.policies), "text", messages)

    def respond(self, serving: Serving, **ask: Any) -> tuple[Any, list[str]]:
        headers = [(b"x-request-id", b"1"), (b"x-data-parallel-rank", b"7")]
        scope = {"type": "http", "headers": headers}

        async def run() -> tuple[Any, list[str]]:
            service = ChatService(serving, self.metrics, 10, Passes())
            response = await service.respond(self.call(**ask), Request(scope))
            if hasattr(response, "body_iterator"):
                return response, [event async for event in response.body_iterator]
            return response, []

        return asyncio.run(run())

    def refused(self, serving: Serving, **ask: Any) -> ApiError:
        with pytest.raises(ApiError) as caught:
            self.respond(serving, **ask)
        return caught.value

    def count(self, name: str, **labels: str) -> float:
        return sum(
            sample.value
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def answer() -> ChatCompletionResponse:
    message = {"role": "assistant", "content": "hello"}
    choices = [{"index": 0, "message": message}]
    return ChatCompletionResponse.model_validate({"model": "m", "choices": choices, "usage": {}})


ERRORS = [
    (SteeringUnavailableError("no proof"), 503, "steering_unavailable"),
    (QueueOverflowError(), 503, "server_overloaded"),
    (EngineDeadError(), 503, "engine_dead"),
    (EngineGenerateError(), 500, "internal_error"),
    (GenerationError(), 500, "internal_error"),
    (VLLMValidationError("no", parameter="top_p", value="secret"), 400, "invalid_request"),
    (ValueError("This model's maximum context length is 5"), 400, "context_length_exceeded"),
    (NotImplementedError("not this"), 400, "invalid_request"),
    (RuntimeError("secret"), 500, "internal_error"),
    (KeyError("secret"), 500, "internal_error"),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("error", "status", "code"), ERRORS)
def test_an_error_before_the_first_token_is_an_error_answer(
    rig: Rig, stream: bool, error: Exception, status: int, code: str
) -> None:
    serving = Serving(stream, [error])
    refused = rig.refused(serving)
    assert (refused.status, refused.code) == (status, code)
    assert "secret" not in refused.message
    assert serving.closed == stream
    assert rig.count("steering_requests_total", outcome="error") == 1


@pytest.mark.parametrize(("error", "code"), [(error, code) for error, _, code in ERRORS])
def test_an_error_in_a_stream_is_its_last_event(rig: Rig, error: Exception, code: str) -> None:
    response, events = rig.respond(Serving(True, [CHUNK, WORD, error, WORD, DONE]))
    assert response.status_code == 200
    assert events[:-1] == [CHUNK, WORD]
    last = json.loads(events[-1].removeprefix("data: "))
    assert last["error"]["code"] == code
    assert rig.count("steering_requests_total") == 1
    assert rig.count("steering_requests_total", outcome="error") == 1


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_without_a_measurement_is_withheld(rig: Rig, stream: bool) -> None:
    outcome = [CHUNK, WORD, DONE] if stream else [answer()]
    serving = Serving(stream, outcome, readings=0)
    refused = rig.refused(serving, report=True)
    assert (refused.status, refused.code) == (503, "steering_unavailable")
    assert serving.closed == stream
    assert rig.count("steering_failures_total") == 1
    assert rig.count("steering_fail_open_total") == 0


def test_a_proof_that_fails_at_the_very_end_is_counted_and_said(rig: Rig) -> None:
    serving = Serving(True, [CHUNK, WORD, DONE])
    call = rig.call()
    call.request.n = 2

    async def run() -> list[str]:
        service = ChatService(serving, rig.metrics, 10, Passes())
        response: Any = await service.respond(call, Request({"type": "http", "headers": []}))
        return [event async for event in response.body_iterator]

    events = asyncio.run(run())
    assert "steering_unavailable" in events[-1]
    assert DONE not in events
    assert rig.count("steering_fail_open_total") == 1


def test_a_stream_with_report(rig: Rig) -> None:
    response, events = rig.respond(Serving(True, [CHUNK, WORD, DONE], readings=3), report=True)
    assert "mode=enforce;coefficient=2;risk=0.5;rows_verified=3" in response.headers["x-steering"]
    assert events[:2] == [CHUNK, WORD]
    assert json.loads(events[2].removeprefix("data: "))["steering"]["rows_verified"] == 3
    assert events[3:] == [DONE]
    assert rig.count("steering_rows_verified_total") == 3
    assert rig.count("steering_requests_total", outcome="answer") == 1


def test_the_report_of_an_unsteered_answer_says_that_nothing_steers(rig: Rig) -> None:
    response, _ = rig.respond(Serving(False, [answer()]), policy="off", report=True)
    assert "mode=off" in response.headers["x-steering"]
    steering = json.loads(response.body)["steering"]
    assert (steering["mode"], steering["bundle"], steering["tokens"]) == ("off", None, [])
    assert (steering["coefficient"], steering["rows_verified"]) == (0.0, 0)
    response, _ = rig.respond(Serving(False, [answer()]), policy="off")
    assert "steering" not in json.loads(response.body)


FINISH = 'data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = 'data: {"id":"c","choices":[],"usage":{"total_tokens":3}}\n\n'


@pytest.mark.parametrize("last", [[FINISH], [FINISH, USAGE], [FINISH, FINISH, USAGE]])
def test_the_report_stands_on_the_chunk_that_ends_the_answer(rig: Rig, last: list[str]) -> None:
    chunks = [CHUNK, WORD, *last]
    _, plain = rig.respond(Serving(True, [*chunks, DONE], readings=3))
    assert plain == [*chunks, DONE]
    _, events = rig.respond(Serving(True, [*chunks, DONE], readings=3), report=True)
    assert events[:-2] == chunks[:-1] and events[-1] == DONE
    ended = json.loads(events[-2].removeprefix("data: "))
    assert ended.pop("steering")["rows_verified"] == 3
    assert ended == json.loads(chunks[-1].removeprefix("data: "))


def test_a_stream_that_says_nothing_is_empty_and_one_that_is_left_is_aborted(rig: Rig) -> None:
    rig.respond(Serving(True, [CHUNK, 'data: {"content":""}\n\n', DONE]))
    assert rig.count("steering_requests_total", outcome="empty") == 1
    serving = Serving(True, [CHUNK, WORD, DONE])

    async def leave() -> None:
        service = ChatService(serving, rig.metrics, 10, Passes())
        scope = {"type": "http", "headers": []}
        response: Any = await service.respond(rig.call(), Request(scope))
        await anext(response.body_iterator)
        await response.body_iterator.aclose()

    asyncio.run(leave())
    assert serving.closed
    assert rig.count("steering_requests_total", outcome="aborted") == 1
