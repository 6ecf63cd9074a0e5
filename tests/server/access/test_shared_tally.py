"""Budgets and places of several processes are exact, and what cannot be counted is refused."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import sqlite3
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refusal_server.access.denials import Denials, Reason
from refusal_server.access.shared_tally import SharedTally
from refusal_server.access.tally import LocalTally, Tally, uncounted
from refusal_server.caller import Caller, Origin
from refusal_server.errors import ApiError
from refusal_server.events import NoEvents
from refusal_server.shared.database import Database
from tests.server.fixtures.spending import spend

CLIENTS = 8
RATE = 100
PLACES = 5


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def shared(folder: Path, clock: Callable[[], float], patience: float = 5.0) -> SharedTally:
    return SharedTally(Database(folder / "shared.sqlite", patience), clock)


def entered(tally: Tally, room: str, most: int, times: int) -> list[bool]:
    """Whether each of so many attempts has found a place."""
    return [asyncio.run(tally.enter(room, most)) is not None for _ in range(times)]


def _spend(folder: Path, start: Any, out: Any) -> None:
    caller = Caller("k", requests_per_minute=RATE, tokens_per_minute=RATE)

    async def all_of_it() -> Counter[str]:
        async with AsyncExitStack() as held:
            passed = await spend(shared(folder, lambda: 0.0), caller, RATE, 3, PLACES, held)
            start.wait()
        return passed

    start.wait()
    out.put(asyncio.run(all_of_it()))


def test_eight_processes_at_once_spend_exactly_one_budget(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    shared(tmp_path, lambda: 0.0)
    start, out = context.Barrier(CLIENTS), context.Queue()
    clients = [context.Process(target=_spend, args=(tmp_path, start, out)) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    found = [out.get(timeout=120) for _ in clients]
    for client in clients:
        client.join(60)
        assert client.exitcode == 0
    assert sum(passed["requests"] for passed in found) == RATE
    assert sum(passed["tokens"] for passed in found) == RATE // 3
    assert sum(passed["places"] for passed in found) == PLACES
    # Everything held was given back.
    tally = shared(tmp_path, lambda: 0.0)
    room = json.dumps(["things_exceeded", "k"])
    assert entered(tally, room, PLACES, PLACES + 1) == [True] * PLACES + [False]


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(("a", "b")),
            st.integers(0, 12),
            st.sampled_from((5, 10)),
            st.floats(0, 30, allow_nan=False),
        ),
        max_size=30,
    )
)
@settings(max_examples=25, deadline=None)
def test_a_shared_budget_is_the_budget_of_one_process(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int, float]]
) -> None:
    clock = Clock()
    folder = tmp_path_factory.mktemp("shared")
    both = [shared(folder, clock), shared(folder, clock)]
    alone = LocalTally(clock)
    for number, (bucket, cost, rate, seconds) in enumerate(steps):
        clock.now += seconds
        shares = [one.take(bucket, cost, rate) for one in (both[number % 2], alone)]
        assert asyncio.run(shares[0]) == asyncio.run(shares[1])


@pytest.fixture(params=["local", "shared"])
def tally(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Tally]:
    yield LocalTally() if request.param == "local" else shared(tmp_path, Clock())


def test_a_room_holds_so_many_and_a_place_comes_back(tally: Tally) -> None:
    leave = asyncio.run(tally.enter("r", 2))
    assert leave is not None
    assert entered(tally, "r", 2, 2) == [True, False]
    assert entered(tally, "s", 1, 1) == [True]
    leave()
    assert entered(tally, "r", 2, 2) == [True, False]


def test_what_cannot_be_counted_is_refused_and_places_stay_taken(tmp_path: Path) -> None:
    tally = shared(tmp_path, Clock(), patience=0.01)
    leave = asyncio.run(tally.enter("r", 1))
    assert leave is not None
    other = sqlite3.connect(tmp_path / "shared.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    asks: list[Callable[[], Coroutine[Any, Any, object]]] = [
        lambda: tally.take("b", 1, 10),
        lambda: tally.enter("r", 9),
    ]
    for ask in asks:
        with pytest.raises(ApiError) as caught:
            asyncio.run(ask())
        assert (caught.value.status, caught.value.code) == (503, "limits_unavailable")
        assert caught.value.headers["retry-after"] == "1"
    leave()
    other.execute("ROLLBACK")
    assert entered(tally, "r", 1, 1) == [False]


def test_what_cannot_be_counted_is_no_denial_of_what_was_asked() -> None:
    denied: list[object] = []

    class Counter:
        def count_denied(self, reason: Reason, tenant: str | None) -> None:
            denied.append(reason)

    denials = Denials(Counter(), NoEvents())
    for error in (uncounted(), ApiError(429, "too much")):
        with pytest.raises(ApiError), denials.noted(Origin(Caller("k"), "r")):
            raise error
    assert denied == ["budget"]
