"""One row of the table: what is done to a server, what it promises, and what it did."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from tests.faults.errors import check_error
from tests.server.fixtures.live import CHAT, LiveServer

HELLO = [{"role": "user", "content": "Say hello."}]


@dataclass(frozen=True, slots=True)
class Target:
    """A running server, its ops port's address, its audit log, and the folder of its model."""

    server: LiveServer
    ops: str
    audit: Path
    model: Path

    def metric(self, name: str) -> float:
        """The sum over all series of ``name`` on the ops port; 0 where there is none."""
        lines = httpx2.get(f"{self.ops}/metrics", timeout=60).text.splitlines()
        series = (line for line in lines if line.partition("{")[0].partition(" ")[0] == name)
        return sum(float(line.rpartition(" ")[2]) for line in series)

    @property
    def busy(self) -> float:
        """Requests that the engine runs or lets wait."""
        return sum(self.metric(f"vllm:num_requests_{state}") for state in ("running", "waiting"))

    @property
    def ready(self) -> int:
        """The status of ``/ready``."""
        return httpx2.get(f"{self.ops}/ready", timeout=60).status_code

    def post(self, content: Any, path: str = CHAT, **headers: str) -> httpx2.Response:
        """Bytes, or chunks of bytes, sent as they are with the key."""
        with self.server.client() as client:
            kind = {"content-type": "application/json"}
            return client.post(path, content=content, headers={**kind, **headers})


Probe = Callable[[Target], str]


@dataclass(frozen=True, slots=True)
class Row:
    """``probe`` says what was seen; raises :class:`AssertionError` for a broken promise."""

    numbers: tuple[int, ...]
    what: str
    promise: str
    probe: Probe


@dataclass(frozen=True, slots=True)
class Untried:
    """A row that no caller can bring about, and the test that does."""

    numbers: tuple[int, ...]
    what: str
    promise: str
    test: str


def refused(answers: Iterable[httpx2.Response], *statuses: int, code: str | None = None) -> str:
    """What was seen where every answer is an error with one of ``statuses``."""
    seen: dict[str, int] = {}
    for answer in answers:
        assert answer.status_code in statuses, f"{answer.status_code}: {answer.text[:200]}"
        error = check_error(answer, answer.status_code, code)
        name = f"{answer.status_code} {error['code']}"
        seen[name] = seen.get(name, 0) + 1
    assert seen, "nothing was asked"
    return ", ".join(f"{name} ({count})" for name, count in seen.items())


def answered(answers: Iterable[httpx2.Response]) -> str:
    """What was seen where every answer is a 200."""
    codes = [answer.status_code for answer in answers]
    assert codes, "nothing was asked"
    assert set(codes) == {200}, f"answered with {sorted(set(codes))}"
    return f"200 ({len(codes)})"
