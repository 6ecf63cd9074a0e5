"""Traces as a collector receives them: one span for each chat request, the steering in it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from prometheus_client.openmetrics.exposition import generate_latest
from starlette.requests import Request

from refusal_steering.errors import SteeringUnavailableError
from tests.server.fixtures.otlp import Collector, Received, collecting
from tests.server.fixtures.scripted import Rig, Script

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
HEADERS = [(b"traceparent", f"00-{TRACE}-{PARENT}-01".encode()), (b"x-request-id", b"r1")]


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as found:
        yield found


@pytest.fixture
def rig(tmp_path: Path, collector: Collector) -> Iterator[Rig]:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint=collector.url)))
    yield Rig(tmp_path, Script(risk_logit=2.0), tracer=provider.get_tracer("refusal_server"))
    provider.shutdown()


def only(collector: Collector) -> Received:
    (span,) = collector.named("chat")
    return span


def test_a_span_tells_the_steering(rig: Rig, collector: Collector) -> None:
    rig.ask("static")
    span = only(collector)
    assert (span.parent, span.failed) == ("", False)
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "m",
        "gen_ai.usage.input_tokens": 5,
        "gen_ai.usage.output_tokens": 3,
        "steering.policy": "static",
        "steering.mode": "enforce",
        "steering.rows_verified": 1,
        "steering.coefficient": 2.0,
        "steering.dose": 0.05,
    }
    assert expected.items() <= span.attributes.items()
    assert span.attributes["steering.risk"] == pytest.approx(0.8808, abs=1e-4)


def test_nothing_that_was_said_is_in_a_span(rig: Rig, collector: Collector) -> None:
    rig.script.says["answer"] = "a very secret answer"
    rig.ask("static", messages=[{"role": "user", "content": "a very secret question"}])
    assert "secret" not in str(only(collector))


def test_an_unsteered_request_has_a_span_without_figures(rig: Rig, collector: Collector) -> None:
    rig.ask("off")
    attributes = only(collector).attributes
    assert attributes["steering.mode"] == "off"
    assert not {"steering.risk", "steering.coefficient"} & attributes.keys()


def test_a_stream_is_one_span_that_ends_with_it(rig: Rig, collector: Collector) -> None:
    rig.stream("static")
    assert only(collector).attributes["gen_ai.usage.output_tokens"] == 3


def test_a_request_without_proof_is_an_error(rig: Rig, collector: Collector) -> None:
    rig.script.says["answer"] = SteeringUnavailableError("no")
    with pytest.raises(Exception, match="no"):
        rig.ask("static")
    span = only(collector)
    assert span.failed
    assert span.attributes["error.type"] == "steering_unavailable"


def test_the_callers_trace_goes_on_and_the_engines_lies_below(
    rig: Rig, collector: Collector
) -> None:
    asyncio.run(ask(rig))
    span = only(collector)
    assert (span.trace, span.parent) == (TRACE, PARENT)
    (answer,) = rig.script.of("answer")
    assert answer.raw is not None
    assert answer.raw.headers["traceparent"] == f"00-{TRACE}-{span.span}-01"
    assert answer.raw.headers["x-request-id"] == "r1"
    text = generate_latest(rig.registry).decode()  # type: ignore[no-untyped-call]
    assert f'# {{request_id="r1",trace_id="{TRACE}"}}' in text


def test_without_a_recorder_the_callers_headers_pass_as_they_are(tmp_path: Path) -> None:
    rig = Rig(tmp_path, Script())
    asyncio.run(ask(rig))
    (answer,) = rig.script.of("answer")
    assert answer.raw is not None
    assert answer.raw.headers["traceparent"] == HEADERS[0][1].decode()


async def ask(rig: Rig) -> None:
    """A request of a caller that records traces."""
    body = {"messages": [{"role": "user", "content": "How?"}]}
    call = await rig.intake.admit(body, rig.policies, request_id="r1")
    await rig.service.respond(call, Request({"type": "http", "headers": HEADERS}))
