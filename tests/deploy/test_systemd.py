"""The unit starts what is installed, and gives it the time that it needs to end."""

from __future__ import annotations

import shlex
import tomllib
from pathlib import Path

from refusal_server.settings import Settings
from tests.deploy.promtool import ROOT

UNIT = ROOT / "deploy" / "systemd" / "refusal-server.service"


def unit() -> dict[str, list[str]]:
    """Values by key; keys of a unit may be repeated."""
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def test_it_runs_a_console_script_of_the_package_with_a_configuration() -> None:
    (command,) = unit()["ExecStart"]
    program, option, path = shlex.split(command)
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert Path(program).name in scripts and Path(program).is_absolute()
    assert option == "--config" and Path(path).is_absolute()


def test_answers_in_flight_end_before_the_process_is_killed() -> None:
    (seconds,) = unit()["TimeoutStopSec"]
    assert int(seconds.removesuffix("s")) >= Settings().drain_seconds + 30
    assert unit()["KillMode"] == ["mixed"]
    assert "HUP" in unit()["ExecReload"][0]


def test_what_it_writes_lies_in_its_state_folder() -> None:
    (state,) = unit()["StateDirectory"]
    folders = [value.partition("=")[2] for value in unit()["Environment"] if "/" in value]
    assert folders and all(Path(f).is_relative_to(f"/var/lib/{state}") for f in folders)
    assert unit()["ProtectSystem"] == ["strict"] and unit()["NoNewPrivileges"] == ["yes"]
