"""``vllm-router`` before two replicas: steering fields, proofs and streams pass, a loss is one."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.needs import ROOT, need
from tests.server.fixtures.replica import EVENTS
from tests.server.fixtures.states import eventually

pytestmark = pytest.mark.slow
CHAT = "/v1/chat/completions"
NAMES = ("one", "two")


@dataclass
class Fleet:
    """The router's URL and the replicas' processes by name."""

    url: str
    replicas: dict[str, subprocess.Popen[str]]

    def ask(self, **fields: Any) -> httpx2.Response:
        """One chat."""
        body = {"messages": [{"role": "user", "content": "Hello."}], **fields}
        return httpx2.post(self.url + CHAT, json=body, timeout=60)

    def stream(self, begun: threading.Semaphore | None = None) -> tuple[str, int, bool]:
        """Who has answered one streamed chat, with how many events, and whether to the end."""
        body = {"messages": [{"role": "user", "content": "Hello."}], "stream": True}
        who, events, whole = "", 0, False
        try:
            with (
                httpx2.Client(timeout=60) as client,
                client.stream("POST", self.url + CHAT, json=body) as answer,
            ):
                assert answer.status_code == 200
                assert "policy=static" in answer.headers["x-steering"]
                for line in answer.iter_lines():
                    if line == "data: [DONE]":
                        whole = True
                    elif line.startswith("data: ") and "choices" in line:
                        choices = json.loads(line.removeprefix("data: "))["choices"]
                        who = choices[0]["delta"].get("content") or who if choices else who
                        events += 1
                        if events == 1 and begun is not None:
                            begun.release()
        except httpx2.TransportError:
            pass
        return who, events, whole


def said(answer: httpx2.Response) -> str:
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-steering"].startswith("policy=")
    return str(answer.json()["choices"][0]["message"]["content"])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    need("vllm-router")
    folder = tmp_path_factory.mktemp("fleet")
    started: list[subprocess.Popen[str]] = []

    def start(name: str) -> subprocess.Popen[str]:
        (folder / name).mkdir()
        command = [sys.executable, "-m", "tests.server.fixtures.replica", str(folder / name), name]
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=(folder / f"{name}.log").open("w"),
            text=True,
        )
        started.append(process)
        return process

    try:
        replicas = {name: start(name) for name in NAMES}
        urls = []
        for name, process in replicas.items():
            assert process.stdout is not None
            port = process.stdout.readline().strip()
            assert port, (folder / f"{name}.log").read_text()
            urls.append(f"http://127.0.0.1:{port}")
        entrance = _free_port()
        url = f"http://127.0.0.1:{entrance}"
        _start_router(folder, entrance, urls, started)
        eventually(lambda: _answers(url))
        yield Fleet(url, replicas)
    finally:
        for process in started:
            process.kill()
            process.wait(30)


def _start_router(
    folder: Path, port: int, urls: list[str], started: list[subprocess.Popen[str]]
) -> None:
    options = {
        "--host": "127.0.0.1",
        "--port": str(port),
        "--prometheus-port": str(_free_port()),
        "--policy": "round_robin",
        "--health-check-endpoint": "/health",
        "--health-check-interval-secs": "1",
        "--request-id-headers": "x-request-id",
    }
    given = [part for option in options.items() for part in option]
    command = [sys.executable, "-m", "vllm_router.launch_router", *given, "--worker-urls", *urls]
    log = (folder / "router.log").open("w")
    started.append(subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, text=True))


def _answers(url: str) -> bool:
    body = {"messages": [{"role": "user", "content": "Hello."}]}
    try:
        return httpx2.post(url + CHAT, json=body, timeout=10).status_code == 200
    except httpx2.TransportError:
        return False


def test_steering_fields_and_proofs_pass_to_and_from_either_replica(fleet: Fleet) -> None:
    steering = {"policy": "omnisteer", "strength": 1.5, "report": True}
    answers = [fleet.ask(steering=steering) for _ in range(8)]
    assert {said(answer) for answer in answers} == set(NAMES)
    for answer in answers:
        assert answer.headers["x-steering"].startswith("policy=omnisteer;")
        assert answer.json()["steering"]["rows_verified"] >= 1
    versions = {answer.headers["x-steering"].split("version=")[1][:12] for answer in answers}
    assert len(versions) == 1
    refused = fleet.ask(steering={"policy": "omnisteer", "strength": 99})
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "steering.strength"


def test_streams_are_whole(fleet: Fleet) -> None:
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda _: fleet.stream(), range(6)))
    assert {who for who, _, _ in found} == set(NAMES)
    assert all(whole and events >= EVENTS for _, events, whole in found)


def test_of_a_replica_that_is_killed_nothing_is_lost_but_what_was_on_it(fleet: Fleet) -> None:
    """The last test of the module: one replica is left afterwards."""
    begun = threading.Semaphore(0)
    with ThreadPoolExecutor(8) as pool:
        streams = [pool.submit(fleet.stream, begun) for _ in range(8)]
        for _ in streams:
            assert begun.acquire(timeout=60)
        fleet.replicas["two"].kill()
        found = [stream.result(120) for stream in streams]
    of = {name: [part for part in found if part[0] == name] for name in NAMES}
    assert of["one"] and of["two"]
    assert all(whole for _, _, whole in of["one"])
    # No broken stream ends as a whole one does: its caller knows.
    assert not any(whole for _, _, whole in of["two"])
    assert {said(fleet.ask()) for _ in range(12)} == {"one"}
