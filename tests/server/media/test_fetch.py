"""Fetching from a local origin that misbehaves in every way."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

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
        self.send_header("content-length", str(length))
        self.end_headers()
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
) -> str:
    limits = Media(
        domains=domains, private_addresses=private, fetch_seconds=seconds, item_bytes=2000
    )

    async def run() -> str:
        return await MediaFetcher(limits).fetch(url, "part")

    return asyncio.run(run())


def test_an_allowed_medium_becomes_a_data_url(port: int) -> None:
    url = fetch(f"http://localhost:{port}/fine")
    assert url == "data:application/octet-stream;base64,eHh4eHh4eHh4eA=="


@pytest.mark.parametrize("path", ["missing", "broken", "moved", "long", "claims"])
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


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/", "http://[::1]/", "http://10.0.0.1/", "http://2130706433/"]
)
def test_a_listed_address_still_must_not_be_private(url: str) -> None:
    domains = ("127.0.0.1", "::1", "10.0.0.1", "2130706433")
    with pytest.raises(ApiError) as caught:
        fetch(url, private=False, domains=domains)
    assert caught.value.status in (400, 422)


@pytest.mark.parametrize("host", ["does-not-exist.invalid", "localhost:1"])
def test_names_that_do_not_answer_are_a_422(host: str) -> None:
    with pytest.raises(ApiError) as caught:
        fetch(f"http://{host}/", domains=("localhost", "does-not-exist.invalid"))
    assert caught.value.status == 422
