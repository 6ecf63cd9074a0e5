"""A policy by HTTP: what is new and valid comes into force, everything else leaves what is."""

from __future__ import annotations

import asyncio
import gzip
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from refusal_server.files.yaml_file import FileError
from refusal_server.policy.remote import policy_poll
from refusal_server.policy.remote.first_policy import first_policy
from refusal_server.policy.remote.policy_poll import PolicyPoll
from refusal_server.policy.remote.policy_url import PolicyUrl
from refusal_steering.errors import CanaryError
from tests.server.fixtures.policy_site import ENDLESS, PolicySite, policy_text, serving
from tests.server.fixtures.ranks import Ranks, Rig

BROKEN = "default: main\npolicies: {main: {mode: enf"


@pytest.fixture
def source() -> Iterator[PolicySite]:
    with serving() as site:
        yield site


@pytest.fixture
def other() -> Iterator[PolicySite]:
    with serving() as site:
        yield site


class Follower:
    """A store that has started with what ``source`` held, and has asked it once more."""

    def __init__(self, folder: Path, source: PolicySite, url: PolicyUrl | None = None) -> None:
        self.source = source
        source.hold(policy_text(folder, 0))
        self.rig = Rig(folder, seed=None, url=url or source.url())
        self.rig.start()
        assert self.look()
        self.rig.ranks.calls.clear()
        source.asked.clear()
        source.answered.clear()

    def text(self, seed: int) -> str:
        """A policy over another bundle, which is on the disk."""
        return policy_text(self.rig.folder, seed)

    def look(self, *, again: bool = False) -> bool:
        """Ask the source once."""
        assert self.rig.store.poll is not None
        return asyncio.run(self.rig.store.poll.look(again=again))

    @property
    def version(self) -> str:
        return self.rig.store.current.version

    @property
    def copy(self) -> str:
        return self.rig.path.read_text()

    @property
    def problem(self) -> str | None:
        assert self.rig.store.poll is not None
        return self.rig.store.poll.problem


@pytest.fixture
def follower(tmp_path: Path, source: PolicySite) -> Follower:
    return Follower(tmp_path, source)


def test_what_is_new_goes_the_way_of_a_changed_file_and_is_kept_as_a_copy(
    follower: Follower,
) -> None:
    before = follower.version
    new = follower.text(1)
    follower.source.hold(new)
    assert follower.look()
    assert follower.rig.ranks.calls == ["retire", "load", "acknowledge", "check", "retire"]
    assert follower.version != before and follower.copy == new
    assert follower.rig.store.history.versions == [before]
    event = follower.rig.events.seen[-1]
    assert (event.before, event.after, event.source) == (before, follower.version, "url")
    assert follower.rig.ranks.gauges[-2:] == [follower.version, "followed"]


def test_what_has_not_changed_is_not_sent_and_not_loaded(follower: Follower) -> None:
    for _ in range(3):
        assert follower.look()
    assert follower.source.answered == [304] * 3
    assert [asked["if-none-match"] for asked in follower.source.asked] == [follower.source.tag] * 3
    assert follower.rig.ranks.calls == []
    assert follower.rig.ranks.gauges[-3:] == ["followed"] * 3


def test_a_source_without_tags_is_read_whole_and_loaded_when_it_changes(
    tmp_path: Path, source: PolicySite
) -> None:
    source.tagged = False
    follower = Follower(tmp_path, source)
    assert follower.look() and follower.look()
    assert source.answered == [200, 200] and follower.rig.ranks.calls == []
    source.hold(follower.text(1))
    assert follower.look() and "check" in follower.rig.ranks.calls


def _fails(status: int) -> Callable[[PolicySite], None]:
    return lambda site: setattr(site, "status", status)


def _sends(beyond: int | None) -> Callable[[PolicySite], None]:
    def fault(site: PolicySite) -> None:
        site.tagged, site.beyond = False, beyond

    return fault


def _coded(site: PolicySite) -> None:
    # Another coding than chunks ends with the connection, too.
    site.tagged, site.beyond, site.headers = False, None, {"transfer-encoding": "identity"}


def _packed(site: PolicySite) -> None:
    site.body, site.headers = gzip.compress(site.body), {"content-encoding": "gzip"}


