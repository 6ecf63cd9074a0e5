"""How servers end and why they do not start: rows 50 to 52, 57, 71, and 72."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from pathlib import Path

import httpx2

from tests.attack.rows.row import HELLO, Row, Target, refused
from tests.attack.rows.servers import start_that_fails
from tests.server.fixtures.live import CHAT
from tests.server.fixtures.states import eventually, halted

STREAM = {"messages": HELLO, "max_tokens": 600, "min_tokens": 600, "stream": True}


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _reason(target: Target) -> str:
    return str(httpx2.get(f"{target.ops}/ready", timeout=60).json().get("reason"))


def _drained(target: Target) -> str:
    server, children = target.server, target.server.descendants()
    with server.client() as client, client.stream("POST", CHAT, json=STREAM) as answer:
        events = answer.iter_lines()
        next(events)
        with halted(server.engine):
            server.signal(signal.SIGTERM)
            eventually(lambda: _reason(target) == "shutting_down")
            seen = refused([server.chat()], 503, code="shutting_down")
        rest = [line for line in events if line]
    assert rest[-1] == "data: [DONE]"
    code = server.process.wait(60)
    assert code == 0, f"exit code {code}"
    eventually(lambda: not any(map(_alive, children)))
    return f"{seen}, the stream ends well, exit code 0, no process left"


def _at_once(target: Target) -> str:
    server, children = target.server, target.server.descendants()
    with server.client() as client, client.stream("POST", CHAT, json=STREAM) as answer:
        events = answer.iter_lines()
        next(events)
        with halted(server.engine), contextlib.suppress(httpx2.TransportError):
            server.signal(signal.SIGTERM)
            eventually(lambda: _reason(target) == "shutting_down")
            started = time.monotonic()
            server.signal(signal.SIGTERM)
            server.process.wait(60)
    took = time.monotonic() - started
    assert took < 5.0, f"it took {took:.1f} s"
    eventually(lambda: not any(map(_alive, children)))
    return f"ended after {took:.1f} s, no process left"


def _engine_killed(target: Target) -> str:
    server = target.server
    with server.client() as client, client.stream("POST", CHAT, json=STREAM) as answer:
        events = answer.iter_lines()
        next(events)
        os.kill(server.engine, signal.SIGKILL)
        rest = [line for line in events if line]
    assert '"engine_dead"' in rest[-1], rest[-1]
    assert "data: [DONE]" not in rest
    code = server.process.wait(60)
    assert code == 1, f"exit code {code}"
    return "the stream ends with the error engine_dead, exit code 1"


def _killed(target: Target) -> str:
    children = target.server.descendants()
    target.server.signal(signal.SIGKILL)
    eventually(lambda: not any(map(_alive, children)), 30.0)
    return f"its {len(children)} processes end with it"


def _not_started(target: Target) -> str:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        lines = [
            start_that_fails(target, "--port", port),
            start_that_fails(target, "--ops-port", port),
            start_that_fails(target, "--port", "48123", "--ops-port", "48123"),
        ]
    assert all(port in line for line in lines[:2]), lines
    audit = start_that_fails(target, "--audit.file", "/proc/audit.jsonl")
    few = start_that_fails(target, open_files=64)
    assert "audit" in audit
    assert "open at once" in few
    return "exit code 2 and one line before the model is loaded (5)"


DRAIN = (Row((50,), "SIGTERM under load", "503, streams end, exit code 0", _drained),)
TWICE = (
    Row((51, 72), "second SIGTERM while the engine hangs", "at once, no process left", _at_once),
)
ENGINE = (Row((52,), "the engine is killed", "an error event, exit code 1", _engine_killed),)
KILL = (Row((71,), "SIGKILL of the server", "its children die with it", _killed),)
START = (
    Row((57,), "ports taken, audit file, few open files", "one line, exit code 2", _not_started),
)
