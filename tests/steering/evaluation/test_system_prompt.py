"""A system prompt is an arm like a policy: the same requests, unsteered, after its words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from refusal_steering.errors import EvaluationError
from refusal_steering.evaluation.arms.system_prompt import (
    REFUSE_HARM,
    REFUSE_HARM_NAME,
    load_system_prompt,
)
from refusal_steering.evaluation.endpoint import Access
from refusal_steering.evaluation.run import evaluate
from refusal_steering.evaluation.settings import Settings
from refusal_steering.tools.evaluate import evaluate as command
from tests.steering.evaluation.conftest import Serve
from tests.steering.evaluation.fake_server import Ask
from tests.steering.evaluation.texts import ANSWER, REFUSAL

ROWS = [
    {"id": f"{label}{at}", "label": label, "prompt": f"{label} thing {at}"}
    for label in ("harmful", "harmless")
    for at in range(3)
]


def obedient(ask: Ask) -> str:
    """Refuses harm after a system prompt or under ``steer``, and rewords one harmless answer."""
    if "harmful" in ask.text and (ask.system or ask.policy == "steer"):
        return REFUSAL
    return f"{ANSWER} {ask.text}{' Take care.' if ask.system and '0' in ask.text else ''}"


def suite(folder: Path) -> str:
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return f"file:{rows}?forms=plain"


def run(serve: Serve, folder: Path, policies: tuple[str, ...]) -> tuple[dict[str, Any], list[Ask]]:
    server = serve(obedient)
    wanted = Settings(
        Access(server.url, timeout=60.0, retries=0),
        (suite(folder),),
        folder / "results.json",
        policies=policies,
        system_prompt=REFUSE_HARM,
        perplexity=False,
        markdown=folder / "table.md",
    )
    return evaluate(wanted), server.answers


def test_the_arm_sends_the_same_requests_unsteered(serve: Serve, tmp_path: Path) -> None:
    _, asked = run(serve, tmp_path, ("steer",))
    prompted = [ask for ask in asked if ask.system is not None]
    plain = [ask for ask in asked if ask.system is None and ask.policy == "off"]
    assert {ask.system for ask in prompted} == {REFUSE_HARM}
    assert {ask.policy for ask in prompted} == {"off"}
    assert sorted(ask.text for ask in prompted) == sorted(ask.text for ask in plain)
    bodies = [{**ask.body, "messages": ask.body["messages"][-1:]} for ask in (*prompted, *plain)]
    assert len({json.dumps(body, sort_keys=True) for body in bodies}) == len(plain) == len(ROWS)


def test_a_server_without_policies_gets_no_steering_field(serve: Serve, tmp_path: Path) -> None:
    results, asked = run(serve, tmp_path, ())
    assert [row["arm"] for row in results["summary"]] == ["plain", "system prompt"]
    assert not [ask for ask in asked if "steering" in ask.body]


def test_the_arm_is_scored_and_compared_like_any_other(serve: Serve, tmp_path: Path) -> None:
    results, _ = run(serve, tmp_path, ("steer",))
    off, steer, prompted = results["summary"]
    assert (off["arm"], steer["arm"], prompted["arm"]) == ("off", "steer", "system prompt")
    assert prompted["system_prompt"] and not steer["system_prompt"]
    assert prompted.keys() == steer.keys()
    rsr = [next(iter(arm["scores"].values()))["rsr"]["hits"] for arm in (off, steer, prompted)]
    assert rsr == [0, 3, 3]
    close = [arm["fidelity"]["harmless"] for arm in (off, steer, prompted)]
    assert [(one["n"], one["identical"]) for one in close] == [(3, 3), (3, 3), (3, 2)]
    assert close[2]["chrf"] < 100.0
    assert results["settings"]["system_prompt"] == REFUSE_HARM
    assert sum(answer["arm"] == "system prompt" for answer in results["answers"]) == len(ROWS)


def test_the_table_shows_the_arm_and_its_words(serve: Serve, tmp_path: Path) -> None:
    run(serve, tmp_path, ("steer",))
    lines = (tmp_path / "table.md").read_text().splitlines()
    row = next(line for line in lines if line.startswith("| system prompt |"))
    assert "66.7 %" in row
    assert f"> {REFUSE_HARM}" in lines


def call(serve: Serve, folder: Path, prompt: str) -> Any:
    app = typer.Typer()
    app.command()(command)
    output = ("-o", str(folder / "results.json"))
    options = ("--suite", suite(folder), "--system-prompt", prompt, "--no-perplexity", *output)
    return CliRunner().invoke(app, ["--url", serve(obedient).url, *options])


def test_the_command_takes_our_prompt_by_name_or_a_file(serve: Serve, tmp_path: Path) -> None:
    own = tmp_path / "own.txt"
    own.write_text(" Be\ncareful. \n")
    for prompt, text in ((REFUSE_HARM_NAME, REFUSE_HARM), (str(own), "Be\ncareful.")):
        result = call(serve, tmp_path, prompt)
        assert result.exit_code == 0, result.output
        assert f"> {' '.join(text.split())}" in result.output.splitlines()
        results = json.loads((tmp_path / "results.json").read_text())
        assert results["settings"]["system_prompt"] == text


def test_a_prompt_that_is_not_there_ends_the_command(serve: Serve, tmp_path: Path) -> None:
    for prompt in (tmp_path / "missing.txt", tmp_path, tmp_path / "blank.txt"):
        (tmp_path / "blank.txt").write_text(" \n")
        result = call(serve, tmp_path, str(prompt))
        assert isinstance(result.exception, EvaluationError)
        assert "system prompt" in str(result.exception)
    with pytest.raises(EvaluationError, match=REFUSE_HARM_NAME):
        load_system_prompt("refuse-harmm")
    assert load_system_prompt(None) is None
