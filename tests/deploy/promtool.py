"""Prometheus' own checker, where it is installed."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.needs import need

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
RULES = sorted((PROMETHEUS / "rules").glob("*.yml"))


def promtool(*arguments: str | Path, stdin: bytes | None = None) -> str:
    """What ``promtool`` prints; fails the test on another exit status than 0, skips without it."""
    need("promtool")
    command = ["promtool", *map(str, arguments)]
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=120, check=False)
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, said
    return said
