"""The policy file under the watcher's eyes: nobody tells the server, and no signal is sent."""

from __future__ import annotations

import time

import pytest

from tests.operations.site import (
    FALSE_BUNDLE,
    FIRST,
    OTHER,
    RELOADED,
    Site,
    code,
    policy,
    said,
    steering,
)
from tests.server.fixtures.states import eventually

pytestmark = pytest.mark.engine
RELOAD_TIME = "steering_policy_last_reload_success_timestamp_seconds"
QUIET_SECONDS = 2.0


@pytest.mark.parametrize("in_place", [True, False], ids=["rewritten", "replaced"])
def test_a_file_that_changes_is_seen(site: Site, in_place: bool) -> None:
    expected, before = site.would_be(OTHER), time.time()
    if in_place:
        site.file.write_text(OTHER)
    else:
        site.write(OTHER)
    eventually(lambda: site.version == expected)
    assert steering(site.callers.chat())["version"] == expected
    assert site.ops.metric(RELOADED) == 1
    assert site.ops.metric(RELOAD_TIME) >= before - 1


def test_a_configmap_that_is_swapped_is_seen(site: Site) -> None:
    """Kubernetes mounts links to ``..data``, itself a link, and renames a new one over it."""
    folder = site.file.parent
    expected = site.would_be(OTHER)
    for name, text in (("..one", FIRST), ("..two", OTHER)):
        (folder / name).mkdir()
        (folder / name / "policy.yaml").write_text(text)
    (folder / "..data").symlink_to("..one")
    site.file.unlink()
    site.file.symlink_to("..data/policy.yaml")
    (folder / "..next").symlink_to("..two")
    time.sleep(1)
    assert site.version == site.first
    (folder / "..next").rename(folder / "..data")
    eventually(lambda: site.version == expected)
    assert steering(site.callers.chat())["version"] == expected
    # Such a file is not ours to write.
    assert code(site.put(FIRST, expected)) == (409, "policy_file_read_only")
    assert site.version == expected


@pytest.mark.parametrize(
    "broken",
    ["default: main\npolic", policy(mode="enfroce"), policy(bundle=FALSE_BUNDLE)],
    ids=["half written", "misspelt", "its canary fails"],
)
def test_a_broken_file_is_not_taken_and_a_metric_says_so(site: Site, broken: str) -> None:
    before = said(site.callers.chat())
    # One change of the file may be seen twice; the second time must not count as this file's.
    eventually(lambda: time.time() - site.ops.metric(RELOAD_TIME) > QUIET_SECONDS)
    good = site.ops.metric(RELOAD_TIME)
    site.write(broken)
    eventually(lambda: site.ops.metric(RELOADED) == 0)
    assert site.version == site.first
    assert site.ops.metric(RELOAD_TIME) == good
    answer = site.callers.chat()
    assert (steering(answer)["version"], said(answer)) == (site.first, before)
    expected = site.would_be(OTHER)
    site.write(OTHER)
    eventually(lambda: site.version == expected)
    assert site.ops.metric(RELOADED) == 1


def test_a_deleted_file_changes_nothing_and_a_put_brings_one_back(site: Site) -> None:
    site.file.unlink()
    eventually(lambda: site.ops.metric(RELOADED) == 0)
    assert steering(site.callers.chat())["version"] == site.first == site.version
    assert site.put(OTHER, site.first).status_code == 200
    eventually(lambda: site.ops.metric(RELOADED) == 1)
    assert site.file.read_text() == OTHER
