"""What a risk pass takes on a real engine is in the report and in the metric, and they agree."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.operations.site import Site, steering
from tests.server.fixtures.bundles import GREY_ZONE

pytestmark = pytest.mark.engine
SECONDS = "steering_risk_pass_seconds"


def test_every_risk_pass_is_timed(site: Site) -> None:
    count = site.ops.metric(f"{SECONDS}_count", policy="ras")
    total = site.ops.metric(f"{SECONDS}_sum", policy="ras")
    ran = site.ops.metric("steering_risk_passes_total", policy="ras", outcome="ran")
    reported = []
    for number in range(4):
        started = time.perf_counter()
        ask = {"policy": "ras", "report": True}
        answer = site.callers.chat(f"question {number}", steering=ask)
        wall = time.perf_counter() - started
        assert steering(answer)["strategy"] == "ras"
        risk_pass = answer.json()["steering"]["risk_pass"]
        assert risk_pass["passes"] == 1
        assert 0.0 <= risk_pass["risk"] <= 1.0
        assert -1.0 <= risk_pass["similarity"] <= 1.0
        assert 0.0 < risk_pass["seconds"] < wall
        reported.append(risk_pass["seconds"])
    assert site.ops.metric(f"{SECONDS}_count", policy="ras") == count + 4
    measured = site.ops.metric(f"{SECONDS}_sum", policy="ras") - total
    assert measured == pytest.approx(sum(reported), abs=1e-4)
    assert site.ops.metric("steering_risk_passes_total", policy="ras", outcome="ran") == ran + 4


def test_a_cascade_waits_inside_its_grey_zone_only(site: Site) -> None:
    count = site.ops.metric(f"{SECONDS}_count", policy="cascade")
    for number in range(4):
        risk_pass = _cascaded(site, f"question {number}")
        doubtful = GREY_ZONE["low"] <= risk_pass["forward_risk"] <= GREY_ZONE["high"]
        assert risk_pass["passes"] == (2 if doubtful else 0)
        assert (risk_pass["similarity"] is not None) is doubtful
        assert (risk_pass["seconds"] > 0.0) is doubtful
    assert site.ops.metric(f"{SECONDS}_count", policy="cascade") == count + 4


def test_a_cascade_that_is_probed_first_finds_the_same(site: Site) -> None:
    """As all choices of a request must have one share, one pass of its own reads the risk."""
    for number in range(4):
        at_once = _cascaded(site, f"question {number}")
        probed = _cascaded(site, f"question {number}", n=2, temperature=1.0)
        assert probed["passes"] == max(at_once["passes"], 1)
        for name in ("risk", "similarity", "forward_risk"):
            assert probed[name] == pytest.approx(at_once[name], abs=1e-5)


def _cascaded(site: Site, question: str, **fields: Any) -> dict[str, Any]:
    ask = {"policy": "cascade", "report": True}
    answer = site.callers.chat(question, steering=ask, **fields)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["steering"]["risk_pass"]
    return found


def test_strategies_without_a_pass_report_none(site: Site) -> None:
    count = site.ops.metric(f"{SECONDS}_count")
    answer = site.callers.chat(steering={"report": True})
    assert "risk_pass" not in answer.json()["steering"]
    assert site.ops.metric(f"{SECONDS}_count") == count
