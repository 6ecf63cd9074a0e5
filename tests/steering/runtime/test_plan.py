"""Which rows a step steers: a law over every way of cutting a sequence into steps."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from refusal_steering.directive import Directive
from refusal_steering.runtime.plan import FIRST_SLOT
from refusal_steering.runtime.requests import RequestSlots
from tests.steering.runtime.row_by_row import Admitted, planned
from tests.steering.runtime.steps import blends_of, reports_of, rows_of

PROMPT = 11


def directive(**changes: object) -> Directive:
    return Directive(**{"bundle": "b", "policy": "p", "policy_version": "v", **changes})  # type: ignore[arg-type]


# Numbers that 32 bits hold, so that columns of them lose nothing.
DIRECTIVES = st.builds(
    directive,
    decode_tokens=st.none() | st.integers(0, 6),
    hold=st.booleans(),
    strength=st.sampled_from([0.0, 0.5, 2.0]),
    shadow=st.booleans(),
    media=st.lists(st.sampled_from(["image", "audio", "video"]), max_size=6).map(tuple),
    dose_limit=st.none() | st.just(0.25),
    blend=st.none() | st.just(0.5),
    blend_tokens=st.integers(0, 3),
)
# A request's directive or none, its prompt, its first position and its rows in the step.
REQUESTS = st.tuples(
    st.none() | DIRECTIVES, st.integers(1, 9), st.integers(0, 14), st.integers(1, 9)
)


@given(batch=st.lists(REQUESTS, max_size=8), arrays=st.booleans())
def test_columns_are_what_one_row_after_the_other_gives(
    batch: list[tuple[Directive | None, int, int, int]], arrays: bool
) -> None:
    table, known = RequestSlots(request_slots=8, scratch=99), dict[str, Admitted]()
    for number, (wanted, length, _, _) in enumerate(batch):
        if wanted is not None:
            slot = table.admit(str(number), length, wanted, bundle_slot=1 + number % 3)
            assert slot is not None
            known[str(number)] = Admitted(wanted, 1 + number % 3, slot, length - 1)
    names = [str(number) for number in range(len(batch))]
    first, count = [request[2] for request in batch], [request[3] for request in batch]
    given_as = (np.array(first), np.array(count)) if arrays else (first, count)
    plan = table.plan(names, *given_as)
    step = list(zip(names, first, count, strict=True))
    rows, reports, blends = planned(known, FIRST_SLOT + 8, step)
    assert (rows_of(plan), reports_of(plan), blends_of(plan)) == (rows, reports, blends)
    assert not rows or (plan.tokens, plan.requests) == (sum(count), len(batch))
    last = [(row.owner, row.at) for row in rows if row.computes and row.request_slot == row.owner]
    assert [at for _, at in table.last_prompt_rows(plan)] == [at for _, at in last]


def steered_positions(table: RequestSlots, cuts: list[int]) -> list[int]:
    """Positions that are steered when one request runs in chunks of the given sizes."""
    positions, start = [], 0
    for size in cuts:
        plan = table.plan(["n", "r"], [5, start], [3, size])
        positions += [row.at - 3 + start for row in rows_of(plan)]
        start += size
    return positions


@given(
    cuts=st.lists(st.integers(1, 9), min_size=8, max_size=20),
    window=st.none() | st.integers(0, 6),
    hold=st.booleans(),
)
def test_only_absolute_positions_decide(cuts: list[int], window: int | None, hold: bool) -> None:
    table = RequestSlots(request_slots=4, scratch=64)
    assert table.admit("r", PROMPT, directive(decode_tokens=window, hold=hold), bundle_slot=1)
    end = sum(cuts) if window is None else min(sum(cuts), PROMPT + window)
    assert steered_positions(table, cuts) == list(range(PROMPT - 1, end))


def test_holding_rows_share_one_slot_and_only_the_last_prompt_token_computes() -> None:
    table = RequestSlots(request_slots=4, scratch=64)
    table.admit("r", PROMPT, directive(), bundle_slot=2)
    rows = rows_of(table.plan(["r"], [0], [PROMPT + 3]))
    assert {row.request_slot for row in rows} == {rows[0].owner}
    assert [row.computes for row in rows] == [True, False, False, False]


def test_rows_that_earn_their_own_strength_never_share_a_slot() -> None:
    table = RequestSlots(request_slots=4, scratch=64)
    table.admit("a", PROMPT, directive(hold=False), bundle_slot=1)
    table.admit("b", PROMPT, directive(hold=False), bundle_slot=2)
    rows = rows_of(table.plan(["a", "b"], [PROMPT, PROMPT], [4, 4]))
    assert len({row.request_slot for row in rows}) == 8
    assert all(row.computes for row in rows)
    assert len({row.owner for row in rows}) == 2


def test_slots_run_out_openly_and_come_back() -> None:
    table = RequestSlots(request_slots=2, scratch=1)
    assert table.admit("a", 1, directive(), 1) and table.admit("b", 1, directive(), 1)
    assert not table.admit("c", 1, directive(), 1)
    assert table.admit("a", 1, directive(), 1), "a preempted request keeps its request slot"
    table.release(["b", "unsteered"])
    assert table.admit("c", 1, directive(), 1)


def test_slot_zero_and_the_trash_slot_are_never_given_away() -> None:
    table = RequestSlots(request_slots=50, scratch=1)
    for number in range(50):
        assert table.admit(str(number), 1, directive(), 1)
    rows = rows_of(table.plan([str(n) for n in range(50)], [0] * 50, [1] * 50))
    assert min(row.request_slot for row in rows) >= FIRST_SLOT


def test_bundle_slots_of_known_requests_are_in_use() -> None:
    table = RequestSlots(request_slots=2, scratch=1)
    table.admit("a", 1, directive(), 3)
    assert table.bundle_slots_in_use == {3}
    table.release(["a"])
    assert not table.bundle_slots_in_use
