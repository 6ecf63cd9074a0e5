"""The command line: the arguments' meaning and what the user reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from refusal_steering.errors import OmnibenchError
from refusal_steering.tools.omnibench import omnibench
from tests.steering.omnibench.conftest import FLAT, NESTED


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command()(omnibench)
    return app


def test_renders_the_chosen_combinations_of_the_first_rows(
    app: typer.Typer, write: Callable[..., Path], tmp_path: Path
) -> None:
    source, out = write(NESTED, FLAT), tmp_path / "out"
    done = CliRunner().invoke(
        app, [str(source), "-o", str(out), "--combos", "t, t2i", "--limit", "1"]
    )
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == ["t: 1 cases", "t2i: 1 cases"]
    assert sorted(p.name for p in out.iterdir()) == [
        "manifest.json", "media", "t.jsonl", "t2i.jsonl"
    ]  # fmt: skip


def test_errors_of_the_package_pass_through(
    app: typer.Typer, write: Callable[..., Path], tmp_path: Path
) -> None:
    arguments = [str(write(FLAT)), "-o", str(tmp_path / "out"), "--combos", "q"]
    done = CliRunner().invoke(app, arguments)
    assert isinstance(done.exception, OmnibenchError)


@pytest.mark.parametrize("limit", ["0", "-1", "many"])
def test_limit_is_a_positive_number(
    app: typer.Typer, write: Callable[..., Path], tmp_path: Path, limit: str
) -> None:
    arguments = [str(write(FLAT)), "-o", str(tmp_path / "out"), "--limit", limit]
    assert CliRunner().invoke(app, arguments).exit_code == 2
