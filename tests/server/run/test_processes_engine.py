"""Two API processes before two data-parallel engines: one policy, one budget, one log, one end."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx2
import pytest
import yaml

from tests.server.fixtures import engine_laws, engine_site
from tests.server.fixtures.engine_site import CLIENTS, EngineSite, version
from tests.server.fixtures.live import CHAT
from tests.server.fixtures.states import eventually, halted

pytestmark = pytest.mark.engine
RATE = 12
PLACES = 3
KEYS: dict[str, dict[str, Any]] = {
    "free": {"policies": engine_laws.POLICIES},
    "rated": {"requests_per_minute": RATE},
    "placed": {"concurrent_requests": PLACES},
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineSite]:
    folder = tmp_path_factory.mktemp("processes")
    audit = {"file": str(folder / "audit.jsonl")}
    own = {"api_server_count": 2, "audit": audit, "recent_requests": 50}
    with engine_site.running(folder, KEYS, **own) as found:
        yield found


def test_mixed_requests_are_proven_by_both_engines(site: EngineSite) -> None:
    engine_laws.mixed_requests_are_proven_by_both_engines(site)


def test_an_engine_that_is_silent_holds_a_policy_back(site: EngineSite) -> None:
    engine_laws.an_engine_that_is_silent_holds_a_policy_back(site)


def test_bundles_come_and_go_under_traffic(site: EngineSite) -> None:
    engine_laws.bundles_come_and_go_under_traffic(site)


def test_either_process_answers_and_metrics_are_their_sum(site: EngineSite) -> None:
    assert len(site.members) == 2
    assert httpx2.get(site.ops + "/ready").status_code == 200
    before = site.metric("steering_requests_total")
    asked = 0
    for halted_pid in site.members:
        with halted(halted_pid):
            # Some connections go to the process that stands still: those give up.
            for _ in range(40):
                try:
                    answer = site.ask(max_tokens=1, timeout=5)
                except httpx2.TimeoutException:
                    continue
                asked += 1
                version(answer)
                break
            else:
                pytest.fail("the other process has not answered")
    eventually(lambda: site.metric("steering_requests_total") >= before + asked)
    assert site.metric("steering_fail_open_total") == 0
    # What was sent to a halted process and given up may be counted as left by its caller.
    eventually(lambda: site.admin("GET", "/admin/recent").json()["requests"])


def test_eight_clients_spend_exactly_one_budget(site: EngineSite) -> None:
    began = time.monotonic()
    answers = site.at_once(4 * RATE, "rated", max_tokens=1)
    earned = (time.monotonic() - began) * RATE / 60
    passed = Counter(answer.status_code for answer in answers)
    assert set(passed) <= {200, 429}
    assert RATE <= passed[200] <= RATE + earned
    assert passed[429] >= 1


def test_a_key_holds_exactly_its_places_over_both_processes(site: EngineSite) -> None:
    outcomes: list[int] = []

    def stream() -> None:
        outcomes.append(site.ask("placed", stream=True).status_code)

    threads = [threading.Thread(target=stream) for _ in range(CLIENTS)]
    with ExitStack() as standing:
        # No place is given back while no engine answers.
        for engine in site.engines:
            standing.enter_context(halted(engine))
        for thread in threads:
            thread.start()
        eventually(lambda: len(outcomes) >= CLIENTS - PLACES)
        assert set(outcomes) == {429}
    for thread in threads:
        thread.join(60)
    assert Counter(outcomes) == {200: PLACES, 429: CLIENTS - PLACES}
    eventually(lambda: site.ask("placed", max_tokens=1).status_code == 200)


def test_a_change_reaches_every_process_before_it_is_confirmed(site: EngineSite) -> None:
    versions = [version(site.ask())]
    done = threading.Event()
    named: list[tuple[int, str]] = []

    def client() -> None:
        while not done.is_set():
            confirmed = len(versions)
            named.append((confirmed, version(site.ask())))

    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(client) for _ in range(CLIENTS)]
        for floor in (0.1, 0.2, 0.3):
            found = site.put(adaptive={"floor": floor})
            versions.append(found)
            for answer in site.at_once(CLIENTS, "free", max_tokens=1):
                assert version(answer) == found
        done.set()
        for one in clients:
            one.result(120)
    assert len(set(versions)) == 4
    assert len(named) > CLIENTS
    for confirmed, found in named:
        # Never one that was there before the last that was confirmed when the request began.
        assert found in versions[confirmed - 1 :]
    assert site.metric("steering_policy_info") == 1


@pytest.mark.parametrize("how", ["file", "signal"])
def test_a_changed_file_reaches_every_process(site: EngineSite, how: str) -> None:
    before = version(site.ask())
    content = yaml.safe_load((site.server.folder / "policy.yaml").read_text())
    content["policies"]["adaptive"]["floor"] = 0.41 if how == "file" else 0.42
    site.server.write_policy(content)
    if how == "signal":
        os.kill(site.members[1], signal.SIGHUP)

    def converged() -> bool:
        found = {version(answer) for answer in site.at_once(CLIENTS, "free", max_tokens=1)}
        return len(found) == 1 and before not in found

    eventually(converged)


def test_audit_lines_are_whole_whoever_writes_them(site: EngineSite) -> None:
    marks = [f"audited-{number:02d}" for number in range(24)]

    def ask(mark: str) -> int:
        headers = {"authorization": "Bearer rs-free", "x-request-id": mark}
        body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
        url = site.server.url + CHAT
        return httpx2.post(url, json=body, headers=headers, timeout=120).status_code

    with ThreadPoolExecutor(CLIENTS) as pool:
        assert set(pool.map(ask, marks)) == {200}
    file = site.server.folder / "audit.jsonl"

    def seen() -> list[str]:
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        return [line["request_id"] for line in lines if line["event"] == "answered"]

    eventually(lambda: set(marks) <= set(seen()))
    assert Counter(seen()).most_common(1)[0][1] == 1
    recent = site.admin("GET", "/admin/recent?limit=50").json()["requests"]
    assert set(marks) <= {entry["request_id"] for entry in recent}
    assert len(recent) == 50


def test_a_process_that_dies_takes_the_server_with_it_and_loses_only_its_own(
    site: EngineSite,
) -> None:
    """The last test of the module: nothing is left afterwards."""
    ended: list[bool] = []
    begun = threading.Semaphore(0)

    def stream() -> None:
        body = {
            "messages": [{"role": "user", "content": "count"}],
            "max_tokens": 150,
            "ignore_eos": True,
            "stream": True,
        }
        headers = {"authorization": "Bearer rs-free"}
        whole = False
        try:
            with (
                httpx2.Client(timeout=120) as client,
                client.stream("POST", site.server.url + CHAT, json=body, headers=headers) as answer,
            ):
                begun.release()
                whole = "data: [DONE]" in list(answer.iter_lines())
        except httpx2.TransportError:
            pass
        ended.append(whole)

    threads = [threading.Thread(target=stream) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert begun.acquire(timeout=60)
    victim = site.members[1]
    os.kill(victim, signal.SIGKILL)
    for thread in threads:
        thread.join(120)
    assert site.server.process.wait(120) == 1
    # The kernel has spread eight connections over both; those of the other one end well.
    assert any(ended)
    assert not site.server.descendants()
