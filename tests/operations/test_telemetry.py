"""What a running server tells a collector of traces, and the form of its log."""

from __future__ import annotations

import json

import pytest

from tests.operations.site import Site, steering
from tests.server.fixtures.live import CHAT
from tests.server.fixtures.states import eventually

pytestmark = pytest.mark.engine
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def test_a_trace_leads_from_the_caller_through_our_span_to_the_engines(site: Site) -> None:
    body = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    with site.callers.client() as client:
        told = steering(client.post(CHAT, json=body, headers=headers))
    spans = site.collector.spans

    def of_the_trace() -> dict[str, object]:
        return {span.name: span for span in spans if span.trace == TRACE}

    eventually(lambda: {"chat", "llm_request"} <= of_the_trace().keys())
    (ours,) = [span for span in spans if span.trace == TRACE and span.name == "chat"]
    (engine,) = [span for span in spans if span.trace == TRACE and span.name == "llm_request"]
    assert (ours.parent, engine.parent) == (PARENT, ours.span)
    assert ours.attributes["steering.policy"] == told["policy"]
    assert ours.attributes["steering.rows_verified"] == int(told["rows_verified"])
    assert ours.attributes["gen_ai.usage.output_tokens"] == 4


def test_every_line_of_the_log_is_an_object_of_one_form(site: Site) -> None:
    lines = site.callers.log.splitlines()
    # The announcement is for people and is printed, not logged.
    objects = [json.loads(line) for line in lines if line.startswith("{")]
    assert {"vllm", "refusal_server"} <= {each["logger"].partition(".")[0] for each in objects}
    assert len({each["process"] for each in objects}) > 1
    for each in objects:
        assert set(each) >= {"level", "time", "logger", "message", "process"}
    assert not [line for line in lines if line.startswith(("INFO", "(EngineCore", "(APIServer"))]
