"""Without its extra, a command says in one line which one it needs; with it, it starts."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from refusal_steering.tools.cli import COMMANDS
from tests.behaviour import fresh

# These read rows with packages that the project itself does not need.
NEED_MORE = {"build": "calibrate", "calibrate": "calibrate", "report": "calibrate"}
NEED_MORE |= {
    "evaluate": "evaluate",
    "gate": "calibrate",
    "phenomena": "calibrate",
    "risks": "calibrate",
    "thresholds": "calibrate",
    "train": "calibrate",
}
ADVICE = re.compile(
    r"refusal-steering: `(\w+)` needs \w+, which is not installed; the extra `(\w+)` brings it: "
    r"(\S+)/python -m pip install 'refusal-steering\[\2\]'\n"
)


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Programs of an environment with the engine and the demo's extra alone."""
    return fresh.make(tmp_path_factory.mktemp("bare") / ".venv", wheel, ("demo",))


# All commands in one process: importing what they share takes longest. A module that could not be
# imported is tried again by the next command, as in a process of its own.
ASK_ALL = """
import contextlib, io, json, sys
from refusal_steering.tools import cli

found = {}
for name in sys.argv[1:]:
    out, err = io.StringIO(), io.StringIO()
    sys.argv = ["refusal-steering", name, "--help"]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main()
        except SystemExit as ended:
            status = ended.code
    found[name] = (status, out.getvalue(), err.getvalue())
print(json.dumps(found))
"""


def helps(programs: Path, commands: Iterable[str]) -> dict[str, tuple[int, str, str]]:
    """Status, output and errors of ``COMMAND --help`` for every command."""
    words = [str(programs / "python"), "-c", ASK_ALL, *commands]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=300)
    found: dict[str, tuple[int, str, str]] = json.loads(done.stdout)
    return found


def test_a_missing_extra_is_one_line_with_the_command_that_brings_it(bare: Path) -> None:
    advised = {}
    for name, (status, out, err) in helps(bare, COMMANDS).items():
        if status == 0:
            continue
        said = ADVICE.fullmatch(err)
        assert (status, out) == (2, "") and said is not None, err
        assert (said[1], said[3]) == (name, str(bare))
        advised[name] = said[2]
    assert advised == NEED_MORE


def test_the_program_says_it_too(bare: Path) -> None:
    words = [str(bare / "refusal-steering"), "build", "--help"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stdout) == (2, "") and ADVICE.fullmatch(done.stderr)


def test_with_the_extras_of_make_install_every_command_starts(checkout: Path) -> None:
    for name, (status, _, err) in helps(checkout / ".venv" / "bin", NEED_MORE).items():
        assert status == 0, (name, err)


def test_the_wheel_is_typed_and_has_its_data(checkout: Path) -> None:
    (packages,) = (checkout / ".venv").glob("lib/python3*/site-packages")
    for name in (
        "refusal_server/py.typed",
        "refusal_server/console/templates/console.html",
        "refusal_steering/py.typed",
        "refusal_steering/prompts/data/harmful.jsonl",
        "refusal_steering/detection/head.json",
    ):
        assert (packages / name).is_file(), name
    (metadata,) = packages.glob("refusal_steering-*.dist-info")
    assert {path.name for path in (metadata / "licenses").iterdir()} == {"LICENSE", "NOTICE"}
