"""Ready means that an answer was just proven."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from refusal_server.http.health import Health
from refusal_server.run.heartbeat import Heartbeat

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def healthy() -> Health:
    return Health(lambda: False, started=True)


def beating(health: Health, ask: Callable[[], Awaitable[object]]) -> Heartbeat:
    return Heartbeat(health, ask, interval=3600.0, patience=0.05)


async def _fails() -> None:
    raise RuntimeError("no slot")


async def _hangs() -> None:
    await asyncio.Event().wait()


async def _answers() -> None:
    pass


@pytest.mark.parametrize("ask", [_fails, _hangs])
async def test_a_server_without_an_answer_is_not_ready_and_still_takes_work(
    ask: Callable[[], Awaitable[None]],
) -> None:
    health = healthy()
    await beating(health, ask).beat()
    assert health.reason == "not_answering"
    assert health.closed is None


async def test_an_answer_makes_it_ready_again() -> None:
    health = healthy()
    await beating(health, _fails).beat()
    await beating(health, _answers).beat()
    assert health.reason is None
    health.silent = True
    health.answered()
    assert health.reason is None


async def test_a_busy_server_whose_callers_are_answered_is_ready() -> None:
    health = healthy()

    async def overtaken() -> None:
        health.answered()
        raise RuntimeError("the queue is full")

    await beating(health, overtaken).beat()
    assert health.reason is None


async def test_an_error_is_followed_by_a_proof_at_once() -> None:
    health, asked = healthy(), asyncio.Event()
    health.answered()

    async def ask() -> None:
        asked.set()

    task = asyncio.create_task(beating(health, ask).run())
    try:
        health.doubt()
        await asyncio.wait_for(asked.wait(), 30)
    finally:
        task.cancel()


async def test_nothing_is_asked_of_a_server_that_is_closed() -> None:
    health = Health(lambda: True, started=True)
    health.doubt()
    task = asyncio.create_task(beating(health, _fails).run())
    await asyncio.sleep(1.2)
    task.cancel()
    assert not health.silent
