"""A server is ready when every one of its processes says so, and goes on saying so."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from refusal_server.http.health import Health
from refusal_server.shared.database import Database
from refusal_server.shared.roll import SILENT_SECONDS, Roll


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def rolls(tmp_path: Path, clock: Clock) -> list[Roll]:
    return [Roll(Database(tmp_path / "shared.sqlite"), place, 3, clock) for place in range(3)]


def test_others_start_until_each_has_spoken(rolls: list[Roll]) -> None:
    assert rolls[0].others() == "starting"
    rolls[1].answer(None)
    assert rolls[0].others() == "starting"
    rolls[2].answer("starting")
    assert rolls[0].others() == "starting"
    rolls[2].answer(None)
    assert rolls[0].others() is None
    assert [roll.leads for roll in rolls] == [True, False, False]


@pytest.mark.parametrize("reason", ["not_answering", "shutting_down", "engine_dead"])
def test_what_keeps_one_process_keeps_the_server(rolls: list[Roll], reason: str) -> None:
    for roll in rolls:
        roll.answer(None)
    rolls[2].answer(reason)  # type: ignore[arg-type]
    health = Health(lambda: False, rolls[0].others, started=True)
    assert health.own is None
    assert health.reason == reason
    assert health.closed is None


def test_a_process_that_stands_still_is_noticed(rolls: list[Roll], clock: Clock) -> None:
    for roll in rolls:
        roll.answer(None)
    clock.now = SILENT_SECONDS + 1
    rolls[2].answer(None)
    assert rolls[0].others() == "not_answering"
    assert rolls[2].others() == "not_answering"
    rolls[1].answer(None)
    assert rolls[0].others() is None


def test_a_process_says_again_and_again_how_it_is(rolls: list[Roll]) -> None:
    async def run() -> None:
        rolls[1].answer(None)
        keeping = asyncio.create_task(rolls[2].keep(lambda: "not_answering"))
        async with asyncio.timeout(20):
            while rolls[0].others() != "not_answering":
                await asyncio.sleep(0.01)
        keeping.cancel()

    asyncio.run(run())


def test_a_roll_that_cannot_be_read_is_no_good_news(tmp_path: Path) -> None:
    database = Database(tmp_path / "shared.sqlite")
    roll = Roll(database, 0, 2)
    database.run("DROP TABLE roll")
    assert roll.others() == "not_answering"
    roll.answer(None)
