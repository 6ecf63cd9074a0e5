"""Raw bytes against uvicorn with our protocol and a tiny application."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator

import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from refusal_server.http.middleware.catch_all import CatchAllMiddleware
from refusal_server.http.middleware.framing import FramingMiddleware
from refusal_server.http.wire.protocol import deadline_protocol

HEADER_SECONDS = 0.5
WRITE_SECONDS = 0.5
GET = b"GET / HTTP/1.1\r\nHost: x\r\n"


class App:
    """Answers, fails or floods by path."""

    def __init__(self) -> None:
        self.flood_ended = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/fail":
            raise RuntimeError("boom")
        if scope["path"] == "/flood":
            await StreamingResponse(self._flood())(scope, receive, send)
            return
        if scope["path"] == "/refuse":
            refusal = PlainTextResponse("too large", 413, {"connection": "close"})
            await refusal(scope, receive, send)
            return
        if scope["path"] == "/unread":
            await PlainTextResponse("nobody", 404)(scope, receive, send)
            return
        if scope["path"] == "/slow":
            await asyncio.sleep(2)
        if scope["path"] == "/some":
            await StreamingResponse(iter((b"one ", b"two ", b"three")))(scope, receive, send)
            return
        body = await Request(scope, receive).body()
        await PlainTextResponse(f"got {body.decode()};")(scope, receive, send)

    async def _flood(self) -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 65_536
                await asyncio.sleep(0)
        finally:
            self.flood_ended.set()


class Quiet(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@pytest.fixture(scope="module")
def app() -> App:
    return App()


@pytest.fixture(scope="module")
def server(app: App) -> Iterator[uvicorn.Server]:
    config = uvicorn.Config(
        CatchAllMiddleware(FramingMiddleware(app, 8192)),
        port=0,
        http=deadline_protocol(HEADER_SECONDS, WRITE_SECONDS, 8192),
        ws="none",
        lifespan="off",
        log_config=None,
        timeout_graceful_shutdown=1,
        timeout_keep_alive=2,
    )
    server = Quiet(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server
    server.should_exit = True
    thread.join(5)


@pytest.fixture(scope="module")
def port(server: uvicorn.Server) -> int:
    return int(server.servers[0].sockets[0].getsockname()[1])


def exchange(port: int, data: bytes) -> bytes:
    """Everything that comes back until the server closes, which it must do by itself."""
    with connect(port) as link:
        link.sendall(data)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while chunk := link.recv(65_536):
                answer += chunk
        return answer


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=60)


def code(answer: bytes) -> str:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    return str(json.loads(body)["error"]["code"])


@pytest.mark.parametrize(
    "data",
    [
        b"garbage\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        GET + b"Bad Header: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
    ],
)
def test_bytes_that_are_not_http_get_a_400_object(port: int, data: bytes) -> None:
    answer = exchange(port, data + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400")
    assert code(answer) == "invalid_request"


def test_length_and_chunks_together_do_not_smuggle_a_second_request(port: int) -> None:
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    data = (
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"0\r\n\r\n"
    )
    answer = exchange(port, data + smuggled)
    assert answer.startswith(b"HTTP/1.1 400")
    assert answer.count(b"HTTP/1.1 ") == 1


def test_a_header_that_is_too_large_is_a_431(port: int) -> None:
    for end in (b"", b"\r\n\r\n"):
        answer = exchange(port, GET + b"X-Big: " + b"a" * 100_000 + end)
        assert answer.startswith(b"HTTP/1.1 431")
        assert code(answer) == "header_too_large"


def test_a_client_that_is_still_sending_reads_why_it_is_refused(port: int) -> None:
    for _ in range(20):
        with connect(port) as link:
            link.sendall(b"POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: 8000000\r\n\r\n")
            time.sleep(0.01)
            link.sendall(b"x" * 8_000_000)
            answer = b""
            while chunk := link.recv(65_536):
                answer += chunk
        assert answer.startswith(b"HTTP/1.1 413")
        assert answer.endswith(b"too large")


@pytest.mark.parametrize("data", [b"", b"GET / HT", GET, GET + b"X-Slow: a"])
def test_a_header_that_does_not_end_is_closed_when_its_time_is_over(port: int, data: bytes) -> None:
    started = time.monotonic()
    assert code(exchange(port, data)) == "request_timeout"
    assert time.monotonic() - started > HEADER_SECONDS * 0.8


def test_the_deadline_holds_for_later_requests_of_a_connection(port: int) -> None:
    answer = exchange(port, GET + b"\r\n" + b"GET / HT")
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"408" in answer


def test_an_idle_connection_stays_open_and_a_failure_does_not_close_it(port: int) -> None:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as link:
        link.connect()
        # It must not connect again by itself.
        link.auto_open = 0
        for path, status in (("/", 200), ("/fail", 500), ("/", 200)):
            link.request("GET", path)
            answer = link.getresponse()
            assert answer.status == status
            answer.read()
            time.sleep(HEADER_SECONDS * 1.3)


def test_a_client_that_does_not_read_is_cut_off(port: int, app: App) -> None:
    with connect(port) as link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        link.sendall(b"GET /flood HTTP/1.1\r\nHost: x\r\n\r\n")
        assert app.flood_ended.wait(60)
