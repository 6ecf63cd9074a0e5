"""What the console shows."""

from __future__ import annotations

import pytest

from refusal_server.console.live import LiveFigures
from refusal_steering.detection.detector import LEXICAL
from tests.server.fixtures.console_rig import REFUSAL, ConsoleRig, Operator


def test_figures_are_those_of_the_metrics(rig: ConsoleRig, operator: Operator) -> None:
    rig.traffic("static", 3)
    rig.traffic("off", 2)
    found = operator.get("live")
    assert found["totals"] | {"denied": 0} == {
        "requests": 5,
        "judged": 5,
        "refusals": 3,
        "errors": 0,
        "failures": 0,
        "denied": 0,
        "fail_open": 0,
    }
    (text,) = found["modalities"]
    assert (text["name"], text["judged"], text["refusals"]) == ("text", 5, 3)
    strength = text["coefficient"]
    assert sum(strength["counts"]) == 3
    assert len(strength["counts"]) == len(strength["edges"]) + 1
    assert strength["counts"][strength["edges"].index(16.0)] == 3
    assert strength["mean"] == pytest.approx(9.0)
    assert text["risk"]["mean"] == pytest.approx(0.8808, abs=1e-4)
    assert found["version"] == rig.store.current.version


def test_the_engines_series_are_not_looked_at(operator: Operator) -> None:
    now = 0.0
    series = b'vllm:x{le="oops} 1\nsteering_requests_total{modality="a\\"b",outcome="answer"} 4.0\n'
    figures = LiveFigures(lambda: series, lambda: now)
    now = 5.0
    found = figures.now()
    assert [entry["name"] for entry in found["modalities"]] == ['a"b']
    assert found["totals"]["requests"] == 4


def test_a_minute_forgets_what_was_before_it() -> None:
    now, refused, answered = 0.0, 0, 0

    def series() -> bytes:
        head = f'steering_responses_total{{modality="text",detector="{LEXICAL}",outcome='
        return f'{head}"refusal"}} {refused}\n{head}"answer"}} {answered}\n'.encode()

    figures = LiveFigures(series, lambda: now)
    for second in range(0, 300, 2):
        now = float(second)
        refused, answered = (second, 0) if second < 150 else (refused, answered + 2)
        found = figures.now()
        if second < 150:
            assert found["minute"]["share"] in (1.0, None)
    assert found["minute"]["share"] == 0.0
    assert 60 <= found["minute"]["seconds"] <= 66
    assert 0.2 < found["totals"]["refusals"] / found["totals"]["judged"] < 0.8
    assert [point["at"] for point in found["timeline"]] == sorted(
        {point["at"] for point in found["timeline"]}
    )


def test_many_pages_cost_one_look_a_second() -> None:
    now, looks = 0.0, 0

    def series() -> bytes:
        nonlocal looks
        looks += 1
        return b""

    figures = LiveFigures(series, lambda: now)
    for _ in range(20):
        now += 0.1
        figures.now()
    assert 1 <= looks <= 3


def test_recent_requests_bring_no_prompt(rig: ConsoleRig, operator: Operator) -> None:
    rig.traffic("static", messages=[{"role": "user", "content": "a very secret question"}])
    answer = operator.client.get("/console/data/recent")
    (entry,) = answer.json()["requests"]
    assert (entry["policy"], entry["outcome"]) == ("static", "refusal")
    assert "secret" not in answer.text
    assert REFUSAL not in answer.text
