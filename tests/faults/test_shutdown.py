"""How a server ends: drained on SIGTERM, cut on the second, with an error when the engine dies."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.server.fixtures.live import CHAT, LiveServer, running

pytestmark = [pytest.mark.engine, pytest.mark.slow]

BODY = {
    "messages": [{"role": "user", "content": "hello"}],
    "max_tokens": 1900,
    "min_tokens": 1900,
    "n": 6,
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


def exit_code(live: LiveServer, seconds: float) -> int:
    return live.process.wait(seconds)


def test_sigterm_turns_work_away_finishes_streams_and_exits_with_0(own: LiveServer) -> None:
    children = own.descendants()
    with own.client() as client, client.stream("POST", CHAT, json=BODY) as response:
        events = response.iter_lines()
        next(events)
        own.signal(signal.SIGTERM)
        time.sleep(0.3)
        ready = httpx2.get(f"{own.url}/ready")
        assert (ready.status_code, ready.json()["reason"]) == (503, "shutting_down")
        refused = own.chat()
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "shutting_down"
        assert int(refused.headers["retry-after"]) > 0
        rest = [line for line in events if line]
    assert rest[-1] == "data: [DONE]"
    assert sum('"finish_reason":"length"' in line for line in rest) == BODY["n"]
    assert exit_code(own, 60) == 0
    deadline = time.monotonic() + 10
    while left := [pid for pid in children if alive(pid)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.2)


def test_a_second_sigterm_cuts_the_streams(own: LiveServer) -> None:
    started = time.monotonic()
    with contextlib.suppress(httpx2.TransportError):
        with own.client() as client, client.stream("POST", CHAT, json=BODY) as response:
            events = response.iter_lines()
            next(events)
            own.signal(signal.SIGTERM)
            time.sleep(0.2)
            own.signal(signal.SIGTERM)
            done = list(events)
        assert "data: [DONE]" not in done
    exit_code(own, 40)
    assert time.monotonic() - started < 40


def test_a_killed_engine_ends_streams_with_an_error_and_the_server_with_1(own: LiveServer) -> None:
    core = next(pid for pid, name in own.descendants().items() if "EngineCore" in name)
    with own.client() as client, client.stream("POST", CHAT, json=BODY) as response:
        events = response.iter_lines()
        next(events)
        os.kill(core, signal.SIGKILL)
        rest = [line for line in events if line]
    assert '"engine_dead"' in rest[-1]
    assert "data: [DONE]" not in rest
    with contextlib.suppress(httpx2.TransportError):
        assert own.ready_status == 503
    assert exit_code(own, 30) == 1
