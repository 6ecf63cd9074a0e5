"""Budgets and places that replicas share in a store are exact, and never open without it."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from refusal_server.access.fleet_store import FleetStore
from refusal_server.access.fleet_tally import FleetTally
from refusal_server.access.places import Places
from refusal_server.access.tally import LocalTally
from refusal_server.caller import Caller
from refusal_server.errors import ApiError
from tests.server.fixtures.spending import spend
from tests.server.fixtures.states import halted
from tests.server.fixtures.store import Store, storing

CLIENTS = 8
RATE = 60
TOKENS = 60_000
COST = 300
PLACES = 5
# Long enough for any machine, and for a test that never waits for its end.
LONG = 600.0
BRIEF = 2.0


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with storing(tmp_path_factory.mktemp("store")) as store:
        yield store


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Store]:
    """A store that a test may kill."""
    with storing(tmp_path) as store:
        yield store


@asynccontextmanager
async def tallies(
    store: Store, count: int = 1, lease: float = LONG, patience: float = 30.0
) -> AsyncIterator[list[FleetTally]]:
    found = [
        FleetTally(FleetStore(store.url, store.password_file, patience), lease)
        for _ in range(count)
    ]
    try:
        yield found
    finally:
        for tally in found:
            await tally.close()


async def until(holds: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(60):
        while not await holds():
            await asyncio.sleep(0.02)


def run(script: Callable[[], Any]) -> None:
    asyncio.run(script())


def test_eight_clients_over_two_replicas_spend_exactly_one_budget(running: Store) -> None:
    caller = Caller("eight", requests_per_minute=RATE, tokens_per_minute=TOKENS)

    async def script() -> None:
        async with tallies(running, 2) as replicas, AsyncExitStack() as held:
            began = time.monotonic()
            clients = [
                spend(replicas[number % 2], caller, RATE, COST, PLACES, held)
                for number in range(CLIENTS)
            ]
            passed = sum(await asyncio.gather(*clients), Counter[str]())
            minutes = (time.monotonic() - began) / 60
            # What a bucket earns meanwhile, and the last part of a request that it had at first.
            assert RATE <= passed["requests"] <= RATE + RATE * minutes + 1
            assert TOKENS / COST <= passed["tokens"] <= TOKENS / COST * (1 + minutes) + 1
            assert passed["places"] == PLACES

    run(script)


def test_a_shared_bucket_is_the_bucket_of_one_process(running: Store) -> None:
    async def script() -> None:
        async with tallies(running, 2) as replicas:
            alone = LocalTally()
            for number, cost in enumerate((10, 25, 30, 7, 28, 0, 60, 61)):
                began = time.monotonic()
                expected = await alone.take("b", cost, RATE)
                found = await replicas[number % 2].take("shared", cost, RATE)
                # Both fill by one in a second; between the two questions something is earned.
                assert found == pytest.approx(expected, abs=time.monotonic() - began + 0.5)

    run(script)


def test_a_place_comes_back_when_its_request_ends_in_whatever_way(running: Store) -> None:
    async def script() -> None:
        async with tallies(running, 2) as (one, other):
            places = Places("things", "things_exceeded", one)

            async def free() -> bool:
                leave = await other.enter('["things_exceeded", "ends"]', 1)
                if leave is not None:
                    leave()
                return leave is not None

            async def hold(inside: Callable[[], Awaitable[object]]) -> None:
                async with places.of_key(Caller("ends"), 1):
                    await inside()

            async def fail() -> None:
                assert not await free()
                raise RuntimeError("it failed")

            with pytest.raises(RuntimeError):
                await hold(fail)
            await until(free)
            waiting = asyncio.Event()

            async def wait() -> None:
                waiting.set()
                await asyncio.Event().wait()

            aborted = asyncio.create_task(hold(wait))
            await waiting.wait()
            assert not await free()
            aborted.cancel()
            await until(free)

    run(script)


def test_a_caller_that_leaves_while_it_is_asked_for_a_place_holds_none(running: Store) -> None:
    async def script() -> None:
        async with tallies(running, 2) as (one, other):
            for steps in range(12):
                room = f"left {steps}"
                asked = asyncio.create_task(one.enter(room, 1))
                for _ in range(steps):
                    await asyncio.sleep(0)
                if asked.done():
                    break
                asked.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asked

                async def free(room: str = room) -> bool:
                    return await other.enter(room, 1) is not None

                await until(free)

    run(script)


def _hold(store: Store, ready: Any) -> None:
    async def script() -> None:
        tally = FleetTally(FleetStore(store.url, store.password_file), BRIEF)
        assert await tally.enter("died", 1) is not None
        ready.set()
        await asyncio.Event().wait()

    asyncio.run(script())


async def _lease_ends(known: Redis) -> float:
    (found,) = await known.zrange("refusal-server:room:died", 0, -1, withscores=True)
    return float(found[1])


def test_a_place_is_held_while_its_process_lives_and_free_after_it_died(running: Store) -> None:
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    client = context.Process(target=_hold, args=(running, ready))
    client.start()
    assert ready.wait(60)

    async def script() -> None:
        async with tallies(running) as (tally,), running.client() as known:
            ends = await _lease_ends(known)

            async def renewed() -> bool:
                return await _lease_ends(known) > ends + BRIEF

            await until(renewed)
            assert client.pid is not None
            os.kill(client.pid, signal.SIGKILL)

            async def free() -> bool:
                return await tally.enter("died", 1) is not None

            await until(free)

    run(script)
    client.join(60)


def _refused(error: pytest.ExceptionInfo[ApiError]) -> None:
    assert (error.value.status, error.value.code) == (503, "limits_unavailable")
    assert error.value.headers["retry-after"] == "1"


def test_without_the_store_nothing_is_let_through_and_with_it_everything_counts_again(
    own: Store, caplog: pytest.LogCaptureFixture
) -> None:
    async def script() -> None:
        async with tallies(own, lease=BRIEF) as (tally,):
            leave = await tally.enter("room", 1)
            assert leave is not None
            own.stop()
            caplog.clear()
            for _ in range(3):
                with pytest.raises(ApiError) as caught:
                    await tally.take("bucket", 1, RATE)
                _refused(caught)
                with pytest.raises(ApiError) as caught:
                    await tally.enter("room", 9)
                _refused(caught)
            assert len(caplog.records) == 1 and "cannot be counted" in caplog.text
            own.start()
            async with own.client() as known:
                # It has forgotten everything; the place is renewed, for its request runs.
                room = "refusal-server:room:room"
                await until(lambda: known.zcard(room))
                assert await tally.take("bucket", 1, RATE) == 0
                leave()

                async def empty() -> bool:
                    return await known.zcard(room) == 0

                await until(empty)

    with caplog.at_level(logging.INFO):
        run(script)
    assert "again" in caplog.text


def test_a_store_that_stands_still_is_not_waited_for(own: Store) -> None:
    async def script() -> None:
        async with tallies(own, patience=0.2) as (tally,):
            assert own.process is not None
            await until(lambda: _counts(tally))
            with halted(own.process.pid):
                with pytest.raises(ApiError) as caught:
                    await tally.take("bucket", 1, RATE)
                _refused(caught)
            await until(lambda: _counts(tally))

    run(script)


async def _counts(tally: FleetTally) -> bool:
    try:
        return await tally.take("patient", 0, RATE) == 0
    except ApiError:
        return False


def test_a_user_needs_these_commands_and_keys_and_no_others(own: Store, tmp_path: Path) -> None:
    rights = [
        *("~refusal-server:*", "+select", "+evalsha", "+script|load", "+time", "+hmget", "+hset"),
        *("+expire", "+zadd", "+zcard", "+zrem", "+zremrangebyscore"),
    ]

    async def script() -> None:
        async with own.client() as known:
            acl = ("ACL", "SETUSER", "me", "on", ">me-too", *rights)
            await known.execute_command(*acl)  # type: ignore[no-untyped-call]
            path = tmp_path / "of_me"
            path.write_text("me-too\n")
            url = own.url.replace("//", "//me@").replace("/0", "/1")
            tally = FleetTally(FleetStore(url, path, 30.0), LONG)
            assert await tally.take("bucket", 1, RATE) == 0
            leave = await tally.enter("room", 1)
            assert leave is not None and await tally.enter("room", 1) is None
            leave()

            async def free() -> bool:
                return await tally.enter("room", 1) is not None

            await until(free)
            await tally.close()

    run(script)


@pytest.mark.parametrize("content", ["geheim", "", None])
def test_a_wrong_password_is_refused_and_never_told(
    running: Store, tmp_path: Path, content: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "password"
    if content is not None:
        path.write_text(content)

    async def script() -> None:
        tally = FleetTally(FleetStore(running.url, path, 30.0))
        with pytest.raises(ApiError) as caught:
            await tally.enter("room", 1)
        _refused(caught)
        await tally.close()

    run(script)
    assert "cannot be counted" in caplog.text and "geheim" not in caplog.text
