"""Work for a caller has ended, one way or another, before anybody goes on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.requests import Request

from refusal_server.http.disconnect import while_connected


class Desk:
    """A request whose caller leaves when told, and the work that is done for it."""

    def __init__(self) -> None:
        self.begun, self.leaves, self.go = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.ended = False

    @property
    def request(self) -> Request:
        messages = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> Any:
            if messages:
                return messages.pop()
            await self.leaves.wait()
            return {"type": "http.disconnect"}

        return Request({"type": "http", "headers": []}, receive)

    async def work(self) -> str:
        try:
            self.begun.set()
            await self.go.wait()
            return "done"
        finally:
            # What ends takes a while, as an abort in the engine does.
            for _ in range(5):
                await asyncio.sleep(0)
            self.ended = True


def test_the_result_or_the_error_of_the_work_is_the_callers() -> None:
    async def fail() -> None:
        raise ValueError("no")

    async def story() -> None:
        desk = Desk()
        desk.go.set()
        assert await while_connected(desk.request, desk.work()) == "done"
        with pytest.raises(ValueError, match="no"):
            await while_connected(desk.request, fail())
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(story())


def test_when_the_caller_leaves_the_work_is_ended_first() -> None:
    async def story() -> None:
        desk = Desk()
        desk.leaves.set()
        assert await while_connected(desk.request, desk.work()) is None
        assert desk.ended or not desk.begun.is_set()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(story())


def test_when_the_route_is_cancelled_the_work_is_ended_first() -> None:
    async def story() -> None:
        desk = Desk()
        route = asyncio.create_task(while_connected(desk.request, desk.work()))
        await desk.begun.wait()
        route.cancel()
        with pytest.raises(asyncio.CancelledError):
            await route
        assert desk.ended
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(story())
