"""A server whose policy names no bundle starts and answers, and says how a bundle gets into it."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest

from tests.server.fixtures.live import LiveServer, launched, prepare
from tests.server.fixtures.states import eventually

pytestmark = [pytest.mark.engine, pytest.mark.slow]

PLAIN = 'default: plain\npolicies: {plain: {mode: "off"}}\n'
STEERED = "default: main\npolicies: {main: {mode: enforce, bundle: bundles/static}}\n"


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("bare")
    config = prepare(folder)
    (folder / "policy.yaml").write_text(PLAIN)
    with launched(folder, "--config", str(config)) as (url, process):
        yield LiveServer(url, folder, process)


def test_it_answers_and_says_that_nothing_is_steered(bare: LiveServer) -> None:
    answer = bare.chat()
    assert answer.status_code == 200 and answer.json()["choices"]
    version = httpx2.get(f"{bare.url}/version").json()
    assert version["bundles"] == {} and version["operator"] == "none"


def test_a_policy_with_a_bundle_waits_for_a_restart(bare: LiveServer) -> None:
    before = httpx2.get(f"{bare.url}/version").json()["policy_version"]
    bare.write_policy(STEERED)

    eventually(lambda: "was started without a bundle" in bare.log)
    assert "restart the server with the policy that names it" in bare.log
    assert httpx2.get(f"{bare.url}/version").json()["policy_version"] == before
    assert bare.chat().status_code == 200
