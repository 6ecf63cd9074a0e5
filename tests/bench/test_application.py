"""The benchmark of the applications asks both and compares what they take in the same round."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench import application
from tests.bench.application import ARMS, Cost, cost, opener, table, threaded


def test_more_is_by_round_and_not_by_median() -> None:
    rounds = [
        {arm: Cost(100.0 * slow + 10.0 * place, slow + place) for place, arm in enumerate(ARMS)}
        for slow in (1, 2, 9)
    ]
    rows = [line.split("|")[2:6] for line in table(rounds).splitlines()[2:]]
    assert [[float(cell) for cell in row] for row in rows] == [
        [200.0 + 10.0 * place, 10.0 * place, 2.0 + place, float(place)]
        for place in range(len(ARMS))
    ]


def test_both_applications_answer_every_arm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(application, "REQUESTS", 3)
    monkeypatch.setattr(application, "EVENTS", 20)
    with threaded(application.open_stock) as stock, threaded(opener(tmp_path)) as ours:
        for arm, policy in ARMS.items():
            found = cost(stock if arm == application.STOCK else ours, policy)
            assert found.request > 0.0
        # Stock vLLM drops what it does not know; ours refuses a policy that is not there.
        with pytest.raises(SystemExit, match="400"):
            cost(ours, "no such policy")
