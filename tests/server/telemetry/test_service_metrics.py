"""What is counted of HTTP, denials and tenants, and how a scraper gets it."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from refusal_server.telemetry.exposition import Exposition
from refusal_server.telemetry.metrics import Metrics
from refusal_server.telemetry.service_metrics import TENANTS
from tests.server.fixtures.client_site import ClientSite
from tests.server.fixtures.console_rig import ConsoleRig, Operator
from tests.server.fixtures.keyed import Server
from tests.server.fixtures.scripted import Rig, Script

OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"


def http(registry: CollectorRegistry) -> dict[tuple[str, ...], float]:
    """HTTP requests by route, method and status."""
    return {
        (sample.labels["route"], sample.labels["method"], sample.labels["status"]): sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "steering_http_requests_total"
    }


def test_http_requests_are_counted_by_route_method_and_status(tmp_path: Path) -> None:
    site = ClientSite(tmp_path)
    assert site.chat().status_code == 200
    assert site.send(b"{").status_code == 400
    assert site.http.get("/health").status_code == 200
    assert site.http.request("BREW", "/v1/models").status_code == 405
    for path in ("/a", "/b", "/v1/chat/completions/x", "/%2e"):
        assert site.http.get(path).status_code == 404
    assert http(site.registry) == {
        ("/v1/chat/completions", "POST", "200"): 1,
        ("/v1/chat/completions", "POST", "400"): 1,
        ("/health", "GET", "200"): 1,
        ("/v1/models", "other", "405"): 1,
        ("other", "GET", "404"): 4,
    }


def test_the_console_is_counted_by_its_routes_too(rig: ConsoleRig) -> None:
    operator = Operator(rig)
    operator.get("live")
    assert operator.client.get("/console/static/dom.js").status_code == 200
    assert operator.client.get("/console/static/none.js").status_code in (401, 404)
    found = http(rig.chats.registry)
    assert found["/console/data/live", "GET", "200"] == 1
    assert found["/console/login", "POST", "303"] == 1
    assert {route for route, _, _ in found} <= {
        "/console",
        "/console/login",
        "/console/data/live",
        "/console/static/{name}",
    }


@pytest.fixture
def rig(tmp_path: Path) -> ConsoleRig:
    return ConsoleRig(tmp_path)


def test_denials_are_told_apart_by_reason_and_tenant(tmp_path: Path) -> None:
    server = Server(
        tmp_path,
        keys={"busy": {"requests_per_minute": 1, "tenant": "acme"}, "narrow": {"models": ["n"]}},
    )
    assert server.ask("busy").status_code == 200
    assert server.ask("busy").status_code == 429
    assert server.ask("narrow", "off", model="n").status_code == 403
    assert server.ask("narrow", model="m").status_code == 403
    assert server.denials == {("budget", "acme"): 1, ("policy", "none"): 1, ("model", "none"): 1}


def test_tenants_are_counted_and_stay_few() -> None:
    registry = CollectorRegistry()
    metrics = Metrics("m", registry)
    for number in range(3 * TENANTS):
        metrics.count_tenant(f"t{number}", "answer", 5, 3)
    metrics.count_tenant(None, "refusal", 2, 1)
    metrics.count_denied("policy", "a late one")

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, {"model_name": "m", **labels})

    assert value("steering_tenant_requests_total", tenant="t0", outcome="answer") == 1
    later = {"tenant": "other", "outcome": "answer"}
    assert value("steering_tenant_requests_total", **later) == 2 * TENANTS
    assert value("steering_tenant_tokens_total", tenant="other", kind="prompt") == 10 * TENANTS
    assert value("steering_tenant_tokens_total", tenant="none", kind="completion") == 1
    assert value("steering_denied_total", reason="policy", tenant="other") == 1


def test_dose_and_latency_are_told_by_policy_and_arm(tmp_path: Path) -> None:
    rig = Rig(tmp_path, Script(risk_logit=0.2))
    rig.ask("static")
    rig.stream("static")
    rig.ask("off")
    assert rig.count("steering_request_seconds_count", policy="static", arm="none") == 2
    assert rig.count("steering_first_token_seconds_count", policy="static", mode="enforce") == 1
    assert rig.count("steering_request_seconds_count", policy="off", mode="off") == 1
    assert rig.count("steering_dose_sum", policy="static") == pytest.approx(0.1)
    assert rig.count("steering_dose_count", policy="off") == 0


def test_risks_near_a_threshold_fall_into_buckets_of_their_own(tmp_path: Path) -> None:
    """Half a logit is a bucket, as near 0.02 or 0.98 as near 0.5."""
    rig = Rig(tmp_path, Script())

    def buckets(logit: float) -> int:
        rig.script.risk_logit = logit
        before = rig.count("steering_risk_bucket")
        rig.ask("static")
        return int(rig.count("steering_risk_bucket") - before)

    found = [buckets(logit) for logit in (-4.1, -3.9, -1.1, -0.9, 0.1, 0.6, 1.1, 3.9, 4.1)]
    assert found == sorted(found, reverse=True)
    assert len(set(found)) == len(found)


def scraped(client: Any, **headers: str) -> Any:
    answer = client.get("/metrics", headers=headers)
    assert answer.status_code == 200
    return answer


def test_openmetrics_has_exemplars_that_name_the_request(tmp_path: Path) -> None:
    site = ClientSite(tmp_path)
    sent = {"x-request-id": "seen-before", "content-type": "application/json"}
    body = {"messages": [{"role": "user", "content": "Hello."}]}
    assert site.http.post("/v1/chat/completions", json=body, headers=sent).status_code == 200
    answer = scraped(site.http, accept=OPENMETRICS)
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    examples = {
        family.name: sample.exemplar.labels
        for family in text_string_to_metric_families(answer.text)  # type: ignore[no-untyped-call]
        for sample in family.samples
        if sample.exemplar
    }
    assert examples["steering_request_seconds"] == {"request_id": "seen-before"}
    assert "steering_risk" in examples
    plain = scraped(site.http, accept="text/plain")
    assert plain.headers["content-type"].startswith("text/plain")
    assert "seen-before" not in plain.text
    names = re.findall(r"^(steering_\w+)\{", plain.text, re.MULTILINE)
    assert set(names) == set(re.findall(r"^(steering_\w+)\{", answer.text, re.MULTILINE))


def test_names_of_vllm_are_the_same_in_every_format() -> None:
    registry = CollectorRegistry()
    Gauge("vllm:num_requests_waiting", "x", registry=registry).set(3)
    exposition = Exposition(lambda: registry)
    prometheus = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
    for accept in ("", "text/plain", prometheus):
        assert b"\nvllm:num_requests_waiting 3.0\n" in exposition.answer(accept).body


def test_a_scraper_that_takes_gzip_gets_it(tmp_path: Path) -> None:
    site = ClientSite(tmp_path)
    plain = scraped(site.http, **{"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    with site.http.stream("GET", "/metrics", headers={"accept-encoding": "gzip"}) as answer:
        raw = b"".join(answer.iter_raw())
    assert answer.headers["content-encoding"] == "gzip"
    assert len(raw) < len(plain.content) / 3
    series = {line.partition(b" ")[0] for line in plain.content.splitlines()}
    assert {line.partition(b" ")[0] for line in gzip.decompress(raw).splitlines()} >= series
