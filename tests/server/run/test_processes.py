"""The process that starts the others passes signals on, waits for them, and says how it went."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from refusal_server.run.processes.engine_watch import end_with
from refusal_server.run.processes.parent import Members, plain
from refusal_server.run.startup import StartupError, bind, bind_for
from refusal_server.settings import load_settings

CONTEXT = multiprocessing.get_context("fork")
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def _member(up: Any, hups: Any, codes: tuple[int, int], patience: float) -> None:
    """Ends with ``codes[0]`` when told to, ``patience`` later, or with ``codes[1]`` by itself."""
    told = threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: told.set())
    signal.signal(signal.SIGHUP, lambda *_: hups.release())
    up.release()
    if codes[1] >= 0:
        os._exit(codes[1])
    while not told.is_set():
        time.sleep(0.01)
    time.sleep(patience)
    os._exit(codes[0])


class Crew:
    """Processes that do as they are told, under :class:`Members` in this process."""

    def __init__(self, codes: Sequence[tuple[int, int]], patience: float = 0.0) -> None:
        self.up, self.hups = CONTEXT.Semaphore(0), CONTEXT.Semaphore(0)
        self.processes = [
            CONTEXT.Process(target=_member, args=(self.up, self.hups, code, patience))
            for code in codes
        ]
        for process in self.processes:
            process.start()
        for _ in self.processes:
            assert self.up.acquire(timeout=60)

    def run(self, *steps: Callable[[], object], drain_seconds: float = 60.0) -> int:
        """The status of :class:`Members`; the steps are done in a thread meanwhile."""

        def act() -> None:
            time.sleep(0.2)
            for step in steps:
                step()

        acting = threading.Thread(target=act)
        acting.start()
        status = Members(self.processes, drain_seconds).run()
        acting.join(60)
        return status


def tell(number: signal.Signals) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_all_drain_when_the_server_is_told_to_stop(number: signal.Signals) -> None:
    assert Crew([(0, -1), (0, -1)], patience=0.3).run(tell(number)) == 0


def test_a_reload_reaches_every_process() -> None:
    crew = Crew([(0, -1), (0, -1)])
    steps = [
        tell(signal.SIGHUP),
        lambda: [crew.hups.acquire(timeout=30) for _ in crew.processes],
        tell(signal.SIGTERM),
    ]
    assert crew.run(*steps) == 0


def test_one_that_ends_by_itself_ends_the_server_and_the_others_drain() -> None:
    crew = Crew([(0, -1), (0, 0)], patience=0.3)
    began = time.monotonic()
    assert crew.run() == 1
    assert time.monotonic() - began >= 0.3
    assert crew.processes[0].exitcode == 0


@pytest.mark.parametrize(("codes", "status"), [((1, -1), 1), ((2, -1), 2)])
def test_the_worst_status_is_the_servers(codes: tuple[int, int], status: int) -> None:
    assert Crew([(0, -1), codes]).run(tell(signal.SIGTERM)) == status


def test_told_twice_it_ends_at_once() -> None:
    crew = Crew([(0, -1), (0, -1)], patience=600)
    again = [tell(signal.SIGTERM), lambda: time.sleep(0.3), tell(signal.SIGTERM)]
    assert crew.run(*again) == 1
    assert {process.exitcode for process in crew.processes} == {-signal.SIGKILL}


def test_one_that_does_not_end_in_time_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("refusal_server.run.processes.parent._GRACE_SECONDS", 0.2)
    assert Crew([(0, -1)], patience=600).run(tell(signal.SIGTERM), drain_seconds=0.2) == 1


def test_settings_reach_another_process_whole(tmp_path: Path) -> None:
    path = tmp_path / "server.yaml"
    path.write_text("server: {policy_file: p.yaml, admin_key: secret, limits: {grammars: 3}}\n")
    found = load_settings(["--config", str(path), "--api-server-count", "3", "--dtype", "float32"])
    sent = pickle.loads(pickle.dumps(plain(found)))
    for name in type(sent).model_fields:
        assert getattr(sent, name) == getattr(found, name)
    assert (sent.api_server_count, sent.admin, sent.limits.grammars) == (3, "secret", 3)


def test_the_kernel_spreads_connections_over_processes_that_share_a_port() -> None:
    listeners = bind_for(2, "127.0.0.1", 0)
    port = listeners[0].getsockname()[1]
    assert {listener.getsockname()[1] for listener in listeners} == {port}
    for listener in listeners:
        listener.listen(64)
        listener.settimeout(5)
    callers = [socket.create_connection(("127.0.0.1", port)) for _ in range(48)]
    reached = [0, 0]
    for place, listener in enumerate(listeners):
        listener.setblocking(False)
        while True:
            try:
                listener.accept()[0].close()
            except BlockingIOError:
                break
            reached[place] += 1
    assert sum(reached) == 48
    assert all(reached)
    # Neither another server nor one of several processes gets the port meanwhile.
    for other in (lambda: bind("127.0.0.1", port), lambda: bind_for(2, "127.0.0.1", port)):
        with pytest.raises(StartupError, match="choose another --port"):
            other()
    for opened in (*callers, *listeners):
        opened.close()


def test_the_end_of_an_engines_process_is_noticed() -> None:
    import asyncio

    async def run() -> None:
        ended = asyncio.Event()
        engine = SimpleNamespace(
            errored=False, engine_core=SimpleNamespace(shutdown=lambda: ended.set())
        )
        process = CONTEXT.Process(target=time.sleep, args=(600,))
        process.start()
        assert process.pid is not None
        end_with([process.pid], engine)
        await asyncio.sleep(0.1)
        assert not ended.is_set()
        process.kill()
        async with asyncio.timeout(30):
            await ended.wait()
        process.join()
        ended.clear()
        end_with([process.pid], engine)
        assert ended.is_set()

    asyncio.run(run())
