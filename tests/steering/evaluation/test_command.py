"""The command `evaluate`: what it prints and writes, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from refusal_steering.tools.cli import main
from refusal_steering.tools.evaluate import evaluate as command
from tests.steering.evaluation.conftest import Serve
from tests.steering.evaluation.fake_server import Fail
from tests.steering.evaluation.scripted import settings, steered


def call(*arguments: str) -> Any:
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, list(arguments))


def test_the_command_prints_and_writes_a_table(serve: Serve, tmp_path: Path) -> None:
    wanted = settings(serve(steered), tmp_path)
    table = tmp_path / "table.md"
    prompt = tmp_path / "system.txt"
    prompt.write_text("Be careful.")
    result = call(
        *("--url", wanted.access.url, "--suite", wanted.suites[0], "--policy", "steer"),
        *("--system-prompt", str(prompt), "--limit", "6", "--max-tokens", "32"),
        *("-o", str(wanted.output), "--markdown", str(table), "--concurrency", "2"),
    )
    assert result.exit_code == 0, result.output
    lines = table.read_text().splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert [row.split("|")[1].strip() for row in rows] == [
        "policy",
        "---",
        "off",
        "steer",
        "system prompt",
    ]
    assert len({row.count("|") for row in rows}) == 1
    assert table.read_text().strip() in result.output
    results = json.loads(wanted.output.read_text())
    assert results["settings"]["limit"] == 6 and results["settings"]["system_prompt"]


def test_the_command_ends_with_1_where_an_arm_has_no_answer(serve: Serve, tmp_path: Path) -> None:
    wanted = settings(serve(lambda _: Fail(403)), tmp_path)
    suite = wanted.suites[0]
    result = call("--url", wanted.access.url, "--suite", suite, "-o", str(wanted.output))
    assert result.exit_code == 1
    assert "18 requests failed" in result.output


@pytest.mark.parametrize(
    "more", [("--suite", "nothing"), ("--suite", "contrast", "--judge-model", "x")]
)
def test_the_command_ends_with_2_where_nothing_can_be_run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    more: tuple[str, ...],
) -> None:
    output = tmp_path / "r.json"
    asked = ("evaluate", "--url", "http://127.0.0.1:9/v1", "-o", str(output), *more)
    monkeypatch.setattr("sys.argv", ["refusal-steering", *asked])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2 and capsys.readouterr().err.startswith("refusal-steering: ")
    assert not output.exists()


def test_no_output_replaces_an_input_or_another_output(
    serve: Serve,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server = serve(steered)
    wanted = settings(server, tmp_path)
    rows, results = tmp_path / "rows.jsonl", tmp_path / "r.json"
    before = rows.read_bytes()
    journal = tmp_path / "r.json.answers.jsonl"
    around = tmp_path / "x" / ".." / "r.json"
    (tmp_path / "x").mkdir()
    for out, table in (
        (rows, tmp_path / "t"),
        (results, rows),
        (results, around),
        (results, journal),
    ):
        said = ["evaluate", "--url", wanted.access.url, "--suite", wanted.suites[0]]
        said += ["-o", str(out), "--markdown", str(table)]
        monkeypatch.setattr("sys.argv", ["refusal-steering", *said])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2 and capsys.readouterr().err.count("\n") == 1
    assert rows.read_bytes() == before and not server.answers


def test_a_judge_that_never_answers_is_said(serve: Serve, tmp_path: Path) -> None:
    wanted, judge = settings(serve(steered), tmp_path), serve(lambda _: Fail(403))
    result = call(
        *("--url", wanted.access.url, "--suite", wanted.suites[0], "-o", str(wanted.output)),
        *("--judge-url", judge.url, "--judge-model", "j"),
    )
    assert result.exit_code == 1
    assert "18 answers were not judged" in result.output
