"""What two servers in a row could read differently, and clients that send more than one request."""

from __future__ import annotations

import contextlib
import random
import re
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from tests.server.http.test_http_protocol import (  # noqa: F401
    GET,
    HEADER_SECONDS,
    App,
    app,
    code,
    connect,
    exchange,
    port,
    server,
)

POST = b"POST / HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n"
LAST = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
LIMIT = 8192


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        POST + b"Content-Length: 3, 3\r\n",
        POST + b"Content-Length: +3\r\n",
        POST + b"Content-Length: 0x3\r\n",
        POST + b"Content-Length: 3 3\r\n",
        POST + b"Content-Length: 99999999999999999999\r\n",
        POST + b"Content-Length : 3\r\n",
        POST + b" Content-Length: 3\r\n",
        POST + b"X: a\r\n Content-Length: 3\r\n",
        POST + b"X: a\nContent-Length: 3\r\n",
        POST + b"X: a\rContent-Length: 3\r\n",
        POST + b"X: a\0b\r\n",
        POST + b"Transfer-Encoding: chunked, identity\r\n",
        POST + b"Transfer-Encoding: gzip\r\n",
        POST + b"Transfer-Encoding: xchunked\r\n",
        CHUNKED + b"Transfer-Encoding: chunked\r\n",
        CHUNKED + b"Content-Length: 3\r\n",
        b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n",
        b"GET /\x80 HTTP/1.1\r\nHost: x\r\n",
        b"GET /a b HTTP/1.1\r\nHost: x\r\n",
        b"PRI * HTTP/2.0\r\n",
    ],
)
def test_what_could_be_read_in_two_ways_is_refused_and_nothing_behind_it_is_read(
    port: int,  # noqa: F811
    data: bytes,
) -> None:
    answer = exchange(port, data + b"\r\nabc" + SMUGGLED)
    assert answer.startswith(b"HTTP/1.1 400"), answer
    assert answer.count(b"HTTP/1.1 ") == 1
    assert code(answer) == "invalid_request"


@pytest.mark.parametrize(
    "body",
    [
        b"x\r\n",
        b"-1\r\n",
        b"3\nabc\r\n",
        b"3\r\nabcd\r\n",
        b"3\r\nabc0\r\n\r\n",
        b"fffffffffffffffff\r\n",
        b"3 \r\nabc\r\n",
    ],
)
def test_a_body_in_broken_pieces_is_refused(port: int, body: bytes) -> None:  # noqa: F811
    answer = exchange(port, CHUNKED + b"\r\n" + body + b"\r\n" + SMUGGLED)
    assert answer.startswith(b"HTTP/1.1 400"), answer
    assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("kept", [b"X-Trailer: ", b""])
def test_what_stands_beside_a_body_is_bounded(port: int, kept: bytes) -> None:  # noqa: F811
    start = b"0\r\n" + kept if kept else b"3;"
    with connect(port) as link:
        link.sendall(CHUNKED + b"\r\n" + start)
        link.settimeout(30)
        sent = 0
        try:
            while sent < 100 * LIMIT:
                link.sendall(b"a" * 1024)
                sent += 1024
                time.sleep(0.001)
        except OSError:
            pass
        answer = link.recv(65_536)
    assert answer.startswith(b"HTTP/1.1 431")
    assert code(answer) == "header_too_large"


def test_a_header_behind_the_body_is_nobodys(port: int) -> None:  # noqa: F811
    data = CHUNKED + b"\r\n3\r\nabc\r\n0\r\nHost: y\r\nX: a\r\n\r\n"
    answer = exchange(port, data + LAST)
    assert answer.count(b"HTTP/1.1 200") == 2


@pytest.mark.parametrize("wish", [b"websocket", b"h2c"])
@pytest.mark.parametrize(
    ("body", "sent"),
    [
        (b"", b""),
        (b"Content-Length: 0\r\n", b""),
        (b"Content-Length: 3\r\n", b"abc"),
        (b"Transfer-Encoding: chunked\r\n", b"3\r\nabc\r\n0\r\n\r\n"),
    ],
)
def test_a_wish_for_another_protocol_is_passed_over(
    port: int,  # noqa: F811
    wish: bytes,
    body: bytes,
    sent: bytes,
) -> None:
    # Java's client asks for HTTP/2 with every request, those with a body too.
    data = POST + b"Connection: upgrade\r\nUpgrade: " + wish + b"\r\n" + body + b"\r\n"
    answer = exchange(port, data + sent + POST + b"Content-Length: 1\r\n\r\nd" + LAST)
    assert answer.count(b"HTTP/1.1 200") == 3
    for number, line in enumerate((b"got " + (b"abc" if sent else b""), b"got d", b"got ")):
        assert answer.split(b"\r\n\r\n")[number + 1].startswith(line + b";")


