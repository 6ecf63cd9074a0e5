"""The policy file under SIGHUP: swapped when sound, kept when not, no error under load."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from tests.server.fixtures.bundles import write_bundle
from tests.server.fixtures.live import POLICY, LiveServer
from tests.server.fixtures.states import eventually

pytestmark = pytest.mark.engine

RELOADED = "steering_policy_last_reload_successful"


def version(server: LiveServer) -> str:
    return str(httpx2.get(f"{server.url}/version").json()["policy_version"])


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
    stop, answers = threading.Event(), list[httpx2.Response]()

    def ask() -> None:
        while not stop.is_set():
            answers.append(server.chat())

    def seen() -> set[str]:
        """The versions that answers name."""
        fields = [answer.headers["x-steering"].split(";") for answer in answers.copy()]
        return {version.removeprefix("version=") for _, version, *_ in fields}

    write_bundle(server.folder / "bundles" / "next", seed=7)
    before = version(server)
    with ThreadPoolExecutor(3) as pool:
        asking = [pool.submit(ask) for _ in range(3)]
        try:
            eventually(lambda: before in seen())
            server.write_policy(changed(bundle="bundles/next"))
            server.signal(signal.SIGHUP)
            eventually(lambda: version(server) != before)
            after = version(server)
            eventually(lambda: after in seen())
        finally:
            stop.set()
        for caller in asking:
            caller.result()
    assert {answer.status_code for answer in answers} == {200}
    assert seen() == {before, after}
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
