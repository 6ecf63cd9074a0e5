"""``refusal-server fleet status`` says who has which policy, and fails where they differ."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from refusal_server.run.cli import main

VERSION = {
    "refusal_server": "0.1",
    "vllm": "0.32",
    "policy_version": "aaaaaaaaaaaa",
    "default_policy": "main",
    "bundles": {},
}
READY = (200, {"status": "ready"})
Answers = dict[str, tuple[int, Any]]
Serve = Callable[..., str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts an instance with these answers; its URL."""
    servers: list[ThreadingHTTPServer] = []

    def start(ready: tuple[int, Any] = READY, **version: Any) -> str:
        answers: Answers = {"/version": (200, VERSION | version), "/ready": ready}

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, content = answers.get(self.path, (404, {}))
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(content).encode())

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def status(*urls: str) -> int:
    return main(["fleet", "status", *(part for url in urls for part in ("--url", url))])


def test_instances_of_one_policy_agree(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    urls = [serve(), serve() + "/"]
    assert status(*urls) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:2]] == [url.rstrip("/") for url in urls]
    assert lines[-1] == "agreed: policy aaaaaaaaaaaa on 2 instances"


def test_a_difference_is_named_and_is_the_exit_status(
    serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(serve(), serve(policy_version="bbbbbbbbbbbb"), serve()) == 1
    out = capsys.readouterr().out
    assert "policy bbbbbbbbbbbb" in out
    assert out.splitlines()[-1] == "they differ: 2 policy versions on 3 instances"


def test_of_an_instance_that_is_not_reached_nothing_is_known(
    serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(serve(), "http://127.0.0.1:1") == 1
    assert status(serve(), serve(ready=(200, []))) == 1
    out = capsys.readouterr().out
    assert out.count("1 of 2 instances were not reached") == 2
    assert "name its ops port" in out


def test_an_instance_that_is_not_ready_is_shown_with_its_policy(
    serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    draining = (503, {"status": "not_ready", "reason": "shutting_down"})
    assert status(serve(), serve(ready=draining)) == 0
    assert "shutting_down" in capsys.readouterr().out


def test_machines_read_json(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fleet", "status", "--url", serve(), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["agreed"] is True
    assert found["instances"][0]["policy_version"] == VERSION["policy_version"]
    assert found["instances"][0]["ready"] == "ready"


def test_what_is_no_url_is_refused_before_anybody_is_asked(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert status("localhost:9400") == 2
    assert "write it as http://host:port" in capsys.readouterr().err
