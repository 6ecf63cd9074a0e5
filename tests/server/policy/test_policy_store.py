from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from refusal_steering.errors import BundleError, CanaryError, SteeringError
from tests.server.fixtures.bundles import write_bundle
from tests.server.fixtures.ranks import Rig


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


def test_a_reload_makes_room_loads_tests_and_frees_what_nobody_needs(rig: Rig) -> None:
    rig.start()
    seen = {rig.store.current.version}
    for seed in (1, 2):
        rig.use(seed)
        assert rig.reload()
        assert rig.ranks.calls == ["retire", "load", "acknowledge", "check", "retire"]
        assert rig.ranks.held == {rig.digest}
        seen.add(rig.store.current.version)
    assert len(seen) == 3


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
    assert rig.ranks.held == {rig.digest}
    assert rig.ranks.gauges[-1] == rig.store.current.version != good.version


@pytest.mark.parametrize("text", [None, "", "default: main\npol", "default: x\npolicies: {}"])
def test_a_deleted_or_broken_file_keeps_the_last_good_policy_until_it_is_mended(
    rig: Rig, text: str | None
) -> None:
    rig.start()
    good, fixed = rig.store.current, rig.path.read_text()
    if text is None:
        rig.path.unlink()
    else:
        rig.path.write_text(text)
    assert not rig.reload()
    assert rig.store.current is good
    rig.path.write_text(fixed)
    assert rig.reload()
    assert rig.ranks.gauges[-1] == good.version


def _damage_bundle(rig: Rig) -> None:
    rig.use(1)
    (weights,) = (rig.folder / "b1").glob("weights-*")
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")


def _remove_bundle(rig: Rig) -> None:
    rig.use(1)
    (rig.folder / "b1" / "manifest.json").unlink()


def _use_another_models_bundle(rig: Rig) -> None:
    rig.use(1)
    write_bundle(rig.folder / "b1", hidden=16)


def _write(content: bytes) -> Callable[[Rig], None]:
    def write(rig: Rig) -> None:
        rig.path.write_bytes(content)

    return write


@pytest.mark.parametrize(
    "breakage",
    [
        lambda rig: rig.path.unlink(),
        _write(b""),
        _write(b"default: main\npolicies: {main: {mode: enf"),
        _write(b"default: main\npolicies: {main: {mode: enforce}}"),
        _write(b"\tdefault: ["),
        _write(b"\xff\xfe"),
        _write(b"{[a]: b}"),
        _write(b"default: 2026-99-99"),
        _write(b"[" * 5000),
        _write(b"- main"),
        lambda rig: rig.use(0, strenght=1.0),
        lambda rig: rig.use(0, strength=99.0),
        lambda rig: rig.path.write_text(rig.text(0).replace("b0", "nowhere")),
        lambda rig: rig.path.write_text(rig.text(0).replace("b0", "vector.pt")),
        _damage_bundle,
        _remove_bundle,
        _use_another_models_bundle,
    ],
)
def test_no_broken_file_reaches_a_rank_or_unseats_the_last_good_policy(
    rig: Rig, breakage: Callable[[Rig], None]
) -> None:
    rig.start()
    good = rig.store.current
    breakage(rig)
    assert not rig.reload()
    assert rig.store.current is good
    assert rig.ranks.calls == []
    assert rig.ranks.gauges[-1] == "failed"
    rig.use(2)
    assert rig.reload()
    assert rig.store.current is not good


def test_every_change_is_told_once_with_where_it_came_from(rig: Rig) -> None:
    rig.start()
    first = rig.store.current.version
    assert rig.reload()
    rig.use(1)
    assert rig.reload()
    assert not rig.path.write_text("") and not rig.reload()
    told = [(event.before, event.after, event.source) for event in rig.events.seen]
    assert told == [(None, first, "start"), (first, rig.store.current.version, "file")]
    assert rig.events.seen[-1].bundles == (rig.digest,)