@pytest.mark.parametrize("seed", range(40))
def test_however_the_bytes_are_cut_the_answers_are_the_same(
    port: int,  # noqa: F811
    seed: int,
) -> None:
    requests = [
        GET + b"\r\n",
        POST + b"Content-Length: 3\r\n\r\nabc",
        POST + b"Content-Length: 2003\r\n\r\nabc" + b"d" * 2000,
        CHUNKED + b"\r\n7d3\r\nabc" + b"d" * 2000 + b"\r\n0\r\n\r\n",
        CHUNKED + b"\r\n3\r\nabc\r\n0\r\n\r\n",
        b"\r\n" + GET + b"X: a\r\n\r\n",
        POST + b"Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc",
    ]
    pick = random.Random(seed)
    some = [pick.choice(requests) for _ in range(pick.randint(0, 4))]
    data = b"".join(some) + LAST
    with connect(port) as link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data:
            size = pick.randint(1, len(data))
            link.sendall(data[:size])
            data = data[size:]
            time.sleep(0.002)
        answer = b""
        while piece := link.recv(65_536):
            answer += piece
    assert answer.count(b"HTTP/1.1 200 OK") == len(some) + 1
    said = re.findall(rb"got (\w*);", answer)
    assert said == [b"".join(re.findall(rb"abcd*", one)) for one in some] + [b""]


def test_garbage_is_told_behind_the_answer_that_is_on_its_way(port: int) -> None:  # noqa: F811
    answer = exchange(port, GET + b"\r\n" + b"garbage\r\n\r\n")
    first, _, second = answer.partition(b"got ;")
    assert first.startswith(b"HTTP/1.1 200")
    assert second.startswith(b"HTTP/1.1 400")
    assert code(second) == "invalid_request"


def test_a_second_request_whose_body_breaks_is_told_behind_the_first(
    port: int,  # noqa: F811
) -> None:
    answer = exchange(port, GET + b"\r\n" + CHUNKED + b"\r\nx\r\n")
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.count(b"HTTP/1.1 ") == 2
    assert b"HTTP/1.1 400" in answer


def test_empty_lines_do_not_keep_a_connection(port: int) -> None:  # noqa: F811
    with connect(port) as link:
        link.sendall(GET + b"\r\n")
        assert link.recv(65_536).startswith(b"HTTP/1.1 200")
        started = time.monotonic()
        link.settimeout(0.1)
        while time.monotonic() < started + 60:
            try:
                link.sendall(b"\r\n")
                if answer := link.recv(65_536):
                    break
            except TimeoutError:
                continue
    assert answer.startswith(b"HTTP/1.1 408")
    assert time.monotonic() - started < 60 * HEADER_SECONDS


def test_what_is_sent_ahead_waits_as_bytes(
    port: int,  # noqa: F811
    server: uvicorn.Server,  # noqa: F811
) -> None:
    with connect(port) as link:
        link.settimeout(0.2)
        link.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        # More than the kernel keeps: it is no longer read from.
        with pytest.raises(TimeoutError):
            for _ in range(1000):
                link.sendall((GET + b"\r\n") * 2000)
        known: Any = [*server.server_state.connections]
        (mine,) = [one for one in known if one.ahead]
        # One read of the loop is up to 256 KiB.
        assert len(mine.pipeline) < 40 and len(mine.ahead) < 2**19


@pytest.mark.parametrize("size", [3, 480, 2000, 300_000])
def test_a_body_that_was_sent_ahead_is_read_in_its_turn(
    port: int,  # noqa: F811
    size: int,
) -> None:
    one = POST + b"Content-Length: %d\r\n\r\n" % size + b"d" * size
    pieces = CHUNKED + b"\r\n%x\r\n" % size + b"e" * size + b"\r\n0\r\nX: a\r\n\r\n"
    answer = exchange(port, one + pieces + one + pieces + LAST)
    said = re.findall(rb"got (\w*);", answer)
    assert [(each[:1], len(each)) for each in said] == [
        (b"d", size),
        (b"e", size),
        (b"d", size),
        (b"e", size),
        (b"", 0),
    ]


