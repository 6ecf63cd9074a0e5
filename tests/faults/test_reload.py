"""The policy file under SIGHUP: swapped when sound, kept when not, no error under load."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from tests.server.fixtures.bundles import write_bundle
from tests.server.fixtures.live import POLICY, LiveServer

pytestmark = pytest.mark.engine

RELOADED = "steering_policy_last_reload_successful"


def version(server: LiveServer) -> str:
    return str(httpx2.get(f"{server.url}/version").json()["policy_version"])


def eventually(holds: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def changed(**rule: Any) -> dict[str, Any]:
    adaptive = POLICY["policies"]["adaptive"] | rule
    return {**POLICY, "policies": POLICY["policies"] | {"adaptive": adaptive}}


@pytest.fixture
def original(server: LiveServer) -> Iterator[str]:
    first = version(server)
    yield first
    server.write_policy(POLICY)
    server.signal(signal.SIGHUP)
    eventually(lambda: version(server) == first)
    eventually(lambda: server.metric(RELOADED) == 1)


@pytest.mark.usefixtures("original")
def test_a_new_bundle_comes_into_force_without_an_error_under_load(server: LiveServer) -> None:
    stop = False

    def ask() -> list[httpx2.Response]:
        answers = []
        while not stop:
            answers.append(server.chat())
        return answers

    write_bundle(server.folder / "bundles" / "next", seed=7)
    before = version(server)
    with ThreadPoolExecutor(3) as pool:
        asking = [pool.submit(ask) for _ in range(3)]
        time.sleep(0.5)
        server.write_policy(changed(bundle="bundles/next"))
        server.signal(signal.SIGHUP)
        eventually(lambda: version(server) != before)
        after = version(server)
        time.sleep(0.5)
        stop = True
        answers = [answer for future in asking for answer in future.result()]
    assert {answer.status_code for answer in answers} == {200}
    seen = {a.headers["x-steering"].split(";")[1].removeprefix("version=") for a in answers}
    assert seen == {before, after}
    assert "strategy=static" in server.chat().headers["x-steering"]


@pytest.mark.parametrize(
    "broken",
    [
        "default: adaptive\npolic",
        "",
        changed(bundle="bundles/missing"),
        changed(strength=5.0),
        changed(bundle="bundles/other-model"),
    ],
    ids=["half written", "empty", "no bundle", "out of bounds", "other model"],
)
def test_a_file_that_cannot_be_used_changes_nothing(
    server: LiveServer, original: str, broken: Any
) -> None:
    write_bundle(server.folder / "bundles" / "other-model", hidden=64)
    server.write_policy(broken)
    server.signal(signal.SIGHUP)
    eventually(lambda: server.metric(RELOADED) == 0)
    assert version(server) == original
    response = server.chat()
    assert response.status_code == 200
    assert f"version={original}" in response.headers["x-steering"]


def test_a_deleted_file_changes_nothing(server: LiveServer, original: str) -> None:
    (server.folder / "policy.yaml").unlink()
    server.signal(signal.SIGHUP)
    eventually(lambda: server.metric(RELOADED) == 0)
    assert version(server) == original
