"""Fetching from a local origin that misbehaves in every way."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from aiohttp.resolver import ThreadedResolver

from refusal_server.errors import ApiError
from refusal_server.media.fetch import MediaFetcher
from refusal_server.settings import Media


class Origin(BaseHTTPRequestHandler):
    enough = threading.Event()

    def do_GET(self) -> None:
        if self.path == "/silent":
            self.enough.wait()
        status = {"/missing": 404, "/broken": 500, "/moved": 302}.get(self.path, 200)
        body = b"x" * (3000 if self.path == "/long" else 10)
        self.send_response(status)
        if self.path == "/moved":
            self.send_header("location", "/fine")
        length = 10**12 if self.path == "/claims" else len(body)
        if self.path == "/packed":
            self.send_header("content-encoding", "gzip")
        self.send_header("content-length", str(length))
        self.end_headers()
        if self.path == "/claims":
            self.wfile.flush()
            self.enough.wait()  # whoever waits for what was announced waits for ever
            return
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Origin)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    Origin.enough.set()
    server.shutdown()
    server.server_close()


def fetch(
    url: str,
    *,
    private: bool = True,
    domains: tuple[str, ...] = ("localhost",),
    seconds: float = 60.0,
) -> bytes:
    limits = Media(
        domains=domains, private_addresses=private, fetch_seconds=seconds, item_bytes=2000
    )

    async def run() -> bytes:
        return await MediaFetcher(limits).fetch(url, "part")

    return asyncio.run(run())


def test_an_allowed_medium_is_fetched(port: int) -> None:
    assert fetch(f"http://localhost:{port}/fine") == b"xxxxxxxxxx"


@pytest.mark.parametrize("path", ["missing", "broken", "moved", "long", "claims", "packed"])
def test_an_origin_that_fails_is_a_422(port: int, path: str) -> None:
    with pytest.raises(ApiError) as caught:
        fetch(f"http://localhost:{port}/{path}")
    assert (caught.value.status, caught.value.code) == (422, "media_fetch_failed")
    assert "localhost" not in caught.value.message


def test_an_origin_that_is_silent_is_given_up(port: int) -> None:
    with pytest.raises(ApiError) as caught:
        fetch(f"http://localhost:{port}/silent", seconds=0.2)
    assert (caught.value.status, caught.value.code) == (422, "media_fetch_failed")
    assert not Origin.enough.is_set()


def test_a_private_address_behind_an_allowed_name_is_never_reached(port: int) -> None:
    with pytest.raises(ApiError) as caught:
        fetch(f"http://localhost:{port}/fine", private=False)
    assert caught.value.status == 422


def test_an_announced_length_is_read_before_the_body(port: int) -> None:
    with pytest.raises(ApiError, match="announces more than 2000 bytes"):
        fetch(f"http://localhost:{port}/claims")
    assert not Origin.enough.is_set()


LISTED = (
    *("127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0", "0.0.0.0"),
    *("10.0.0.1", "169.254.169.254", "100.64.0.1", "8.8.8.8"),
    *("::1", "::", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "fe80::1"),
)


@pytest.mark.parametrize("host", LISTED)
def test_a_listed_address_still_is_no_name(host: str) -> None:
    url = f"http://[{host}]/" if ":" in host else f"http://{host}/"
    with pytest.raises(ApiError) as caught:
        fetch(url, private=False, domains=LISTED)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "found",
    [
        ["127.0.0.1"],
        ["93.184.215.14", "10.0.0.7"],
        ["::ffff:10.0.0.7"],
        ["64:ff9b::a9fe:a9fe"],
        ["fe80::1%1"],
        ["2002:7f00:1::1", "2606:4700::1"],
        ["0.0.0.0"],
    ],
)
def test_a_name_with_one_address_that_is_not_public_is_not_reached(
    found: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert reached(found, monkeypatch) == []


@pytest.mark.parametrize("found", [["93.184.215.14"], ["2606:4700::1", "1.1.1.1"]])
def test_a_connection_goes_to_an_address_that_was_checked(
    found: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert reached(found, monkeypatch) == sorted(found)


def reached(found: list[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that a connection is tried to when a name has those of ``found``."""
    tried: list[str] = []

    async def resolve(*_: object) -> list[dict[str, Any]]:
        named = {"hostname": "a.example", "port": 80, "proto": 0, "flags": 0}
        return [{**named, "host": host, "family": _family(host)} for host in found]

    async def connect(addr_infos: list[Any], **_: object) -> None:
        tried.extend(info[4][0] for info in addr_infos)
        raise OSError("not from a test")

    monkeypatch.setattr(ThreadedResolver, "resolve", resolve)
    monkeypatch.setattr("aiohttp.connector.aiohappyeyeballs.start_connection", connect)
    with pytest.raises(ApiError) as caught:
        fetch("http://a.example/x.png", private=False, domains=("a.example",))
    assert (caught.value.status, caught.value.code) == (422, "media_fetch_failed")
    assert "." not in caught.value.message.rstrip(".")
    return sorted(set(tried))


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


@pytest.mark.parametrize("host", ["does-not-exist.invalid", "localhost:1"])
def test_names_that_do_not_answer_are_a_422(host: str) -> None:
    with pytest.raises(ApiError) as caught:
        fetch(f"http://{host}/", domains=("localhost", "does-not-exist.invalid"))
    assert caught.value.status == 422
