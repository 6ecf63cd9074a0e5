"""A real Prometheus scrapes the running server: rules, alerts and dashboard find what they name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.deploy.promtool import ROOT
from tests.operations.prometheus import Prometheus, drawable, names_in, watching
from tests.operations.site import FIRST, POLICY, RELOADED, Site, policy
from tests.server.fixtures.media import image_part, message
from tests.server.fixtures.states import eventually

# Whatever the default policy is: this one has a probe.
SCORED = {"input": "hello", "steering": {"policy": "shadow"}}
pytestmark = pytest.mark.engine
DASHBOARD = ROOT / "deploy" / "grafana" / "dashboards" / "refusal-steering.json"
# Series that only exist once something has happened that did not happen here.
ABSENT = {
    "steering_failures_total": "no request lacked its proof",
    "model:steering_failures:increase10m": "the same",
    "steering_detector_dropped_total": "no detector's queue was full",
    "steering_detector_errors_total": "no detector failed",
    "model:steering_refusal_gap:ratio1h": "needs fifty judged answers on both sides",
    "policy:steering_arm_shift:zscore1h": "needs refusals, and this model's words are noise",
    "model:steering_broken:ratio1h": "needs fifty judged answers of one mode",
    "model:steering_risk_drift:ks6h": "needs a week of risks",
    "steering_policy_source_last_success_timestamp_seconds": "the policy is a file, not a URL",
}
# There while an alert is pending or fires, which load decides.
SOMETIMES = {"ALERTS"}
# What this machine's load decides, and not the server.
SLOWNESS = {"SteeringFirstTokenSlow", "SteeringOverheadHigh"}


@pytest.fixture(scope="module")
def prometheus(running: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """It has seen the server before, during and after traffic of every kind."""
    address = running.ops.url.removeprefix("http://")
    with watching(address, tmp_path_factory.mktemp("prometheus")) as found:
        eventually(lambda: [value for _, value in found.vector("up")] == [1.0])
        split = policy(split={"policy": "static", "share": 0.5, "weaker": True})
        assert running.put(split, running.version).status_code == 200
        # A series is born with its first event; only the second makes an increase.
        for _ in range(2):
            traffic(running)
            settle(found, running)
        assert running.put(FIRST, running.version).status_code == 200
        settle(found, running)
        yield found


def traffic(site: Site) -> None:
    for number in range(20):
        assert site.callers.chat(f"question {number}").status_code == 200
    for name in ("static", "ras", "cascade", "shadow", "off"):
        assert site.callers.chat(steering={"policy": name}).status_code == 200
    # In one arm, so that the second request finds the series of the first.
    picture = site.callers.chat(messages=message(image_part()), steering={"policy": "shadow"})
    assert picture.status_code == 200
    # Under a mode with few answers: fifty of one mode would make a series that is not to be there.
    streamed = site.callers.chat(stream=True, steering={"policy": "off"})
    assert streamed.status_code == 200
    assert site.callers.chat(steering={"strength": 0.1}).status_code == 400
    wrong = {"authorization": "Bearer wrong"}
    assert site.admin("GET", POLICY, headers=wrong).status_code == 401
    with site.callers.client() as client:
        assert client.post("/v1/moderations", json=SCORED).status_code == 200


def settle(prometheus: Prometheus, site: Site) -> None:
    """Wait until the last event was scraped and every rule was evaluated after that."""
    name = "steering_requests_total"
    expected = site.ops.metric(name)
    eventually(lambda: prometheus.value(f"sum({name})") == expected)
    now = datetime.now(UTC)
    eventually(lambda: prometheus.evaluated > now)


def expressions() -> dict[str, str]:
    """The panels' expressions, by what they are drawn in."""
    panels = [p for p in board()["panels"] if p["type"] != "row"]
    return {
        f"{panel['title']} {target['refId']}": drawable(target["expr"])
        for panel in panels
        for target in panel["targets"]
    }


def marks() -> dict[str, str]:
    """The expressions of what is marked in every panel, by name."""
    listed = board()["annotations"]["list"]
    return {each["name"]: drawable(each["expr"]) for each in listed if each.get("expr")}


def board() -> Any:
    return json.loads(DASHBOARD.read_text())


def test_the_server_is_up_and_what_is_scraped_is_what_it_says(
    prometheus: Prometheus, site: Site
) -> None:
    (target,) = prometheus.get("targets")["activeTargets"]
    assert (target["health"], target["lastError"]) == ("up", "")
    assert prometheus.vector("up{job='refusal-server'}")[0][1] == 1.0
    for name in ("steering_requests_total", "steering_rows_verified_total", "steering_risk_count"):
        assert prometheus.value(f"sum({name})") == site.ops.metric(name) > 0
    version = prometheus.vector("steering_policy_info == 1")
    assert [labels["version"] for labels, _ in version] == [site.version]


