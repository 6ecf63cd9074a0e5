"""Slow and malformed connections to the real server."""

from __future__ import annotations

import contextlib
import socket

import pytest

from tests.server.fixtures.live import KEY, LiveServer

pytestmark = pytest.mark.engine

POST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    b"Authorization: Bearer " + KEY.encode() + b"\r\n"
)


def exchange(server: LiveServer, data: bytes) -> bytes:
    """What the server answers until it closes the connection, which it must do by itself."""
    with socket.create_connection(server.address, timeout=60) as link:
        link.sendall(data)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while chunk := link.recv(65_536):
                answer += chunk
        return answer


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}", b"400"),
        (POST.replace(b"1.1", b"9.9") + b"\r\n", b"400"),
        (POST + b"Content-Length: -5\r\n\r\n", b"400"),
        (b"\x00\x01\x02\r\n\r\n", b"400"),
        (POST + b"X-Big: " + b"a" * 100_000 + b"\r\n\r\n", b"431"),
        (POST + b"Content-Length: 99999999999\r\n\r\n", b"413"),
        (POST + b"Con", b"408"),
        (POST + b"Content-Length: 100\r\n\r\n{", b"408"),
    ],
)
def test_bad_framing_is_refused_and_closed(server: LiveServer, data: bytes, status: bytes) -> None:
    answer = exchange(server, data)
    assert answer.startswith(b"HTTP/1.1 " + status), answer[:300]
    assert b'"code"' in answer
    assert server.ready_status == 200
