"""Too many callers, callers that leave, and callers that read slowly: rows 47 to 49."""

from __future__ import annotations

import json
import socket
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import Any

from tests.attack.rows.row import HELLO, Row, Target, answered, refused
from tests.attack.rows.servers import CHOICES, QUEUE
from tests.server.fixtures.live import CHAT, KEY
from tests.server.fixtures.states import eventually, halted

LONG: dict[str, Any] = {"messages": HELLO, "max_tokens": 1500, "min_tokens": 1500}


def _full(target: Target) -> str:
    clients = 2 * QUEUE // CHOICES
    with ThreadPoolExecutor(clients) as pool:
        with halted(target.server.engine):
            asked = [
                pool.submit(target.server.chat, n=CHOICES, temperature=1.0, max_tokens=2)
                for _ in range(clients)
            ]
            wait(asked, return_when=FIRST_COMPLETED)
        answers = [one.result() for one in asked]
    away = [answer for answer in answers if answer.status_code != 200]
    assert all(int(answer.headers["retry-after"]) > 0 for answer in away)
    seen = refused(away, 503, code="server_overloaded")
    return f"{seen} with Retry-After; afterwards {answered([target.server.chat()])}"


def _left(target: Target) -> str:
    for stream in (False, True):
        body = json.dumps({**LONG, "stream": stream}).encode()
        with socket.create_connection(target.server.address, timeout=60) as link:
            link.sendall(_head(body) + body)
            eventually(lambda: target.busy > 0)
        eventually(lambda: target.busy == 0, 10.0)
    return f"the engine stops, streaming or not; afterwards {answered([target.server.chat()])}"


def _slow_reader(target: Target) -> str:
    more = {"stream": True, "n": 8, "logprobs": True, "top_logprobs": 20, "temperature": 1.0}
    body = json.dumps({**LONG, **more}).encode()
    with socket.socket() as link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        link.connect(target.server.address)
        link.sendall(_head(body) + body)
        eventually(lambda: target.busy > 0)
        before = target.metric("vllm:generation_tokens_total")
        eventually(lambda: target.busy == 0, 240.0)
        made = target.metric("vllm:generation_tokens_total") - before
    whole = LONG["max_tokens"] * 8
    assert made < whole, "the answer was made to its end for nobody"
    return f"stopped after {made:.0f} of {whole} tokens"


def _head(body: bytes) -> bytes:
    return (
        f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {KEY}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()


ROWS = (
    Row((47,), "a full queue", "503 with Retry-After", _full),
    Row((48,), "callers that leave", "the engine stops", _left),
    Row((49,), "a caller that never reads", "the engine stops", _slow_reader),
)