def test_every_rule_can_be_evaluated(prometheus: Prometheus) -> None:
    eventually(lambda: all(rule["health"] == "ok" for rule in prometheus.rules()))
    assert len(prometheus.rules()) > 30


def test_every_metric_that_rules_and_dashboard_name_exists(prometheus: Prometheus) -> None:
    rules = [rule["query"] for rule in prometheus.rules()]
    named = set[str]().union(*map(names_in, [*rules, *expressions().values(), *marks().values()]))
    assert len(named) > 30
    assert {name for name in named if not prometheus.has(name)} - SOMETIMES == set(ABSENT)


def test_every_panel_draws_unless_nothing_happened(prometheus: Prometheus) -> None:
    for title, expression in expressions().items():
        drawn = prometheus.vector(expression)
        assert drawn or names_in(expression) & (set(ABSENT) | SOMETIMES), title


def test_a_policy_that_comes_into_force_is_marked(prometheus: Prometheus, site: Site) -> None:
    (mark,) = marks().values()
    # Sooner than two minutes after the change, and no longer.
    at_start = prometheus.vector(mark.replace("offset 2m", "offset 1d"))
    assert site.version in {labels["version"] for labels, _ in at_start}
    assert prometheus.vector(mark.replace(" offset 2m", "")) == []


def test_every_list_to_choose_from_has_entries(prometheus: Prometheus) -> None:
    variables = board()["templating"]["list"]
    queries = {
        each["name"]: each["query"]["query"] for each in variables if "query" in each["query"]
    }
    assert len(queries) == 4
    for name, query in queries.items():
        found = re.fullmatch(r"label_values\((.+), (\w+)\)", query)
        assert found is not None, name
        labels = {series[found[2]] for series, _ in prometheus.vector(drawable(found[1]))}
        assert labels, name


def test_a_scrape_is_openmetrics_with_exemplars(prometheus: Prometheus, site: Site) -> None:
    accept = "application/openmetrics-text;version=1.0.0,*/*;q=0.1"
    answer = httpx2.get(f"{site.ops.url}/metrics", headers={"accept": accept})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}  # type: ignore[no-untyped-call]
    assert {"vllm:generation_tokens", "steering_requests"} <= families.keys()
    examples = [s.exemplar for s in families["steering_request_seconds"].samples if s.exemplar]
    assert examples
    assert prometheus.value('sum(steering_http_requests_total{route="/metrics"})') > 0


def test_figures_of_the_traffic_are_right(prometheus: Prometheus) -> None:
    def grown(selector: str) -> tuple[float, float]:
        """By how much the counters have grown from scrape to scrape, and what increase says."""
        series = f"steering_requests_total{{{selector}}}"
        return (
            prometheus.value(f"sum({series}) - sum(min_over_time({series}[10m]))"),
            prometheus.value(f"sum(increase({series}[10m]))"),
        )

    # A series that was born here shows the second of two events; one that was there shows both.
    # Each arm's answers may be of three outcomes, which may show only in the second round.
    for selector, least, most in (
        ('strategy="ras"', 1, 2),
        ('modality="image"', 1, 2),
        ('arm=~"treatment|control"', 20 - 2 * 3, 42),
    ):
        growth, increase = grown(selector)
        assert least <= growth <= most, selector
        # It extrapolates over at most 1.1 intervals at each end of at least one interval.
        assert growth <= increase * 1.001 <= growth * 3.2, selector
    assert 0 < prometheus.value("model:steering_risk_pass_seconds:p95_5m") <= 10
    assert 0 < prometheus.value("model:steering_overhead_seconds:p95_5m") <= 1
    assert prometheus.value("sum(steering_fail_open_total)") == 0


def test_no_alert_speaks_while_all_is_well(prometheus: Prometheus) -> None:
    speaking = {name for name, state in prometheus.states().items() if state != "inactive"}
    assert speaking <= SLOWNESS
    assert "firing" not in prometheus.states().values()


def test_an_alert_wakes_when_the_policy_file_breaks_and_sleeps_when_it_is_mended(
    prometheus: Prometheus, site: Site
) -> None:
    site.write("default: main\npolic")
    eventually(lambda: site.ops.metric(RELOADED) == 0)
    eventually(lambda: prometheus.states()["SteeringReloadFailed"] == "pending")
    assert prometheus.links()["SteeringReloadFailed"] == (
        "https://docs.example/refusal-steering/runbook.html#steeringreloadfailed"
    )
    others = {name for name, state in prometheus.states().items() if state != "inactive"}
    assert others <= {"SteeringReloadFailed"} | SLOWNESS
    site.restore()
    eventually(lambda: prometheus.states()["SteeringReloadFailed"] == "inactive")
