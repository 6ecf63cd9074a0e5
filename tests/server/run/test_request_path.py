"""The way of one chat request through the server: its rooms in order, and no way back into chat."""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from tests.server.fixtures import request_path
from tests.server.fixtures.media import image_part
from tests.server.fixtures.request_path import ENGINE, LIBRARY, Way, way_of

PAGE = Path(__file__).parents[3] / "docs/design/request_path.md"
SEEN = [{"role": "user", "content": [{"type": "text", "text": "How?"}, image_part()]}]
REPORT = {"policy": "omnisteer", "report": True}
CHATS: dict[str, dict[str, Any]] = {
    "plain": {},
    "unsteered": {"steering": {"policy": "off"}},
    "streamed": {"stream": True},
    "reported": {"steering": REPORT},
    "with an image": {"messages": SEEN},
    "streamed with a report and an image": {
        "messages": SEEN,
        "stream": True,
        "steering": REPORT,
    },
    "assessed first": {"steering": {"policy": "cascade", "report": True}},
    "drafted first": {"response_format": {"type": "json_object"}},
}
ANSWERING = {"chat/answer.py", "chat/stream.py", "chat/attempt.py", "chat/report.py"}


def of_the_server(way: Way) -> list[str]:
    return [file for file in way.files if not file.startswith(LIBRARY)]


def test_a_chat_passes_the_rooms_in_this_order(tmp_path: Path) -> None:
    before, after = " ".join(way_of(tmp_path).visits).split(" ENGINE ")
    assert before.split() == [
        *("http", "access", "policy", "routes", "http", "access"),
        *("chat", "access", "policy", "access", "media"),
        *("access", "policy", "access", "chat", "http"),
        *("chat", "telemetry", "policy", "telemetry", "policy", "library"),
    ]
    assert after.split() == [
        *("library", "detection", "telemetry", "detection", "library"),
        # The HTTP request is counted when its answer is out.
        *("http", "policy", "telemetry", "http"),
    ]


@pytest.mark.parametrize("chat", CHATS.values(), ids=CHATS)
def test_only_the_answer_comes_back_into_chat(chat: dict[str, Any], tmp_path: Path) -> None:
    after = way_of(tmp_path, **chat).after
    passed = {step.file for step in after if step.room == "chat"}
    assert passed and passed <= ANSWERING
    ended = next(n for n, step in enumerate(after) if step.function == "Observer.ended")
    done = {step.file for step in after[ended:] if step.room in ("chat", "policy", "routes")}
    # What is left is to give the lease back.
    assert done == {"policy/policy_lease.py", "policy/policy_store.py"}


def test_the_way_is_written_down(tmp_path: Path) -> None:
    named = re.findall(r"^\| \d+ \| `([a-z_/]+\.py)` \|", PAGE.read_text(), re.MULTILINE)
    passed = of_the_server(way_of(tmp_path))
    assert named == passed, f"write {PAGE.name} anew from {request_path.__name__}"


def test_its_figures_are_those_of_today(tmp_path: Path) -> None:
    way, page = way_of(tmp_path), PAGE.read_text()
    rooms = [room for room, _ in groupby(way.after, key=lambda step: step.room)]
    today = re.findall(r"^\| ([a-z/` ]+) \| \d+ \| (\d+) \|$", page, re.MULTILINE)
    assert {name: int(count) for name, count in today} == {
        "visits of rooms": len(way.visits) - 1,
        "visits of a room that was visited before": way.returns,
        "times that code in `chat/` starts again after the engine": rooms.count("chat"),
        "files of the server": len(of_the_server(way)),
    }
    order = re.findall(
        r"`([a-z]+)`|(engine) >", page[page.index("The plain chat makes") :].split("\n\n")[1]
    )
    assert [room or ENGINE for room, _ in order] == way.visits