def test_many_answers_let_in_no_more_than_is_read(
    port: int,  # noqa: F811
    server: uvicorn.Server,  # noqa: F811
) -> None:
    most = answers = 0
    with connect(port) as link:
        link.setblocking(False)
        waiting = (GET + b"\r\n") * 20_000
        until = time.monotonic() + 3
        while time.monotonic() < until:
            with contextlib.suppress(BlockingIOError):
                waiting = waiting[link.send(waiting) :] or (GET + b"\r\n") * 20_000
            with contextlib.suppress(BlockingIOError):
                answers += link.recv(2**20).count(b"HTTP/1.1 200")
            known: Any = [*server.server_state.connections]
            most = max([most, *(len(one.ahead) for one in known)])
    assert answers > 100
    assert most < 2**19


def test_an_answer_to_each_of_thousands_that_were_sent_at_once(port: int) -> None:  # noqa: F811
    answer = exchange(port, (GET + b"\r\n") * 3000 + LAST)
    assert answer.count(b"HTTP/1.1 200 OK") == 3001


@pytest.mark.parametrize("together", [True, False])
def test_a_client_that_says_close_behind_the_body_is_closed(
    port: int,  # noqa: F811
    together: bool,
) -> None:
    data = CHUNKED + b"\r\n3\r\nabc\r\n0\r\nConnection: close\r\n\r\n"
    with connect(port) as link:
        link.sendall(data + (SMUGGLED if together else b""))
        answer = b""
        while piece := link.recv(65_536):
            answer += piece
    # What follows would never be read: it must not look as if it were waited for.
    assert answer.count(b"HTTP/1.1 200") == 1 and answer.count(b"HTTP/1.1 ") == 1


def test_garbage_shortly_before_the_deadline_is_answered_once(
    port: int,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
) -> None:
    with connect(port) as link:
        time.sleep(HEADER_SECONDS * 0.7)
        link.sendall(b"garbage\r\n\r\n")
        assert link.recv(65_536).startswith(b"HTTP/1.1 400")
        time.sleep(HEADER_SECONDS)
    assert not [record for record in caplog.records if record.name == "asyncio"]


@pytest.mark.parametrize("rest", [b"x", b"", b"xx"])
def test_the_rest_of_a_body_keeps_no_connection(port: int, rest: bytes) -> None:  # noqa: F811
    with connect(port) as link:
        link.sendall(b"GET /unread HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n")
        started = time.monotonic()
        assert link.recv(65_536).startswith(b"HTTP/1.1 404")
        link.sendall(rest)
        while link.recv(65_536):
            pass
    assert time.monotonic() - started < 30


def test_a_body_that_breaks_behind_its_answer_ends_the_connection_without_a_word(
    port: int,  # noqa: F811
) -> None:
    with connect(port) as link:
        link.sendall(
            b"GET /unread HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n"
        )
        answer = link.recv(65_536)
        link.sendall(b"zz\r\n")
        while piece := link.recv(65_536):
            answer += piece
    assert answer.count(b"HTTP/1.1 ") == 1


def test_http_1_0_gets_neither_pieces_nor_leave_to_go_on(port: int) -> None:  # noqa: F811
    ask = b"POST /some HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc"
    answer = exchange(port, ask)
    assert answer.startswith(b"HTTP/1.1 200")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head.lower() and b"connection: close" in head.lower()
    assert body == b"one two three"


def test_blanks_around_a_value_are_none_of_it(port: int) -> None:  # noqa: F811
    answer = exchange(port, POST + b"Content-Length: \t 3 \t\r\nConnection: close \r\n\r\nabc")
    assert answer.startswith(b"HTTP/1.1 200") and b"got abc;" in answer


@pytest.fixture
def flooded(app: App) -> Iterator[threading.Event]:  # noqa: F811
    app.flood_ended.clear()
    yield app.flood_ended


def test_a_client_that_leaves_with_a_request_in_waiting_ends_the_one_before(
    port: int,  # noqa: F811
    flooded: threading.Event,
) -> None:
    with connect(port) as link:
        link.sendall(b"GET /flood HTTP/1.1\r\nHost: x\r\n\r\n" + GET + b"\r\n")
        assert link.recv(1024).startswith(b"HTTP/1.1 200")
    # Sooner than the deadline of a client that does not read.
    assert flooded.wait(60)
