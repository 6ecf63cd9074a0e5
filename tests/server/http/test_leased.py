"""A request's lease ends with its response, however that ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from refusal_server.run.app import build_app
from refusal_server.settings import Settings
from tests.server.fixtures.bundles import write_bundle
from tests.server.fixtures.console_rig import ConsoleRig
from tests.server.fixtures.scripted import Call, Script


class Caller:
    """One chat request on the wire of the application, whose answer waits for ``go``."""

    def __init__(self, rig: ConsoleRig, **fields: Any) -> None:
        self.reached, self.go, self.left = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.sent: list[Any] = []
        self._body = json.dumps({"messages": [{"role": "user", "content": "How?"}], **fields})
        rig.talker.before = self._before
        self.task = asyncio.create_task(self._call(rig))

    async def _before(self, call: Call) -> None:
        self.reached.set()
        await self.go.wait()

    async def _call(self, rig: ConsoleRig) -> None:
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "path": "/v1/chat/completions",
            "query_string": b"",
            "headers": [(b"host", b"x"), (b"content-type", b"application/json")],
            "client": ("127.0.0.1", 1),
        }
        messages = [{"type": "http.request", "body": self._body.encode(), "more_body": False}]

        async def receive() -> Any:
            if messages:
                return messages.pop()
            await self.left.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            self.sent.append(message)

        await build_app(rig.service, Settings())(scope, receive, send)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])


@pytest.fixture
def rig(tmp_path: Path) -> ConsoleRig:
    return ConsoleRig(tmp_path, script=Script())


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(story)


async def overtake(rig: ConsoleRig, times: int = 2) -> str:
    """The bundle of the default policy is replaced ``times`` times; the first one's digest."""
    bundle = rig.store.current.policies["static"].bundle
    assert bundle is not None
    for seed in range(1, 1 + times):
        write_bundle(rig.path.parent / "static", hidden=8, seed=seed)
        assert await rig.store.reload()
    return bundle.digest


async def settled(rig: ConsoleRig, digest: str) -> None:
    """What the request held is free again, and nothing else is held."""
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.gather(*others, return_exceptions=True)
    assert len(rig.store.leases) == 0
    assert digest not in rig.ranks.held
    assert rig.ranks.held == rig.store.current.digests


@pytest.mark.parametrize("stream", [False, True])
def test_a_queued_request_that_changes_overtake_is_answered_under_what_it_chose(
    rig: ConsoleRig, stream: bool
) -> None:
    async def story() -> None:
        version = rig.store.current.version
        caller = Caller(rig, stream=stream)
        await caller.reached.wait()
        digest = await overtake(rig)
        assert digest in rig.ranks.held
        caller.go.set()
        await caller.task
        assert caller.status == 200
        assert f"version={version}".encode() in dict(caller.sent[0]["headers"])[b"x-steering"]
        await settled(rig, digest)

    run(story())


def test_an_error_of_the_engine_ends_the_lease(rig: ConsoleRig) -> None:
    async def story() -> None:
        rig.talker.says["answer"] = RuntimeError("broken")
        caller = Caller(rig)
        await caller.reached.wait()
        digest = await overtake(rig)
        caller.go.set()
        await caller.task
        assert caller.status == 500
        await settled(rig, digest)

    run(story())


def test_a_caller_who_leaves_a_queue_ends_the_lease(rig: ConsoleRig) -> None:
    async def story() -> None:
        caller = Caller(rig)
        await caller.reached.wait()
        digest = await overtake(rig)
        caller.left.set()
        await caller.task
        await settled(rig, digest)

    run(story())


def test_a_task_that_is_cancelled_ends_the_lease(rig: ConsoleRig) -> None:
    async def story() -> None:
        caller = Caller(rig)
        await caller.reached.wait()
        digest = await overtake(rig)
        caller.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller.task
        await settled(rig, digest)

    run(story())


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": []},
        {"steering": {"policy": "nowhere"}},
        {"model": "another"},
        {"temperature": "hot"},
    ],
)
def test_a_refused_request_holds_nothing(rig: ConsoleRig, fields: dict[str, Any]) -> None:
    async def story() -> None:
        caller = Caller(rig, **fields)
        await caller.task
        assert 400 <= caller.status < 500
        assert len(rig.store.leases) == 0

    run(story())


def test_a_stream_holds_its_policy_until_its_last_event(rig: ConsoleRig) -> None:
    async def story() -> None:
        caller, held = Caller(rig, stream=True), list[int]()
        await caller.reached.wait()

        class Sent(list[Any]):
            def append(self, message: Any) -> None:
                held.append(len(rig.store.leases))
                super().append(message)

        caller.sent = Sent()
        caller.go.set()
        await caller.task
        assert len(held) > 2
        assert set(held) == {1}
        assert len(rig.store.leases) == 0

    run(story())


def test_many_requests_leave_no_lease(rig: ConsoleRig) -> None:
    async def story() -> None:
        for number in range(40):
            caller = Caller(rig, stream=number % 2 == 0, n=1 + number % 3)
            caller.go.set()
            await caller.task
            assert caller.status == 200
        assert len(rig.store.leases) == 0

    run(story())
