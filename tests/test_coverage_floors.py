"""The floors are judged by room, and by the same arithmetic as coverage.py's."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from tests.coverage_floors import ALL, ROOT, Covered, below, by_room, room_of, table


def file(lines: int, statements: int, passed: int = 0, branches: int = 0) -> dict[str, Any]:
    return {
        "summary": {
            "covered_lines": lines,
            "num_statements": statements,
            "covered_branches": passed,
            "num_branches": branches,
        }
    }


FILES = {
    "steering/refusal_steering/runtime/plan.py": file(9, 10, 1, 2),
    "steering/refusal_steering/runtime/deeper/bank.py": file(5, 5),
    "steering/refusal_steering/errors.py": file(1, 2),
    "server/refusal_server/access/key_file.py": file(0, 0),
}


def test_a_room_is_a_folder_of_a_package_with_all_below_it() -> None:
    rooms = by_room(FILES)
    assert rooms["refusal_steering.runtime"] == Covered(15, 17)
    assert rooms["refusal_steering"] == Covered(1, 2)
    assert rooms[ALL] == Covered(16, 19)
    assert rooms["refusal_server.access"].percent == 100.0
    assert room_of("/somewhere/site-packages/refusal_server/chat/risk/x.py") == (
        "refusal_server.chat"
    )


def test_what_is_below_its_floor_is_named_with_both_figures() -> None:
    rooms = by_room(FILES)
    floors = {"refusal_steering.runtime": 88.0, "refusal_steering": 51.0, ALL: 84.0}
    assert below(rooms, floors) == ["refusal_steering has 50.0 %, expected at least 51 %"]
    assert below(rooms, {"refusal_steering.runtme": 1.0}) == [
        "no room is named refusal_steering.runtme"
    ]
    assert below(rooms, {"refusal_steering": 50.0}) == []


def test_the_table_ends_with_the_sum_and_shows_floors_where_there_are_some() -> None:
    header, *lines = table(by_room(FILES), {ALL: 80.0})
    assert header.split()[-1] == "floor"
    assert lines[-1].split() == [ALL, "16/19", "84.2", "80"]
    assert lines[0].split() == ["refusal_server.access", "0/0", "100.0"]


def test_floors_in_the_configuration_are_of_rooms_that_exist() -> None:
    floors = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["coverage_floors"]
    packages = {"refusal_server": "server", "refusal_steering": "steering"}
    for name in floors.keys() - {ALL}:
        folder = Path(packages[name.partition(".")[0]], *name.split("."))
        assert (ROOT / folder).is_dir(), name
