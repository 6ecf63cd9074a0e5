"""``/admin/policy`` against real ranks: all of them follow, or nothing changes for anybody."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain

import httpx2
import pytest

from tests.operations.site import (
    FALSE_BUNDLE,
    FAR_BUNDLE,
    FIRST,
    NEXT,
    OTHER,
    POLICY,
    RANKS,
    RELOADED,
    Site,
    code,
    policy,
    said,
    steering,
)
from tests.server.fixtures.states import eventually, halted

pytestmark = pytest.mark.engine


def test_a_dry_run_names_the_version_and_changes_nothing(site: Site) -> None:
    before = said(site.callers.chat())
    found = site.put(OTHER, dry_run="true").json()
    assert found["applied"] is False
    assert (found["replaces"], site.version) == (site.first, site.first)
    assert site.file.read_text() == FIRST
    answer = site.callers.chat()
    assert (steering(answer)["version"], said(answer)) == (site.first, before)
    assert site.put(OTHER, site.first).json()["version"] == found["version"] == site.version


def test_a_new_version_is_in_force_and_every_answer_names_it(site: Site) -> None:
    before = said(site.callers.chat())
    done = site.put(OTHER, site.first)
    assert done.status_code == 200, done.text
    version = done.json()["version"]
    assert version == site.version != site.first
    assert site.file.read_text() == OTHER
    answer = site.callers.chat()
    assert (steering(answer)["version"], steering(answer)["strategy"]) == (version, "static")
    assert said(answer) != before
    assert site.ops.metric("steering_policy_info", version=version) == 1
    assert site.ops.metric("steering_policy_info", version=site.first) == 0
    assert version in [entry["version"] for entry in _recent(site)]


@pytest.mark.parametrize("rank", range(RANKS))
def test_a_version_is_announced_only_after_every_rank_has_acknowledged(
    site: Site, rank: int
) -> None:
    ranks = site.ranks()
    assert len(ranks) == RANKS
    logged = len(site.callers.log)
    with ThreadPoolExecutor(2) as pool:
        with halted(ranks[rank]):
            put = pool.submit(site.put, OTHER, site.first)
            # The file is written before the ranks are asked.
            eventually(lambda: site.file.read_text() == OTHER)
            begun = pool.submit(site.callers.chat)
            eventually(lambda: "Added request" in site.callers.log[logged:])
            assert not put.done()
            assert site.version == site.first
            assert site.ops.metric("steering_policy_info", version=site.first) == 1
        done = put.result()
        assert done.status_code == 200, done.text
        assert site.version == done.json()["version"] != site.first
        # It had begun when the new version was not in force yet.
        assert steering(begun.result())["version"] == site.first
    assert steering(site.callers.chat())["version"] == site.version


def test_a_stale_or_missing_version_is_refused(site: Site) -> None:
    assert code(site.put(OTHER)) == (428, "precondition_required")
    assert code(site.put(OTHER, "0" * 12)) == (412, "precondition_failed")
    assert code(site.put(OTHER, "0" * 12, dry_run="true")) == (412, "precondition_failed")
    assert (site.version, site.file.read_text()) == (site.first, FIRST)


def test_of_two_operators_with_one_version_one_is_told_to_look_again(site: Site) -> None:
    texts = [OTHER, policy(strength=1.5)]
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda text: site.put(text, site.first), texts))
    assert sorted(answer.status_code for answer in done) == [200, 412]
    ((text, answer),) = [pair for pair in zip(texts, done, strict=True) if pair[1].is_success]
    assert site.file.read_text() == text
    assert site.version == answer.json()["version"] == steering(site.callers.chat())["version"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("default: main\npolic", (400, "invalid_policy")),
        (policy(strength=9.0), (400, "invalid_policy")),
        (policy(bundle="bundles/missing"), (400, "invalid_policy")),
        (policy(bundle=FAR_BUNDLE), (409, "policy_not_installed")),
        (policy(bundle=FALSE_BUNDLE), (409, "policy_not_installed")),
    ],
    ids=["no YAML", "out of bounds", "no bundle", "a rank cannot load it", "its canary fails"],
)
def test_what_does_not_come_into_force_leaves_the_last_known_good(
    site: Site, text: str, expected: tuple[int, str]
) -> None:
    before = said(site.callers.chat())
    assert code(site.put(text, site.first)) == expected
    assert (site.version, site.file.read_text()) == (site.first, FIRST)
    answer = site.callers.chat()
    assert (steering(answer)["version"], said(answer)) == (site.first, before)
    # The file on disk is the old one again, and its canaries have passed.
    assert site.ops.metric(RELOADED) == site.ops.metric("steering_canary_passed") == 1
    assert site.put(OTHER, site.first).status_code == 200


def test_a_rollback_brings_back_version_file_and_answers(site: Site) -> None:
    before = said(site.callers.chat())
    second = site.put(OTHER, site.first).json()["version"]
    stale = {"if-match": site.first}
    refused = site.admin("POST", f"{POLICY}/rollback", headers=stale)
    assert code(refused) == (412, "precondition_failed")
    assert site.version == second
    done = site.admin("POST", f"{POLICY}/rollback", headers={"if-match": second})
    assert done.status_code == 200, done.text
    assert (done.json()["replaces"], done.json()["version"]) == (second, site.first)
    assert (site.version, site.file.read_text()) == (site.first, FIRST)
    answer = site.callers.chat()
    assert (steering(answer)["version"], said(answer)) == (site.first, before)


def test_flips_under_load_give_no_error_and_each_answer_is_its_versions_own(site: Site) -> None:
    versions = {site.first}
    with asking(site, [None] * 4) as answers:
        for text in (OTHER, FIRST) * 3:
            versions.add(heard(site, text, answers))
    spoken = defaultdict(set)
    for answer in chain(*answers):
        spoken[steering(answer)["version"]].add(said(answer))
    assert set(spoken) == versions and len(versions) == 2
    assert [len(texts) for texts in spoken.values()] == [1, 1]
    assert len(set.union(*spoken.values())) == 2
    _is_sound(site)


def test_a_flip_to_other_bundles_and_back_gives_no_error_under_any_strategy(site: Site) -> None:
    versions = {site.first}
    with asking(site, [None, "static", "ras", "cascade"]) as answers:
        for text in (NEXT, FIRST):
            versions.add(heard(site, text, answers))
    assert {steering(answer)["version"] for answer in chain(*answers)} == versions
    _is_sound(site)


@contextmanager
def asking(site: Site, policies: Sequence[str | None]) -> Iterator[list[list[httpx2.Response]]]:
    """Callers who ask again and again meanwhile, one for each policy; each one's answers so far."""
    stop, answers = threading.Event(), [list[httpx2.Response]() for _ in policies]

    def ask(name: str | None, own: list[httpx2.Response]) -> None:
        while not stop.is_set():
            own.append(site.callers.chat(steering={} if name is None else {"policy": name}))

    with ThreadPoolExecutor(len(policies)) as pool:
        callers = [pool.submit(ask, *pair) for pair in zip(policies, answers, strict=True)]
        try:
            # Every caller has been answered under the policy that is in force now.
            eventually(lambda: all(answers))
            yield answers
        finally:
            stop.set()
        for caller in callers:
            caller.result()


def heard(site: Site, text: str, answers: list[list[httpx2.Response]]) -> str:
    """Put a policy and wait until it has answered every caller; its version."""
    done = site.put(text, site.version)
    assert done.status_code == 200, done.text
    version = str(done.json()["version"])
    eventually(lambda: all(steering(own[-1])["version"] == version for own in answers))
    return version


def _is_sound(site: Site) -> None:
    assert site.ops.metric("steering_failures_total") == 0
    assert site.ops.metric("steering_fail_open_total") == 0
    assert site.ops.metric("steering_requests_total", outcome="error") == 0


def _recent(site: Site) -> list[dict[str, str]]:
    found: list[dict[str, str]] = site.admin("GET", "/admin/recent?limit=3").json()["requests"]
    return found
