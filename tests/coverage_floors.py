"""Coverage of every room after a measured run, against the floors in pyproject.toml.

    python -m coverage run -m pytest -n 2 ...
    python -m coverage combine && python -m tests.coverage_floors

coverage.py knows one floor for everything; ``[tool.coverage_floors]`` has one for each room, and
``all`` for both packages together. Shares count statements and branches, as coverage.py's own do.
Exit status 1 when one is not reached.
"""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from typing import Any

from coverage import Coverage

ROOT = Path(__file__).resolve().parents[1]
ALL = "all"


@dataclass(frozen=True, slots=True)
class Covered:
    """Statements and branches of some code, and how many of them a run has passed."""

    passed: int = 0
    total: int = 0

    def __add__(self, other: Covered) -> Covered:
        return Covered(self.passed + other.passed, self.total + other.total)

    @property
    def percent(self) -> float:
        """The share that was passed; all of nothing is covered."""
        return 100.0 * self.passed / self.total if self.total else 100.0


def main() -> int:
    """Print a line for each room; return a process exit status."""
    rooms = by_room(_report()["files"])
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    floors: dict[str, float] = settings["tool"]["coverage_floors"]
    sys.stdout.writelines(f"{line}\n" for line in table(rooms, floors))
    low = below(rooms, floors)
    sys.stdout.writelines(f"coverage: {line}\n" for line in low)
    return 1 if low else 0


def by_room(files: Mapping[str, Any]) -> dict[str, Covered]:
    """Coverage by room, and of ``all``, from the files of coverage.py's JSON report."""
    rooms: dict[str, Covered] = {}
    for path, found in files.items():
        summary = found["summary"]
        one = Covered(
            summary["covered_lines"] + summary["covered_branches"],
            summary["num_statements"] + summary["num_branches"],
        )
        for name in (room_of(path), ALL):
            rooms[name] = rooms.get(name, Covered()) + one
    return rooms


def room_of(path: str) -> str:
    """The room of a source file, as ``package.folder``; ``package`` for files beside the rooms."""
    parts = PurePath(path).parts
    start = next(at for at, part in enumerate(parts) if part.startswith("refusal_"))
    return ".".join(parts[start : min(start + 2, len(parts) - 1)])


def table(rooms: Mapping[str, Covered], floors: Mapping[str, float]) -> Iterable[str]:
    """One line for each room: its coverage, and its floor where it has one."""
    yield f"{'coverage, statements and branches':<40} {'passed':>12} {'%':>6} {'floor':>6}"
    for name in sorted(rooms, key=lambda name: (name == ALL, name)):
        one, floor = rooms[name], floors.get(name)
        shown = "" if floor is None else f"{floor:.0f}"
        yield f"{name:<40} {f'{one.passed}/{one.total}':>12} {one.percent:6.1f} {shown:>6}"


def below(rooms: Mapping[str, Covered], floors: Mapping[str, float]) -> list[str]:
    """What is wrong: rooms below their floor, and floors of rooms that are not there."""
    problems = [f"no room is named {name}" for name in floors if name not in rooms]
    return problems + [
        f"{name} has {rooms[name].percent:.1f} %, expected at least {floor:.0f} %"
        for name, floor in floors.items()
        if name in rooms and rooms[name].percent < floor
    ]


def _report() -> Any:
    measured = Coverage(config_file=str(ROOT / "pyproject.toml"))
    measured.load()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "coverage.json"
        measured.json_report(outfile=str(path))
        return json.loads(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    sys.exit(main())
