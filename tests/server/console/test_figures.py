"""What the console shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from refusal_server.console.distributions import distribution
from refusal_server.console.live import WANTED, LiveFigures, Query
from refusal_server.telemetry.ending import Measurement
from refusal_server.telemetry.history import FINE_SECONDS, MetricHistory
from refusal_server.telemetry.metrics import Metrics, RequestLabels
from refusal_steering.detection.detector import LEXICAL
from tests.server.fixtures.console_rig import REFUSAL, ConsoleRig, Operator
from tests.server.fixtures.ops import code

ENFORCED = RequestLabels("main", "static", "enforce", "text")
WATCHED = RequestLabels("seen", "ras", "shadow", "image")


class Bench:
    """Figures over metrics of our own, under a clock of our own."""

    def __init__(self) -> None:
        self.now = 1000.0
        registry = CollectorRegistry()
        self.metrics = Metrics("m", registry)
        self.history = MetricHistory(registry.collect, WANTED, lambda: self.now)

    def answer(self, labels: RequestLabels, outcome: Any = "answer", **measured: float) -> None:
        self.metrics.count_request(labels, outcome)
        if outcome != "error":
            self.metrics.count_response(labels, steered=True, outcome=outcome, detector=LEXICAL)
        if measured:
            self.metrics.observe(labels, Measurement(True, **measured))  # type: ignore[arg-type]

    def pass_time(self, seconds: float, each: Callable[[], None] = lambda: None) -> None:
        """The background's samples, with something done before each of them."""
        for _ in range(round(seconds / FINE_SECONDS)):
            each()
            self.now += FINE_SECONDS
            self.history.sample()

    def look(self, span: str = "5m", **chosen: str) -> dict[str, Any]:
        return LiveFigures(self.history).now(Query(span, chosen))


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_figures_are_those_of_the_metrics(rig: ConsoleRig, operator: Operator) -> None:
    rig.traffic("static", 3)
    rig.traffic("off", 2)
    found = operator.get("live")
    counts = {"requests": 5, "judged": 5, "refusals": 3, "errors": 0, "failures": 0, "fail_open": 0}
    for stretch in ("minute", "window", "since_start"):
        assert counts.items() <= found[stretch].items()
    static, off = sorted(found["groups"], key=lambda row: -row["requests"])
    assert (static["policy"], static["strategy"], static["mode"]) == ("static", "static", "enforce")
    assert (static["judged"], static["refusals"], static["share"]) == (3, 3, 1.0)
    assert static["coefficient"] == pytest.approx(9.0)
    assert static["risk"] == pytest.approx(0.8808, abs=1e-4)
    assert (off["policy"], off["share"], off["coefficient"]) == ("off", 0.0, None)
    (drawn,) = found["coefficients"]
    assert (drawn["name"], sum(drawn["counts"])) == ("static", 3)
    assert len(drawn["counts"]) == len(drawn["edges"]) + 1
    assert drawn["counts"][drawn["edges"].index(16.0)] == 3
    assert {entry["policy"] for entry in found["latencies"]} == {"static", "off"}
    assert found["version"] == rig.store.current.version


def test_the_last_minute_is_one_though_nobody_looked(bench: Bench) -> None:
    bench.pass_time(600, lambda: bench.answer(ENFORCED, "refusal"))
    bench.pass_time(60, lambda: bench.answer(ENFORCED))
    found = bench.look()
    assert found["minute"]["seconds"] == 60
    assert (found["minute"]["requests"], found["minute"]["share"]) == (12, 0.0)
    assert found["since_start"]["requests"] == 132
    assert found["window"]["seconds"] == 300
    assert found["window"]["share"] == pytest.approx(48 / 60)


def test_a_quiet_minute_has_no_share(bench: Bench) -> None:
    bench.answer(ENFORCED, "refusal")
    bench.pass_time(120)
    found = bench.look()
    assert (found["minute"]["requests"], found["minute"]["share"]) == (0, None)
    assert found["since_start"]["requests"] == 1


def test_hours_are_remembered_and_older_ones_forgotten(bench: Bench) -> None:
    bench.answer(ENFORCED, "refusal")
    bench.pass_time(3600)
    bench.answer(ENFORCED)
    bench.pass_time(3600)
    assert bench.look("1h")["window"]["requests"] == 1
    assert bench.look("6h")["window"]["requests"] == 2
    bench.pass_time(6 * 3600)
    found = bench.look("6h")
    assert found["window"]["requests"] == 0
    assert abs(found["seconds"] - 6 * 3600) <= 60
    assert found["since_start"]["requests"] == 2
    assert 50 <= len(found["course"]) <= 62


def test_the_course_is_in_order_and_every_point_is_a_rate(bench: Bench) -> None:
    bench.pass_time(300, lambda: bench.answer(ENFORCED, "refusal"))
    course = bench.look()["course"]
    assert [point["at"] for point in course] == sorted({point["at"] for point in course})
    assert len(course) > 50
    assert all(point["requests"] == pytest.approx(12) for point in course)
    assert all(point["shares"] == {"enforce": 1.0, "shadow": None, "off": None} for point in course)


