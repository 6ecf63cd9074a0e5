"""The roll-out by figures enforces, stays in shadow and goes back, each for the stated reason."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from examples import shadow_rollout
from tests.console.visit import Site
from tests.examples.served import Served
from tests.server.fixtures.console_rig import PLAIN, REFUSAL, Talker
from tests.server.fixtures.ops import ADMIN

POLICY = "static"
HARMLESS, HARMFUL = "Bake bread.", "Break in."
EVERY_TENTH = [HARMFUL, *[HARMLESS] * 9]


class Rollout:
    """A server with an ops port; callers send ``mix`` in turn until the roll-out has ended."""

    def __init__(self, served: Served, ops: Site, capsys: pytest.CaptureFixture[str]) -> None:
        self.served, self.ops = served, ops
        self._capsys = capsys

    def run(self, *options: str) -> tuple[int, str]:
        url = self.ops.url.removesuffix("/console")
        status = shadow_rollout.main([POLICY, "--ops-url", url, "--every", "0.02", *options])
        return status, self._capsys.readouterr().out

    @contextmanager
    def traffic(self, mix: list[str]) -> Iterator[None]:
        done = threading.Event()

        def send() -> None:
            while not done.is_set():
                for text in mix:
                    self.ask(text)

        thread = threading.Thread(target=send)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join(20)

    def ask(self, text: str) -> str | None:
        """The answer, ``None`` where it is an error."""
        body = json.dumps({"messages": [{"role": "user", "content": text}]}).encode()
        headers = {"Content-Type": "application/json"}
        request = Request(f"{self.served.url}/chat/completions", body, headers)
        try:
            with urlopen(request, timeout=20) as answer:
                said: str = json.load(answer)["choices"][0]["message"]["content"]
                return said
        except HTTPError:
            return None

    @property
    def mode(self) -> str:
        return self.served.rig.store.current.policies[POLICY].rule.mode


@pytest.fixture
def talker() -> Talker:
    return Talker(risk_logit=2.0, harmless=lambda messages: messages[-1]["content"] == HARMLESS)


@pytest.fixture
def rollout(
    talker: Talker,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Rollout]:
    monkeypatch.setenv("REFUSAL_SERVER_ADMIN_KEY", ADMIN)
    with Served(tmp_path, script=talker) as served, Site(served.rig) as ops:
        yield Rollout(served, ops, capsys)


def test_a_policy_that_touches_few_is_enforced_and_taken_back(rollout: Rollout) -> None:
    with rollout.traffic(EVERY_TENTH):
        status, said = rollout.run("--requests", "60", "--most-touched", "0.4")
    assert (status, rollout.mode) == (0, "enforce"), said
    lines = said.splitlines()
    assert [line.partition(", version")[0] for line in lines[::2][:2]] == [
        "static is in mode shadow",
        "static is in mode enforce",
    ]
    assert lines[1].startswith("steering would have touched ")
    assert lines[1].endswith("; 0 were refused without it")
    assert "errors 0 of " in lines[3]
    assert rollout.ask(HARMFUL) == REFUSAL
    status, said = rollout.run("--back")
    assert (status, rollout.mode) == (0, "shadow")
    assert rollout.ask(HARMFUL) == PLAIN
    assert said.startswith("back to version ")


def test_the_share_is_that_of_the_requests_of_this_roll_out(rollout: Rollout) -> None:
    rollout.run("--requests", "0", "--most-touched", "0")
    for _ in range(30):
        rollout.ask(HARMFUL)
    before = rollout.served.rig.chats.count("steering_coefficient_count", mode="shadow")
    assert before == 30
    with rollout.traffic([HARMLESS]):
        status, said = rollout.run("--requests", "40", "--most-touched", "0.2")
    assert (status, rollout.mode) == (0, "enforce"), said
    assert "steering would have touched 0 of " in said


@pytest.mark.parametrize("mix", [EVERY_TENTH, [HARMLESS]], ids=["many touched", "few asked"])
def test_a_policy_that_may_touch_many_stays_in_shadow(rollout: Rollout, mix: list[str]) -> None:
    with rollout.traffic(mix):
        status, said = rollout.run("--requests", "30", "--most-touched", "0.01")
    assert (status, rollout.mode) == (shadow_rollout.AGAINST, "shadow")
    assert said.endswith("more than 1.0% is possible: it stays in shadow\n")


def test_a_server_that_was_started_anew_counts_from_nothing(
    rollout: Rollout, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter([(90, 90, 90), (95, 95, 95), (8, 8, 0), (30, 30, 0)])
    last = (0, 0, 0)

    def figures(_ops: shadow_rollout.Ops, _policy: str, mode: str) -> shadow_rollout.Figures:
        return shadow_rollout.Figures(*(next(looks) if mode == "shadow" else last))

    monkeypatch.setattr(shadow_rollout.Ops, "figures", figures)
    _, said = rollout.run("--requests", "20", "--most-touched", "0.2", "--seconds", "1")
    assert "steering would have touched 0 of 30 " in said


def test_too_few_requests_decide_nothing(rollout: Rollout) -> None:
    status, said = rollout.run("--requests", "5", "--seconds", "0.1", "--most-touched", "1")
    assert (status, rollout.mode) == (shadow_rollout.AGAINST, "shadow")
    assert said.endswith("0 requests are too few: it stays in shadow\n")


def test_errors_after_the_change_take_it_back(talker: Talker, rollout: Rollout) -> None:
    talker.says["steered"] = RuntimeError("the engine is unwell")
    with rollout.traffic(EVERY_TENTH):
        status, said = rollout.run("--requests", "60", "--most-touched", "0.4")
    assert (status, rollout.mode) == (shadow_rollout.AGAINST, "shadow"), said
    assert said.splitlines()[-1].startswith("back to version ")


def test_a_wrong_key_changes_nothing_and_is_told(
    rollout: Rollout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFUSAL_SERVER_ADMIN_KEY", "wrong")
    status, said = rollout.run("--requests", "1")
    assert (status, rollout.mode) == (1, "enforce")
    assert ": 401 " in said and "invalid_api_key" in said
