"""guidellm's figures are taken from answers that all came, by the names of vLLM's benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.bench.load.clients import BENCHED
from tests.bench.load.guide import FIGURES, figures, guided
from tests.bench.load.servers import Server
from tests.examples.served import Served
from tests.needs import demo_model, need


def report(answered: int) -> dict[str, Any]:
    means = {theirs: {"successful": {"mean": 2.0}} for theirs in FIGURES.values()}
    return {"benchmarks": [{"metrics": {"request_totals": {"successful": answered}, **means}}]}


def test_a_request_without_an_answer_ends_the_benchmark() -> None:
    assert figures(report(3), 3) == dict.fromkeys(BENCHED, 2.0)
    with pytest.raises(SystemExit, match="2 of 3"):
        figures(report(2), 3)


def test_guidellm_asks_under_the_policy_that_it_is_told(tmp_path: Path) -> None:
    need("guidellm")
    need("demo-model")
    prompts = [f"question {number}" for number in range(8)]
    with Served(tmp_path) as site:
        server = Server(site.root, "m", str(demo_model()), 0)
        found = guided(server, "static", tmp_path, prompts, tokens=32, at_once=2)
        assert all(figure > 0.0 for figure in found.values())
        with pytest.raises(SystemExit, match=r"guidellm failed|requests were answered"):
            guided(server, "no such policy", tmp_path, prompts, tokens=32, at_once=2)
