"""How a server ends: drained on SIGTERM, cut on the second, with an error when the engine dies."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.server.fixtures.live import CHAT, LiveServer, running
from tests.server.fixtures.states import eventually, halted

pytestmark = [pytest.mark.engine, pytest.mark.slow]

BODY = {
    "messages": [{"role": "user", "content": "hello"}],
    "max_tokens": 600,
    "min_tokens": 600,
    "n": 4,
    "stream": True,
}


@pytest.fixture
def own(tmp_path: Path) -> Iterator[LiveServer]:
    with running(tmp_path) as live:
        yield live


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def exit_code(live: LiveServer) -> int:
    # Long before the drain time would be over.
    return live.process.wait(60)


def reason(live: LiveServer) -> str | None:
    """Why it is not ready."""
    found = httpx2.get(f"{live.url}/ready").json().get("reason")
    return None if found is None else str(found)


def test_sigterm_turns_work_away_finishes_streams_and_exits_with_0(own: LiveServer) -> None:
    children = own.descendants()
    with own.client() as client, client.stream("POST", CHAT, json=BODY) as response:
        events = response.iter_lines()
        next(events)
        # The stream cannot end before the server has been asked.
        with halted(own.engine):
            own.signal(signal.SIGTERM)
            eventually(lambda: reason(own) == "shutting_down")
            assert own.ready_status == 503
            refused = own.chat()
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "shutting_down"
        assert int(refused.headers["retry-after"]) > 0
        rest = [line for line in events if line]
    assert rest[-1] == "data: [DONE]"
    assert sum('"finish_reason":"length"' in line for line in rest) == BODY["n"]
    assert exit_code(own) == 0
    eventually(lambda: not any(alive(pid) for pid in children))


def test_a_second_sigterm_cuts_the_streams(own: LiveServer) -> None:
    got: list[str] = []
    with own.client() as client, client.stream("POST", CHAT, json=BODY) as response:
        events = response.iter_lines()
        got.append(next(events))
        with halted(own.engine), contextlib.suppress(httpx2.TransportError):
            own.signal(signal.SIGTERM)
            eventually(lambda: reason(own) == "shutting_down")
            own.signal(signal.SIGTERM)
            got.extend(events)
    assert "data: [DONE]" not in got
    exit_code(own)


def test_a_killed_engine_ends_streams_with_an_error_and_the_server_with_1(own: LiveServer) -> None:
    with own.client() as client, client.stream("POST", CHAT, json=BODY) as response:
        events = response.iter_lines()
        next(events)
        os.kill(own.engine, signal.SIGKILL)
        rest = [line for line in events if line]
    assert '"engine_dead"' in rest[-1]
    assert "data: [DONE]" not in rest
    with contextlib.suppress(httpx2.TransportError):
        assert own.ready_status == 503
    assert exit_code(own) == 1
