"""What steering has touched, by form and label; a suite of many forms has a table of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from refusal_steering.evaluation.case import Case, user
from refusal_steering.evaluation.endpoint import Reply
from refusal_steering.evaluation.run import evaluate
from refusal_steering.evaluation.scoring.coherence import Perplexity
from refusal_steering.evaluation.scoring.grade import touched
from refusal_steering.evaluation.scoring.outcome import Outcome
from refusal_steering.evaluation.tables.markdown import markdown
from tests.steering.evaluation.conftest import Serve
from tests.steering.evaluation.fake_server import Ask
from tests.steering.evaluation.scripted import settings, steered

Pair = tuple[Case, Outcome]


def pair(number: int, label: Any, report: dict[str, Any] | None) -> Pair:
    case = Case(str(number), "s", "plain", label, user("x"))
    reply = Reply("text", steering=report)
    return case, Outcome("arm", "s", case.id, reply, None, Perplexity("off"))


def test_an_answer_is_touched_by_any_coefficient_but_zero() -> None:
    reports = [{"coefficient": 2.0}, {"coefficient": -0.1}, {"coefficient": 0.0}, {}, None]
    found = touched([pair(n, "harmful", report) for n, report in enumerate(reports)])
    rate = found["plain"]["harmful"]
    assert (rate["hits"], rate["n"], rate["errors"]) == (2, 3, 2)
    assert "harmless" not in found["plain"]


def test_families_have_a_table_with_intervals(serve: Serve, tmp_path: Path) -> None:
    asked: list[Ask] = []

    def remember(ask: Ask) -> str:
        asked.append(ask)
        return steered(ask)

    wanted = settings(serve(remember), tmp_path, suites=("unseen:open",), limit=34)
    results = evaluate(wanted)
    assert results["suites"][0]["name"] == "unseen:open"
    rows = [line for line in markdown(results).splitlines() if line.startswith("|")]
    families = {row.split("|")[1].strip() for row in rows if row.startswith("| ")}
    assert {"crescendo", "retry of a tool", "language", "borderline"} <= families
    crescendo = next(row for row in rows if row.startswith("| crescendo | off"))
    assert " to " in crescendo
    turns = [len(ask.body["messages"]) for ask in asked if "return_token_ids" not in ask.body]
    assert max(turns) == 5


def test_few_forms_stay_columns(serve: Serve, tmp_path: Path) -> None:
    text = markdown(evaluate(settings(serve(steered), tmp_path)))
    assert "| policy | plain | list |" in text and "harmful touched" not in text
