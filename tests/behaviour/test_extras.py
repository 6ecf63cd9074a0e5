"""Without its extra, a command says in one line which one it needs; with it, it starts."""

from __future__ import annotations

import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
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


def help_of(programs: Path, command: str) -> subprocess.CompletedProcess[str]:
    words = [str(programs / "refusal-steering"), command, "--help"]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)


def test_a_missing_extra_is_one_line_with_the_command_that_brings_it(bare: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        found = dict(zip(COMMANDS, pool.map(lambda c: help_of(bare, c), COMMANDS), strict=True))
    advised = {}
    for name, done in found.items():
        if done.returncode == 0:
            continue
        said = ADVICE.fullmatch(done.stderr)
        assert (done.returncode, done.stdout) == (2, "") and said is not None, done.stderr
        assert (said[1], said[3]) == (name, str(bare))
        advised[name] = said[2]
    assert advised == NEED_MORE


def test_with_the_extras_of_make_install_every_command_starts(checkout: Path) -> None:
    programs = checkout / ".venv" / "bin"
    with ThreadPoolExecutor(2) as pool:
        for name, done in zip(
            NEED_MORE, pool.map(lambda c: help_of(programs, c), NEED_MORE), strict=True
        ):
            assert done.returncode == 0, (name, done.stderr)


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
