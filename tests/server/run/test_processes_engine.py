"""Two API processes before one real engine: one policy, one budget, one log, one end."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
import yaml

from tests.server.fixtures import live
from tests.server.fixtures.live import CHAT, LiveServer
from tests.server.fixtures.states import eventually, halted

pytestmark = pytest.mark.engine
ADMIN = "an-admin-key-for-tests"
CLIENTS = 8
RATE = 12
PLACES = 3
KEYS: dict[str, dict[str, Any]] = {
    "free": {},
    "rated": {"requests_per_minute": RATE},
    "placed": {"concurrent_requests": PLACES},
}
_OPS = re.compile(r"^  ops +(http://\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Site:
    """The server of two processes; callers use keys by their names."""

    server: LiveServer
    ops: str

    @property
    def members(self) -> list[int]:
        """The API processes in their order; the first leads."""
        named = {name: pid for pid, name in self.server.descendants().items()}
        return [named[name] for name in sorted(named) if "APIServer" in name]

    def ask(self, key: str = "free", **fields: Any) -> httpx2.Response:
        """One chat over a connection of its own."""
        body = {
            "messages": [{"role": "user", "content": "hello there"}],
            "max_tokens": 4,
            "temperature": 0,
            **fields,
        }
        headers = {"authorization": f"Bearer rs-{key}"}
        return httpx2.post(self.server.url + CHAT, json=body, headers=headers, timeout=120)

    def at_once(self, count: int, key: str, **fields: Any) -> list[httpx2.Response]:
        """So many chats of eight clients."""
        with ThreadPoolExecutor(CLIENTS) as pool:
            return list(pool.map(lambda _: self.ask(key, **fields), range(count)))

    def admin(self, method: str, path: str, **options: Any) -> httpx2.Response:
        """One call with the admin key."""
        headers = {"authorization": f"Bearer {ADMIN}"} | options.pop("headers", {})
        return httpx2.request(method, self.ops + path, headers=headers, timeout=120, **options)

    def put(self, floor: float) -> str:
        """Bring a policy with another floor into force; its version."""
        before = self.admin("GET", "/admin/policy")
        content = yaml.safe_load(before.json()["source"])
        content["policies"]["adaptive"]["floor"] = floor
        headers = {"content-type": "application/yaml", "if-match": before.headers["etag"]}
        text = yaml.safe_dump(content)
        found = self.admin("PUT", "/admin/policy", headers=headers, content=text)
        assert found.status_code == 200, found.text
        return str(found.json()["version"])

    def metric(self, name: str) -> float:
        """The sum of all series of ``name``."""
        text = httpx2.get(self.ops + "/metrics", timeout=60).text
        found = re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE)
        return sum(map(float, found))


def version(response: httpx2.Response) -> str:
    assert response.status_code == 200, response.text
    fields = dict(pair.split("=", 1) for pair in response.headers["x-steering"].split(";"))
    assert int(fields["rows_verified"]) > 0
    return fields["version"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("processes")
    own = {
        "api_server_count": 2,
        "ops_port": 0,
        "admin_key": ADMIN,
        "keys_file": "keys.yaml",
        "audit": {"file": str(folder / "audit.jsonl")},
        "recent_requests": 50,
    }
    config = live.prepare(folder, {**live.CONFIG, "server": {**live.CONFIG["server"], **own}})
    entries = [
        {"name": name, "sha256": hashlib.sha256(f"rs-{name}".encode()).hexdigest(), **rights}
        for name, rights in KEYS.items()
    ]
    (folder / "keys.yaml").write_text(yaml.safe_dump({"keys": entries}))
    with live.launched(folder, "--config", str(config)) as (url, process):
        server = LiveServer(url, folder, process)
        found = _OPS.search(server.log)
        assert found is not None
        yield Site(server, found[1])


def test_either_process_answers_and_metrics_are_their_sum(site: Site) -> None:
    assert len(site.members) == 2
    assert httpx2.get(site.ops + "/ready").status_code == 200
    before = site.metric("steering_requests_total")
    asked = 0
    for halted_pid in site.members:
        with halted(halted_pid):
            # Some connections go to the process that stands still: those give up.
            for _ in range(40):
                try:
                    answer = _briefly(site)
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


def _briefly(site: Site) -> httpx2.Response:
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
    headers = {"authorization": "Bearer rs-free"}
    return httpx2.post(site.server.url + CHAT, json=body, headers=headers, timeout=5)


def test_eight_clients_spend_exactly_one_budget(site: Site) -> None:
    began = time.monotonic()
    answers = site.at_once(4 * RATE, "rated", max_tokens=1)
    earned = (time.monotonic() - began) * RATE / 60
    passed = Counter(answer.status_code for answer in answers)
    assert set(passed) <= {200, 429}
    assert RATE <= passed[200] <= RATE + earned
    assert passed[429] >= 1


def test_a_key_holds_exactly_its_places_over_both_processes(site: Site) -> None:
    release = threading.Event()
    inside = threading.Semaphore(0)
    outcomes: list[int] = []

    def stream() -> None:
        body = {
            "messages": [{"role": "user", "content": "count"}],
            "max_tokens": 1500,
            "ignore_eos": True,
            "stream": True,
        }
        headers = {"authorization": "Bearer rs-placed"}
        with (
            httpx2.Client(timeout=120) as client,
            client.stream("POST", site.server.url + CHAT, json=body, headers=headers) as answer,
        ):
            outcomes.append(answer.status_code)
            inside.release()
            if answer.status_code == 200:
                release.wait(60)

    threads = [threading.Thread(target=stream) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert inside.acquire(timeout=60)
    release.set()
    for thread in threads:
        thread.join(60)
    assert Counter(outcomes) == {200: PLACES, 429: CLIENTS - PLACES}
    eventually(lambda: site.ask("placed", max_tokens=1).status_code == 200)


def test_a_change_reaches_every_process_before_it_is_confirmed(site: Site) -> None:
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
            found = site.put(floor)
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
def test_a_changed_file_reaches_every_process(site: Site, how: str) -> None:
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


def test_audit_lines_are_whole_whoever_writes_them(site: Site) -> None:
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


def test_a_process_that_dies_takes_the_server_with_it_and_loses_only_its_own(site: Site) -> None:
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
