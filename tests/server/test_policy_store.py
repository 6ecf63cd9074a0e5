from __future__ import annotations

import asyncio
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
import yaml

from refusal_server.policy import PolicySet, load_policy_set
from refusal_server.policy_store import PolicyStore
from refusal_steering.bundle import SteeringBundle
from refusal_steering.errors import BundleError, CanaryError, SteeringError
from tests.server.bundles import write_bundle


class Ranks:
    """Stands in for the workers, and notes what it is told."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.held: set[str] = set()
        self.fail: dict[str, SteeringError] = {}
        self.gauges: list[str] = []

    def _note(self, call: str) -> None:
        self.calls.append(call)
        if call in self.fail:
            raise self.fail[call]

    async def load(self, bundle: SteeringBundle) -> None:
        self._note("load")
        self.held.add(bundle.digest)

    async def retire(self, keep: Collection[str]) -> None:
        self._note("retire")
        self.held &= set(keep)

    async def acknowledge(self, policy_version: str, bundles: Collection[str]) -> None:
        self._note("acknowledge")
        assert policy_version
        assert set(bundles) <= self.held

    async def check(self, bundle: SteeringBundle) -> None:
        assert bundle.digest in self.held
        self._note("check")

    def policy_in_force(self, policies: PolicySet) -> None:
        self.gauges.append(policies.version)

    def reload_failed(self) -> None:
        self.gauges.append("failed")


class Rig:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "policy.yaml"
        self.use(0)
        self.ranks = Ranks()
        ranks = self.ranks
        self.store = PolicyStore(self.path, load_policy_set(self.path), ranks, ranks.check, ranks)

    def use(self, seed: int, **rule: Any) -> None:
        bundle = write_bundle(self.folder / f"b{seed}", hidden=8, seed=seed)
        rules = {"main": {"mode": "enforce", "bundle": f"b{seed}"} | rule}
        self.path.write_text(yaml.safe_dump({"default": "main", "policies": rules}))
        self.digest = bundle.digest

    def start(self) -> None:
        asyncio.run(self.store.start())

    def reload(self) -> bool:
        self.ranks.calls.clear()
        return asyncio.run(self.store.reload())


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def test_start_loads_acknowledges_and_tests_before_it_is_in_force(rig: Rig) -> None:
    rig.start()
    assert rig.ranks.calls == ["load", "acknowledge", "check"]
    assert rig.ranks.gauges == [rig.store.current.version]


@pytest.mark.parametrize("step", ["load", "acknowledge", "check"])
def test_a_failing_start_raises(rig: Rig, step: str) -> None:
    rig.ranks.fail[step] = CanaryError("dead hook")
    with pytest.raises(SteeringError):
        rig.start()
    assert rig.ranks.gauges == []


def test_a_reload_keeps_the_last_bundle_for_requests_on_their_way(rig: Rig) -> None:
    rig.start()
    seen = [(rig.store.current.version, rig.digest)]
    for seed in (1, 2):
        rig.use(seed)
        assert rig.reload()
        assert rig.ranks.calls == ["retire", "load", "acknowledge", "check"]
        seen.append((rig.store.current.version, rig.digest))
        assert rig.ranks.held == {digest for _, digest in seen[-2:]}
    assert len(set(seen)) == 3


def test_an_unchanged_file_touches_no_rank(rig: Rig) -> None:
    rig.start()
    assert rig.reload()
    assert rig.ranks.calls == []


def test_a_changed_rule_does_not_test_the_same_bundle_again(rig: Rig) -> None:
    rig.start()
    rig.use(0, strength=1.5)
    assert rig.reload()
    assert "check" not in rig.ranks.calls


@pytest.mark.parametrize("step", ["load", "acknowledge", "check"])
def test_a_rank_that_does_not_follow_keeps_the_last_good_policy(rig: Rig, step: str) -> None:
    rig.start()
    good, digest = rig.store.current, rig.digest
    rig.use(1)
    rig.ranks.fail[step] = BundleError("no")
    assert not rig.reload()
    assert rig.store.current is good
    assert digest in rig.ranks.held
    assert rig.ranks.gauges[-1] == "failed"
    rig.ranks.fail.clear()
    assert rig.reload()
    assert rig.ranks.held == {digest, rig.digest}
    assert rig.ranks.gauges[-1] == rig.store.current.version != good.version


@pytest.mark.parametrize("text", [None, "", "default: main\npol", "default: x\npolicies: {}"])
def test_a_deleted_or_broken_file_keeps_the_last_good_policy_until_it_is_mended(
    rig: Rig, text: str | None
) -> None:
    rig.start()
    good, mended = rig.store.current, rig.path.read_text()
    if text is None:
        rig.path.unlink()
    else:
        rig.path.write_text(text)
    assert not rig.reload()
    assert rig.store.current is good
    rig.path.write_text(mended)
    assert rig.reload()
    assert rig.ranks.gauges[-1] == good.version
