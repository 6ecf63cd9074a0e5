"""Wrong keys are counted, told at a bounded rate and slowed; good keys never notice."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from refusal_server.access import wrong_keys
from refusal_server.access.tally import LocalTally
from refusal_server.access.wrong_keys import DELAY_SECONDS, FREE, MOST_WAITING, WrongKeys
from refusal_server.events import Door, NoEvents, WrongKey
from tests.server.fixtures.fair_use import WrongKeyCount
from tests.server.fixtures.keyed import CHAT, Server

DOORS: tuple[Door, ...] = ("api", "ops", "console")


class Events(NoEvents):
    def __init__(self) -> None:
        self.seen: list[WrongKey] = []

    def wrong_key(self, event: WrongKey) -> None:
        self.seen.append(event)


class Rig:
    """Wrong keys under a clock of the test's own; what sleeps waits for :attr:`morning`."""

    def __init__(self) -> None:
        self.now = 0.0
        self.asleep = 0
        self.count = WrongKeyCount()
        self.events = Events()
        self.morning = asyncio.Event()
        self.keys = WrongKeys(self.count, self.events, LocalTally(lambda: self.now), self._sleep)

    async def _sleep(self, seconds: float) -> None:
        assert seconds == DELAY_SECONDS
        self.asleep += 1
        try:
            await self.morning.wait()
        finally:
            self.asleep -= 1

    async def tries(self, count: int, door: Door = "api") -> None:
        for number in range(count):
            await self.keys.noted(door, f"r{number}", "192.0.2.1")


async def _settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_a_few_mistakes_cost_no_time_and_many_do() -> None:
    async def run() -> None:
        rig = Rig()
        assert not any([await rig.keys.noted("api", "r", None) for _ in range(FREE)])
        slowed = asyncio.create_task(rig.keys.noted("api", "r", None))
        await _settled()
        assert rig.asleep == 1 and not slowed.done()
        rig.morning.set()
        assert await slowed
        assert rig.count.seen["api"] == FREE + 1

    asyncio.run(run())


@pytest.mark.parametrize("seconds", [6.5, 61.0, 600.0, 1e9])
def test_mistakes_are_forgiven_with_time_and_never_saved_up(seconds: float) -> None:
    async def run() -> None:
        rig = Rig()
        rig.morning.set()
        await rig.tries(FREE)
        assert await rig.keys.noted("api", "r", None)
        rig.now += seconds
        free = [await rig.keys.noted("api", "r", None) for _ in range(FREE + 2)].count(False)
        assert free == min(FREE, int(seconds * FREE / 60))

    asyncio.run(run())


def test_what_waits_is_bounded_and_a_caller_that_leaves_waits_no_more() -> None:
    async def run() -> None:
        rig = Rig()
        await rig.tries(FREE)
        tasks = [asyncio.create_task(rig.tries(1)) for _ in range(3 * MOST_WAITING)]
        await _settled()
        assert rig.asleep == MOST_WAITING
        assert sum(task.done() for task in tasks) == 2 * MOST_WAITING
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert rig.asleep == 0
        slowed = asyncio.create_task(rig.tries(1))
        await _settled()
        assert rig.asleep == 1
        slowed.cancel()

    asyncio.run(run())


@pytest.mark.parametrize("door", DOORS)
def test_the_first_attempt_is_told_at_once_and_later_ones_as_a_sum(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        rig = Rig()
        rig.morning.set()
        later: list[Any] = []
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "call_later", lambda _, call, *args: later.append((call, args)))
        await rig.tries(500, door)
        assert rig.events.seen == [WrongKey("r0", door, "192.0.2.1", 1)]
        (call, args) = later.pop()
        call(*args)
        assert rig.events.seen[1:] == [WrongKey("r499", door, "192.0.2.1", 499)]
        (call, args) = later.pop()
        call(*args)
        assert len(rig.events.seen) == 2 and not later
        await rig.tries(1, door)
        assert len(rig.events.seen) == 3
        assert rig.count.seen == {door: 501}

    asyncio.run(run())


def test_each_door_has_a_line_of_its_own() -> None:
    async def run() -> None:
        rig = Rig()
        rig.morning.set()
        for door in DOORS:
            await rig.tries(50, door)
        assert [event.door for event in rig.events.seen] == list(DOORS)

    asyncio.run(run())


WRONG = [b"Bearer rs-nobody", b"Bearer wrong", b"bearer  rs-plain-", b"Bearer \xff", b"Bearer xx"]


@pytest.mark.parametrize("value", WRONG)
def test_good_keys_never_wait_whatever_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: bytes
) -> None:
    monkeypatch.setattr(wrong_keys, "DELAY_SECONDS", 0.001)
    server = Server(tmp_path)
    headers = {b"authorization": value}
    answers = [server.client.post(CHAT, json={}, headers=headers) for _ in range(FREE + 5)]
    assert {answer.status_code for answer in answers} == {401}
    assert {answer.json()["error"]["code"] for answer in answers} == {"invalid_api_key"}
    closed = ["connection" in answer.headers for answer in answers]
    assert closed == [False] * FREE + [True] * 5
    assert server.wrong_keys.seen["api"] == len(answers)
    assert server.ask("plain").status_code == 200
    assert server.denied == 0


@pytest.mark.parametrize("headers", [{}, {"authorization": "Basic eDp4"}, {"authorization": ""}])
def test_no_key_at_all_is_no_wrong_key(tmp_path: Path, headers: dict[str, str]) -> None:
    server = Server(tmp_path)
    for _ in range(2 * FREE):
        assert server.client.post(CHAT, json={}, headers=headers).status_code == 401
    assert not server.wrong_keys.seen
