"""One API process before two data-parallel engines: proof from both, and one end."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import httpx2
import pytest

from tests.server.fixtures import engine_laws, engine_site
from tests.server.fixtures.engine_site import CLIENTS, EngineSite
from tests.server.fixtures.live import CHAT

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineSite]:
    folder = tmp_path_factory.mktemp("data_parallel")
    with engine_site.running(folder, {"free": {"policies": engine_laws.POLICIES}}) as found:
        yield found


def test_mixed_requests_are_proven_by_both_engines(site: EngineSite) -> None:
    engine_laws.mixed_requests_are_proven_by_both_engines(site)


def test_an_engine_that_is_silent_holds_a_policy_back(site: EngineSite) -> None:
    engine_laws.an_engine_that_is_silent_holds_a_policy_back(site)


def test_an_engine_that_dies_ends_the_server_and_every_request(site: EngineSite) -> None:
    """The last test of the module: nothing is left afterwards."""
    endings: list[str] = []
    begun = threading.Event()

    def stream() -> None:
        body = {
            "messages": [{"role": "user", "content": "count"}],
            "max_tokens": 1500,
            "ignore_eos": True,
            "stream": True,
        }
        headers = {"authorization": "Bearer rs-free"}
        try:
            with (
                httpx2.Client(timeout=120) as client,
                client.stream("POST", site.server.url + CHAT, json=body, headers=headers) as answer,
            ):
                lines: list[str] = []
                for line in filter(None, answer.iter_lines()):
                    lines.append(line)
                    begun.set()
        except httpx2.TransportError:
            endings.append("not taken")  # the server had closed its port
        else:
            endings.append("error" if '"error":' in "".join(lines) else "whole")

    threads = [threading.Thread(target=stream) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    assert begun.wait(120)
    os.kill(site.engines[1], signal.SIGKILL)
    for thread in threads:
        thread.join(120)
    assert len(endings) == CLIENTS
    assert "error" in endings
    assert site.server.process.wait(120) == 1
    assert site.server.log.count("the engine has died; the server stops") == 1
    assert not site.server.descendants()
