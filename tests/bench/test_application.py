"""The benchmark of the applications asks both and compares what they take in the same round."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.bench import application
from tests.bench.application import ARMS, STOCK, Cost, cost, opener, table, threaded


def test_more_is_by_round_and_not_by_median() -> None:
    # Of the differences 4, 1 and 1 the median is 1; that of the medians 5 and 2 would be 3.
    rounds = [
        {arm: Cost(float(stock if arm == STOCK else other), 1.0, 1.0) for arm in ARMS}
        for stock, other in ((1, 5), (2, 3), (9, 10))
    ]
    rows = [line.split("|")[2:4] for line in table(rounds).splitlines()[2:]]
    assert [[float(cell) for cell in row] for row in rows] == [[2.0, 0.0], [5.0, 1.0], [5.0, 1.0]]


def test_both_applications_answer_every_arm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(application, "REQUESTS", 3)
    monkeypatch.setattr(application, "EVENTS", 20)
    level = logging.getLogger().level
    with threaded(application.open_stock) as stock, threaded(opener(tmp_path)) as ours:
        for arm, policy in ARMS.items():
            found = cost(stock if arm == STOCK else ours, policy)
            assert found.request > 0.0
        # Stock vLLM drops what it does not know; ours refuses a policy that is not there.
        with pytest.raises(SystemExit, match="400"):
            cost(ours, "no such policy")
    assert logging.getLogger().level == level