FAULTS: dict[str, tuple[Callable[[PolicySite], None], str]] = {
    "server error": (_fails(500), "answers 500, expected 200"),
    "not there": (_fails(404), "answers 404, expected 200"),
    "not allowed": (_fails(401), "answers 401, expected 200"),
    "no content": (_fails(204), "answers 204, expected 200"),
    "empty": (lambda site: setattr(site, "body", b""), "must be a mapping"),
    "no YAML": (lambda site: setattr(site, "body", BROKEN.encode()), "is invalid: line"),
    "no UTF-8": (lambda site: setattr(site, "body", b"\xff\xfe"), "not UTF-8"),
    "no bundle": (
        lambda site: setattr(site, "body", site.body.replace(b"b0", b"nowhere")),
        "nowhere",
    ),
    "too strong": (
        lambda site: setattr(site, "body", site.body.replace(b"}}", b", strength: 99.0}}")),
        "strength",
    ),
    "too large": (_sends(ENDLESS), "sends more than 1048576 bytes"),
    "cut off": (_sends(10), "cannot be reached"),
    "of no length": (_sends(None), "does not say how long"),
    "of no length, coded": (_coded, "does not say how long"),
    "packed": (_packed, "turn compression off"),
}


@pytest.mark.parametrize(("fault", "says"), FAULTS.values(), ids=FAULTS)
def test_every_other_answer_leaves_what_is_in_force_and_is_said_once(
    follower: Follower,
    fault: Callable[[PolicySite], None],
    says: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    good, text = follower.rig.store.current, follower.source.body.decode()
    fault(follower.source)
    assert [follower.look() for _ in range(3)] == [False] * 3
    assert follower.rig.store.current is good
    assert follower.rig.ranks.calls == [] and follower.copy == text
    assert follower.rig.ranks.gauges[-3:] == ["failed"] * 3
    assert says in str(follower.problem)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1 and says in said[0] and "\n" not in said[0]
    assert "geheim" not in said[0]
    follower.source.hold(text)
    with caplog.at_level(logging.INFO):
        assert follower.look()
    assert "followed again" in caplog.text
    assert follower.rig.store.current.version == good.version


@pytest.mark.parametrize("fault", ["silent", "stalled"])
def test_a_slow_source_is_not_waited_for(tmp_path: Path, source: PolicySite, fault: str) -> None:
    follower = Follower(tmp_path, source)
    taken: list[str] = []

    async def take(text: str) -> None:
        taken.append(text)

    setattr(source, fault, True)
    hasty, ranks = source.url(patience=0.2), Ranks()
    poll = PolicyPoll(hasty, take, ranks)
    assert not asyncio.run(poll.look())
    assert "has not answered within 0.2 seconds" in str(poll.problem)
    assert (taken, ranks.gauges) == ([], ["failed"])
    assert first_policy(follower.rig.path, hasty).policies.version == follower.version


def test_a_source_that_is_gone_leaves_what_is_in_force(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with serving() as source:
        follower = Follower(tmp_path, source)
    version = follower.version
    assert not follower.look() and not follower.look()
    assert follower.version == version
    assert len(caplog.records) == 1 and "cannot be reached" in caplog.text


def test_a_redirect_is_not_followed_and_no_token_leaves_the_host(
    tmp_path: Path, source: PolicySite, other: PolicySite
) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    follower = Follower(tmp_path, source, source.url(token_file=token))
    other.hold(follower.text(1))
    source.status, source.headers = 302, {"location": other.url().url}
    version = follower.version
    assert not follower.look()
    assert follower.version == version and other.asked == []
    assert source.asked[-1]["authorization"] == "Bearer first"


def test_a_token_is_read_anew_for_every_question(tmp_path: Path, source: PolicySite) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    follower = Follower(tmp_path, source, source.url(token_file=token))
    token.write_text("second")
    assert follower.look()
    assert source.asked[-1]["authorization"] == "Bearer second"
    token.write_text("two\nlines")
    assert not follower.look()
    assert "two" not in str(follower.problem) and len(source.asked) == 1


def test_a_policy_that_a_rank_refuses_leaves_copy_and_policy_and_is_tried_again_when_told(
    follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, old = follower.version, follower.copy
    follower.rig.ranks.fail["check"] = CanaryError("dead hook")
    follower.source.hold(follower.text(1))
    assert not follower.look()
    assert (follower.version, follower.copy) == (good, old)
    assert "dead hook" in str(follower.problem)
    follower.rig.ranks.calls.clear()
    # Not at every poll; the engine has other work.
    assert not follower.look() and follower.rig.ranks.calls == []
    assert "dead hook" in str(follower.problem)
    assert not asyncio.run(follower.rig.store.reload("signal"))
    assert "check" in follower.rig.ranks.calls
    follower.rig.ranks.fail.clear()
    assert not follower.look()
    monkeypatch.setattr(policy_poll, "RETRY_SECONDS", 0.0)
    assert follower.look()
    assert follower.version != good and follower.copy == follower.source.body.decode()


def test_another_policy_is_tried_at_once_after_a_refused_one(follower: Follower) -> None:
    good = follower.version
    follower.source.hold(BROKEN)
    assert not follower.look()
    follower.source.hold(follower.text(1))
    assert follower.look() and follower.version != good


def test_a_copy_that_cannot_be_written_is_said_and_the_policy_is_in_force(
    follower: Follower,
) -> None:
    follower.rig.path.unlink()
    (follower.rig.path / "inside").mkdir(parents=True)
    before = follower.version
    follower.source.hold(follower.text(1))
    assert not follower.look()
    assert follower.version != before
    assert "cannot be written" in str(follower.problem)
    assert follower.rig.ranks.gauges[-1] == "failed"


def test_it_asks_until_it_is_cancelled(follower: Follower) -> None:
    version = follower.version

    async def script() -> None:
        following = asyncio.create_task(follower.rig.store.run())
        async with asyncio.timeout(60):
            for seed in (1, 2):
                before = follower.version
                follower.source.hold(follower.text(seed))
                while follower.version == before:
                    await asyncio.sleep(0.01)
        following.cancel()

    asyncio.run(script())
    assert version in follower.rig.store.history.versions


def test_an_edit_of_the_copy_is_nobodys_policy(follower: Follower) -> None:
    version = follower.version
    follower.rig.path.write_text(follower.text(3))
    assert follower.look() and asyncio.run(follower.rig.store.reload())
    assert follower.version == version


def test_a_server_starts_with_the_sources_policy_and_keeps_the_copy(
    tmp_path: Path, source: PolicySite
) -> None:
    follower = Follower(tmp_path, source)
    follower.rig.path.write_text(follower.text(1))
    first = first_policy(follower.rig.path, source.url())
    assert first.problem is None and first.policies.text == source.body.decode()
    again = Rig(tmp_path, seed=None, url=source.url())
    again.start()
    assert follower.copy == source.body.decode()


def _gone(source: PolicySite) -> None:
    source.status = 503


def _broken(source: PolicySite) -> None:
    source.body = BROKEN.encode()


@pytest.mark.parametrize("fault", [_gone, _broken])
def test_without_the_source_a_server_starts_with_the_copy_or_not_at_all(
    tmp_path: Path, source: PolicySite, fault: Callable[[PolicySite], None]
) -> None:
    follower = Follower(tmp_path, source)
    path, text = follower.rig.path, follower.copy
    fault(source)
    first = first_policy(path, source.url())
    assert first.policies.text == text and first.problem is not None
    path.unlink()
    with pytest.raises(FileError, match="no copy of an earlier policy") as caught:
        first_policy(path, source.url())
    path.write_text(BROKEN)
    with pytest.raises(FileError, match="its copy is of no use") as useless:
        first_policy(path, source.url())
    for error in (caught, useless):
        assert first.problem in str(error.value) and "geheim" not in str(error.value)


def test_a_link_cannot_be_the_copy(tmp_path: Path, source: PolicySite) -> None:
    (tmp_path / "mounted.yaml").write_text("x")
    (tmp_path / "policy.yaml").symlink_to("mounted.yaml")
    with pytest.raises(FileError, match="name another policy_file"):
        first_policy(tmp_path / "policy.yaml", source.url())
    assert source.asked == []


def test_a_folder_that_cannot_be_written_cannot_hold_the_copy(
    tmp_path: Path, source: PolicySite
) -> None:
    with pytest.raises(FileError, match="name another policy_file"):
        first_policy(tmp_path / "none" / "policy.yaml", source.url())


@pytest.mark.parametrize(
    ("url", "exposed"),
    [
        ("https://policies.example/p", False),
        ("http://policies.example/p", True),
        ("http://127.0.0.1:8/p", False),
        ("http://[::1]:8/p", False),
    ],
)
def test_only_a_plain_way_to_another_machine_is_exposed(url: str, exposed: bool) -> None:
    assert PolicyUrl(url, 10.0).exposed is exposed
