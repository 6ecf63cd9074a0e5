"""Budgets and places of several processes are exact, and what cannot be counted is refused."""

from __future__ import annotations

import multiprocessing
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refusal_server.access.budget import Budgets
from refusal_server.access.places import Places
from refusal_server.access.shared_tally import SharedTally
from refusal_server.access.tally import LocalTally, Tally
from refusal_server.caller import Caller
from refusal_server.errors import ApiError
from refusal_server.shared.database import Database

CLIENTS = 8
RATE = 100
PLACES = 5


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def shared(folder: Path, clock: Callable[[], float], patience: float = 5.0) -> SharedTally:
    return SharedTally(Database(folder / "shared.sqlite", patience), clock)


def _spend(folder: Path, start: Any, out: Any) -> None:
    tally = shared(folder, lambda: 0.0)
    budgets = Budgets(tally)
    caller = Caller("k", requests_per_minute=RATE, tokens_per_minute=RATE)
    places = Places("things", "things_exceeded", tally)
    start.wait()
    passed = {"requests": 0, "tokens": 0, "places": 0}
    with ExitStack() as held:
        for _ in range(RATE):
            spending: dict[str, Callable[[], None]] = {
                "requests": lambda: budgets.spend_request(caller),
                "tokens": lambda: budgets.spend_tokens(caller, 3),
                "places": lambda: held.enter_context(places.of_key(caller, PLACES)),
            }
            for name, spend in spending.items():
                try:
                    spend()
                    passed[name] += 1
                except ApiError as error:
                    assert error.status == 429, error
        start.wait()
    out.put(passed)


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
    assert [tally.enter("x", PLACES) for _ in range(PLACES + 1)] == [True] * PLACES + [False]
    with Places("things", "things_exceeded", tally).of_key(Caller("k"), 1):
        pass


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
        assert both[number % 2].take(bucket, cost, rate) == alone.take(bucket, cost, rate)


@pytest.fixture(params=["local", "shared"])
def tally(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Tally]:
    yield LocalTally() if request.param == "local" else shared(tmp_path, Clock())


def test_a_room_holds_so_many_and_a_place_comes_back(tally: Tally) -> None:
    assert [tally.enter("r", 2) for _ in range(3)] == [True, True, False]
    assert tally.enter("s", 1)
    tally.leave("r")
    assert [tally.enter("r", 2) for _ in range(2)] == [True, False]


def test_what_cannot_be_counted_is_refused_and_places_stay_taken(tmp_path: Path) -> None:
    tally = shared(tmp_path, Clock(), patience=0.01)
    assert tally.enter("r", 1)
    other = sqlite3.connect(tmp_path / "shared.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for ask in (lambda: tally.take("b", 1, 10), lambda: tally.enter("r", 9)):
        with pytest.raises(ApiError) as caught:
            ask()
        assert (caught.value.status, caught.value.code) == (503, "limits_unavailable")
        assert caught.value.headers["retry-after"] == "1"
    tally.leave("r")
    other.execute("ROLLBACK")
    assert not tally.enter("r", 1)
