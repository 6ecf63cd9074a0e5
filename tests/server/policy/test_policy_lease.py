"""Bundles of former policies stay loaded exactly while a request holds a lease on them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from refusal_server.policy.policy_lease import PolicyLease
from refusal_steering.errors import BundleError, SteeringError
from tests.server.fixtures.bundles import write_bundle
from tests.server.fixtures.ranks import Rig


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(story)


async def settled() -> None:
    """Everything that was begun in the background has ended."""
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.gather(*others)


async def change(rig: Rig, seed: int) -> str:
    """Another policy comes into force; its bundle's digest."""
    rig.use(seed)
    assert await rig.store.reload()
    return rig.digest


def test_a_request_that_two_changes_overtake_finds_its_bundle(rig: Rig) -> None:
    async def story() -> None:
        await rig.store.start()
        first, lease = rig.digest, rig.store.lease()
        second = await change(rig, 1)
        assert rig.ranks.held == {first, second}
        third = await change(rig, 2)
        assert rig.ranks.held == {first, third}, "nobody holds the second"
        assert lease.policies.digests == {first}
        lease.release()
        await settled()
        assert rig.ranks.held == {third}

    run(story())


def test_a_change_of_words_alone_takes_nothing_away(rig: Rig) -> None:
    async def story() -> None:
        await rig.store.start()
        first, lease = rig.digest, rig.store.lease()
        rig.path.write_text("# a comment\n" + rig.path.read_text())
        assert await rig.store.reload()
        second = await change(rig, 1)
        assert rig.ranks.held == {first, second}
        lease.release()
        await settled()
        assert rig.ranks.held == {second}

    run(story())


def two_bundles(rig: Rig) -> tuple[str, str]:
    digests = [write_bundle(rig.folder / name, hidden=8, seed=9 + at).digest for at, name in POLES]
    rules = {name: {"mode": "enforce", "bundle": name} for _, name in POLES}
    policies = {**rules, "off": {"mode": "off"}}
    rig.path.write_text(yaml.safe_dump({"default": "north", "policies": policies}))
    return digests[0], digests[1]


POLES = list(enumerate(("north", "south")))


@pytest.mark.parametrize(
    ("chosen", "kept"), [("north", {0}), ("south", {1}), ("off", set()), (None, {0, 1})]
)
def test_a_request_holds_what_it_has_chosen_and_before_that_all(
    rig: Rig, chosen: str | None, kept: set[int]
) -> None:
    async def story() -> None:
        both = two_bundles(rig)
        assert await rig.store.reload()
        lease = rig.store.lease()
        if chosen is not None:
            lease.keep(lease.policies.policies[chosen])
        newest = await change(rig, 3)
        assert rig.ranks.held == {newest, *(both[at] for at in kept)}
        assert len(rig.store.leases) == (1 if kept else 0)
        lease.release()
        await settled()
        assert rig.ranks.held == {newest}

    run(story())


def test_a_choice_after_the_change_frees_the_rest(rig: Rig) -> None:
    async def story() -> None:
        north, south = two_bundles(rig)
        assert await rig.store.reload()
        lease = rig.store.lease()
        newest = await change(rig, 3)
        assert rig.ranks.held == {north, south, newest}
        lease.keep(lease.policies.policies["south"])
        await settled()
        assert rig.ranks.held == {south, newest}

    run(story())


@pytest.mark.parametrize("error", [RuntimeError, asyncio.CancelledError, KeyboardInterrupt])
def test_whatever_ends_the_block_ends_the_lease(rig: Rig, error: type[BaseException]) -> None:
    async def story() -> None:
        await rig.store.start()
        with pytest.raises(error), rig.store.lease():
            assert len(rig.store.leases) == 1
            newest = await change(rig, 1)
            raise error
        assert len(rig.store.leases) == 0
        await settled()
        assert rig.ranks.held == {newest}

    run(story())


def test_a_lease_that_is_given_back_twice_takes_nobody_elses(rig: Rig) -> None:
    async def story() -> None:
        await rig.store.start()
        first, mine, other = rig.digest, rig.store.lease(), rig.store.lease()
        newest = await change(rig, 1)
        mine.release()
        mine.release()
        await settled()
        assert rig.ranks.held == {first, newest}
        other.release()
        await settled()
        assert rig.ranks.held == {newest}

    run(story())


def test_leases_of_the_policy_in_force_bother_no_rank(rig: Rig) -> None:
    async def story() -> None:
        await rig.store.start()
        rig.ranks.calls.clear()
        for _ in range(1000):
            with rig.store.lease() as lease:
                lease.keep(lease.policies.policies["main"])
        await settled()
        assert (rig.ranks.calls, len(rig.store.leases)) == ([], 0)

    run(story())


def test_ranks_that_cannot_free_now_are_told_again_by_the_next_change(rig: Rig) -> None:
    async def story() -> None:
        await rig.store.start()
        first, lease = rig.digest, rig.store.lease()
        second = await change(rig, 1)
        rig.ranks.fail["retire"] = SteeringError("a rank does not answer")
        lease.release()
        await settled()
        assert rig.ranks.held == {first, second}
        rig.ranks.fail.clear()
        third = await change(rig, 2)
        assert rig.ranks.held == {third}

    run(story())


@pytest.mark.parametrize("step", ["load", "acknowledge", "check"])
def test_a_change_that_fails_leaves_no_bundle_behind(rig: Rig, step: str) -> None:
    async def story() -> None:
        await rig.store.start()
        first = rig.digest
        rig.use(1)
        rig.ranks.fail[step] = BundleError("no")
        assert not await rig.store.reload()
        assert rig.ranks.held == {first}

    run(story())


STEPS = st.lists(
    st.sampled_from(["begin", "choose", "end", "change", "fail"]), min_size=1, max_size=25
)


@given(steps=STEPS, picks=st.randoms(use_true_random=False))
@hypothesis_settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_after_any_story_the_ranks_hold_what_is_in_force_and_what_is_held(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str], picks: Any
) -> None:
    rig = Rig(tmp_path_factory.mktemp("story"))

    async def story() -> None:
        await rig.store.start()
        leases: list[PolicyLease] = []
        for number, step in enumerate(steps):
            if step == "begin":
                leases.append(rig.store.lease())
            elif step == "choose" and leases:
                lease = picks.choice(leases)
                lease.keep(lease.policies.policies["main"])
            elif step == "end" and leases:
                leases.pop(picks.randrange(len(leases))).release()
            elif step == "change":
                await change(rig, number % 4)
            elif step == "fail":
                rig.use(7)
                rig.ranks.fail["check"] = BundleError("no")
                assert not await rig.store.reload()
                rig.ranks.fail.clear()
            await settled()
            held = {digest for lease in leases for digest in lease.policies.digests}
            assert rig.ranks.held == held | rig.store.current.digests
            assert len(rig.store.leases) == len(leases)

    run(story())
