"""What the offline command line says of itself."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
from typer.main import get_command

import refusal_steering
from refusal_steering.tools.cli import COMMANDS, app


def run(*words: str, **variables: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "refusal_steering.tools.cli", *words]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **variables}, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_every_command_has_help(name: str) -> None:
    group: Any = get_command(app(name))
    for option in group.commands[name].params:
        assert getattr(option, "help", None), f"{name}: {option.name}"


def test_the_version_is_told() -> None:
    assert run("--version") == (0, f"refusal-steering {refusal_steering.__version__}\n")


def test_a_mistyped_command_is_named() -> None:
    status, text = run("evaluat")
    assert status == 2
    assert "'evaluat'" in text and "Did you mean 'evaluate'" in text


@pytest.mark.parametrize(
    ("line", "place", "offered"),
    [("refusal-steering insp", "1", "inspect"), ("refusal-steering inspect --js", "2", "--json")],
)
def test_a_shell_completes_commands_and_options(line: str, place: str, offered: str) -> None:
    asked = {"_REFUSAL_STEERING_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": place}
    status, text = run(**asked)
    assert (status, text.split()) == (0, [offered])
