"""Which rows a step steers: a law over every way of cutting a sequence into steps."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from refusal_steering.directive import Directive
from refusal_steering.runtime.plan import FIRST_SLOT, RequestSlots

PROMPT = 11


def directive(**changes: object) -> Directive:
    return Directive(**{"bundle": "b", "policy": "p", "policy_version": "v", **changes})  # type: ignore[arg-type]


def steered_positions(table: RequestSlots, cuts: list[int]) -> list[int]:
    """Positions that are steered when one request runs in chunks of the given sizes."""
    positions, start = [], 0
    for size in cuts:
        plan = table.plan(["n", "r"], [5, start], [3, size])
        positions += [row.at - 3 + start for row in plan.rows]
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
    rows = table.plan(["r"], [0], [PROMPT + 3]).rows
    assert {row.request_slot for row in rows} == {rows[0].owner}
    assert [row.computes for row in rows] == [True, False, False, False]


def test_rows_that_earn_their_own_strength_never_share_a_slot() -> None:
    table = RequestSlots(request_slots=4, scratch=64)
    table.admit("a", PROMPT, directive(hold=False), bundle_slot=1)
    table.admit("b", PROMPT, directive(hold=False), bundle_slot=2)
    rows = table.plan(["a", "b"], [PROMPT, PROMPT], [4, 4]).rows
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
    rows = table.plan([str(n) for n in range(50)], [0] * 50, [1] * 50).rows
    assert min(row.request_slot for row in rows) >= FIRST_SLOT


def test_bundle_slots_of_known_requests_are_in_use() -> None:
    table = RequestSlots(request_slots=2, scratch=1)
    table.admit("a", 1, directive(), 3)
    assert table.bundle_slots_in_use == {3}
    table.release(["a"])
    assert not table.bundle_slots_in_use
