"""The evaluation notebook is run cell by cell against a server, and shows what came of it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.examples.said import said
from tests.examples.served import Served
from tests.needs import ROOT
from tests.server.fixtures.console_rig import Talker
from tests.steering.evaluation.scripted import ROWS

NOTEBOOK = ROOT / "examples" / "evaluation.ipynb"
# As in Jupyter, where a loop is running while a cell is.
RUN = """
import asyncio, json, sys

async def main():
    names = {}
    for number, source in enumerate(json.load(sys.stdin)):
        exec(compile(source, f"cell {number}", "exec"), names)

asyncio.run(main())
"""
POLICY = "omnisteer"


def cells() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(NOTEBOOK.read_text())["cells"]
    return found


def run(served: Served, folder: Path, policies: str = f"{POLICY} static") -> str:
    """What the cells print, run in order in one fresh process."""
    sources = ["".join(cell["source"]) for cell in cells() if cell["cell_type"] == "code"]
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    variables = {
        "REFUSAL_SERVER_URL": served.url,
        "RESULTS": str(folder / "results.json"),
        "POLICIES": policies,
        "SUITE": f"file:{rows}?forms=plain,list",
    }
    return said(sys.executable, "-c", RUN, given=json.dumps(sources), **variables)


@pytest.fixture
def talker() -> Talker:
    """Steers what is bad or near it, and measures its risk."""

    def harmless(messages: list[dict[str, Any]]) -> bool:
        good = "good" in messages[-1]["content"]
        found.risk_logit = -2.0 if good else 2.0
        return good

    found = Talker(harmless=harmless)
    return found


@pytest.fixture
def served(talker: Talker, tmp_path: Path) -> Iterator[Served]:
    with Served(tmp_path, script=talker) as found:
        yield found


def line(text: str, *words: str) -> str:
    """The first line that begins with ``words``, the rest of it."""
    found = re.search(rf"^ *{' +'.join(map(re.escape, words))} +(.*)$", text, re.MULTILINE)
    assert found is not None, text
    return found[1]


def test_it_shows_rates_trade_off_and_risk_of_a_running_server(
    served: Served, tmp_path: Path
) -> None:
    text = run(served, tmp_path)
    suite = "file:rows.jsonl"
    none, every = "0% (0% to 32%) of 8", "100% (61% to 100%) of 6"
    assert line(text, suite, "off").startswith(f"{none}    {every}")
    assert line(text, suite, POLICY).startswith(
        f"100% (68% to 100%) of 8  {every}    0% (0% to 49%)"
    )
    by_form = text.partition(f"\n{suite} {POLICY}\n")[2]
    assert line(by_form, "list").startswith("100% (51% to 100%) of 4")
    assert line(by_form, suite, POLICY).startswith("+100% (+43% to +100%)   +0% (")
    assert f"risk under {POLICY}, requests a mark: 1" in text
    assert line(text, "0.1 to 0.2") == "......" and line(text, "0.8 to 0.9") == "########oooo"
    assert line(text.partition("\nat ")[2], "0.5").endswith("0% (0% to 39%) of 6")


def test_results_that_are_there_are_read_and_nobody_is_asked(
    talker: Talker, served: Served, tmp_path: Path
) -> None:
    first = run(served, tmp_path)
    asked = len(talker.heard)
    assert asked == 3 * 2 * len(ROWS)
    assert run(served, tmp_path, "nobodys") == first
    assert len(talker.heard) == asked


def test_a_server_that_measures_no_risk_has_rates_all_the_same(
    served: Served, tmp_path: Path
) -> None:
    text = run(served, tmp_path, "off")
    assert "risk under None" in text
    assert (
        line(text.partition("\nat ")[2], "0.5") == "none asked       none asked          none asked"
    )


def test_it_is_committed_without_outputs() -> None:
    for cell in cells():
        assert cell.get("outputs", []) == [] and cell.get("execution_count") is None