def test_modes_and_units_are_never_mixed(bench: Bench) -> None:
    for _ in range(4):
        bench.answer(ENFORCED, "refusal", coefficient=9.0, dose=0.1, rows_verified=1, risk=0.9)
        bench.answer(WATCHED, coefficient=0.5, dose=0.0, rows_verified=0, risk=0.2)
    bench.pass_time(10)
    found = bench.look()
    assert {row["name"]: row["mean"] for row in found["coefficients"]} == {
        "static": 9.0,
        "ras": 0.5,
    }
    assert {row["mode"]: row["share"] for row in found["modalities"]} == {
        "enforce": 1.0,
        "shadow": 0.0,
    }
    assert found["course"][-1]["shares"] == {"enforce": 1.0, "shadow": 0.0, "off": None}
    assert {row["name"]: row["mean"] for row in found["doses"]} == {"static": 0.1, "ras": 0.0}


@pytest.mark.parametrize(
    ("chosen", "requests"),
    [
        ({"policy": "main"}, 3),
        ({"strategy": "ras"}, 2),
        ({"mode": "shadow", "modality": "image"}, 2),
        ({"mode": "shadow", "modality": "text"}, 0),
        ({"policy": "nobody's"}, 0),
    ],
)
def test_what_is_chosen_is_what_is_counted(
    bench: Bench, chosen: dict[str, str], requests: int
) -> None:
    for labels, count in ((ENFORCED, 3), (WATCHED, 2)):
        for _ in range(count):
            bench.answer(labels, coefficient=1.0, risk=0.5)
    bench.pass_time(10)
    found = bench.look(**chosen)
    assert found["window"]["requests"] == requests
    assert sum(row["requests"] for row in found["groups"]) == requests
    assert sum(row["count"] for row in found["risks"]) == requests
    assert found["choices"]["policy"] == ["main", "seen"]


def test_errors_and_denials_are_told_by_what_they_are(bench: Bench) -> None:
    bench.answer(ENFORCED, "error")
    bench.metrics.count_failure(("main", "static", "enforce"))
    bench.metrics.count_denied("budget", "acme")
    for status in (200, 503, 503, 404):
        bench.metrics.count_http("/v1/chat/completions", "POST", status)
    bench.pass_time(10)
    found = bench.look()
    assert (found["window"]["errors"], found["window"]["failures"]) == (1, 1)
    assert found["denied"] == [{"reason": "budget", "tenant": "acme", "count": 1}]
    assert [(row["status"], row["count"]) for row in found["http"]] == [("503", 2), ("404", 1)]
    assert bench.look(policy="seen")["window"]["failures"] == 0


def test_quantiles_lie_in_their_buckets() -> None:
    found = distribution({1.0: 50.0, 2.0: 90.0, 4.0: 100.0, float("inf"): 100.0}, 120.0)
    assert (found["count"], found["mean"], found["median"]) == (100, 1.2, 1.0)
    assert found["p95"] == pytest.approx(3.0)
    beyond = distribution({1.0: 0.0, float("inf"): 5.0}, 50.0)
    assert (beyond["median"], beyond["p95"]) == (1.0, 1.0)
    assert distribution({}, 0.0)["p95"] is None


def test_many_pages_cost_one_look_a_second() -> None:
    now, looks = 0.0, 0

    def collect() -> list[Any]:
        nonlocal looks
        looks += 1
        return []

    history = MetricHistory(collect, WANTED, lambda: now)
    for _ in range(20):
        now += 0.1
        history.now()
    assert 1 <= looks <= 4


def test_an_unknown_range_is_refused(operator: Operator) -> None:
    answer = operator.client.get("/console/data/live?range=1y")
    assert code(answer) == (400, "invalid_request")
    assert "5m" in answer.text


def test_recent_requests_bring_no_prompt(rig: ConsoleRig, operator: Operator) -> None:
    rig.traffic("static", messages=[{"role": "user", "content": "a very secret question"}])
    answer = operator.client.get("/console/data/recent")
    (entry,) = answer.json()["requests"]
    assert (entry["policy"], entry["outcome"]) == ("static", "refusal")
    assert (entry["dose"], entry["completion_tokens"], entry["error"]) == (0.05, 14, None)
    assert "secret" not in answer.text
    assert REFUSAL not in answer.text


def test_recent_denials_say_why(rig: ConsoleRig, operator: Operator) -> None:
    play = operator.play(strength=50.0)
    assert play.status_code == 200
    (entry,) = operator.get("recent")["denied"]
    assert (entry["reason"], entry["code"]) == ("steering", "invalid_steering")
    assert (entry["policy"], entry["strength"], entry["key"]) == ("static", 50.0, "@console")
