"""Rollback: step by step, over restarts, never to what has changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.fixtures.ops import POLICY, Ops, code
from tests.server.fixtures.ranks import Rig


@pytest.fixture
def ops(tmp_path: Path) -> Iterator[Ops]:
    yield Ops(tmp_path)


def test_rollback_goes_back_step_by_step_and_outlives_a_restart(ops: Ops) -> None:
    assert code(ops.client.post(POLICY + "/rollback")) == (409, "no_history")
    versions, texts = [ops.version], [ops.rig.path.read_text()]
    for seed in (1, 2):
        assert ops.put(ops.rig.text(seed), ops.version).status_code == 200
        versions.append(ops.version)
        texts.append(ops.rig.path.read_text())
    assert ops.client.get(POLICY).json()["history"] == versions[1::-1]
    again = Rig.reopened(ops.rig.folder)
    assert again.store.history.versions == versions[1::-1]
    stale = ops.client.post(POLICY + "/rollback", headers={"if-match": versions[0]})
    assert code(stale) == (412, "precondition_failed")
    for number in (1, 0):
        response = ops.client.post(POLICY + "/rollback")
        assert response.status_code == 200
        assert ops.version == versions[number] == response.json()["version"]
        assert ops.rig.path.read_text() == texts[number]
    assert code(ops.client.post(POLICY + "/rollback")) == (409, "no_history")
    assert ops.rig.events.seen[-1].source == "rollback"


def test_a_rollback_to_bundles_that_have_changed_is_refused(ops: Ops) -> None:
    assert ops.put(ops.rig.text(1), ops.version).status_code == 200
    version = ops.version
    (ops.rig.folder / "b0" / "manifest.json").unlink()
    assert code(ops.client.post(POLICY + "/rollback")) == (400, "invalid_policy")
    ops.rig.folder.joinpath("b0").rename(ops.rig.folder / "gone")
    ops.rig.folder.joinpath("b1").rename(ops.rig.folder / "b0")
    assert code(ops.client.post(POLICY + "/rollback")) == (409, "policy_not_restorable")
    assert ops.version == version


def test_the_history_is_bounded_in_memory_and_on_disk(ops: Ops) -> None:
    for seed in range(1, 7):
        assert ops.put(ops.rig.text(seed), ops.version).status_code == 200
    assert len(ops.rig.store.history.versions) == 3
    assert len(list((ops.rig.folder / "policy.yaml.history").iterdir())) == 3
