"""Who may come in, and where: rows 1 to 4, 58 to 60, and 70."""

from __future__ import annotations

import re
import time
from typing import Any

import httpx2

from tests.attack.rows.row import HELLO, Row, Target, answered, refused
from tests.server.fixtures.live import CHAT, KEY
from tests.server.fixtures.states import eventually

GUESSES = 20


def _keys(target: Target) -> str:
    headers: tuple[dict[str, str], ...] = (
        {},
        {"authorization": "Bearer wrong"},
        {"x-api-key": KEY},
        {"authorization": f"Basic {KEY}"},
    )
    answers = [httpx2.post(target.server.url + CHAT, json={}, headers=given) for given in headers]
    assert all(answer.headers["www-authenticate"] == "Bearer" for answer in answers)
    return refused(answers, 401, code="invalid_api_key")


def _absent_routes(target: Target) -> str:
    paths = ("/invocations", "/tokenize", "/pause", "/openapi.json", "/docs", "/v1/completions")
    with target.server.client() as client:
        return refused([client.post(path, json={"messages": HELLO}) for path in paths], 404)


def _metrics(target: Target) -> str:
    with target.server.client() as client:
        closed = client.get("/metrics").status_code
    opened = httpx2.get(f"{target.ops}/metrics", timeout=60).status_code
    assert (closed, opened) == (404, 200)
    return f"{opened} on the ops port, {closed} beside the API"


def _wrong_method(target: Target) -> str:
    with target.server.client() as client:
        wrong = client.get(CHAT)
        assert wrong.headers["allow"] == "POST"
        seen = refused([wrong, client.delete("/v1/models")], 405)
        return seen + ", " + refused([client.get("/nowhere")], 404)


def _hosts(target: Target) -> str:
    hosts = ("localhost/v1/models?", "localhost/ready?", "localhost/health#", "a/live?b")
    answers = [
        httpx2.post(target.server.url + CHAT, json={}, headers={"host": host}) for host in hosts
    ]
    return refused(answers, 400, 401)


def _request_ids(target: Target) -> str:
    given = ("a b", "<script>", "x" * 10_000, "a\tb", "")
    with target.server.client() as client:
        answers = [client.get("/v1/models", headers={"x-request-id": text}) for text in given]
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert all(re.fullmatch(r"[0-9a-f]{32}", one) for one in ids)
    return f"replaced ({len(ids)})"


def _kept_connection(target: Target) -> str:
    with target.server.client() as client:
        bodies: tuple[Any, ...] = ({"messages": []}, {"messages": HELLO, "seed": 2**70}, [])
        for body in bodies:
            assert client.post(CHAT, json=body).status_code == 400
            assert client.get("/v1/models").status_code == 200
    return "400 and then 200 on one connection (3)"


def _guesses(target: Target) -> str:
    before, counted = len(_denials(target)), target.metric("steering_wrong_keys_total")
    started = time.monotonic()
    answers = [
        httpx2.post(
            target.server.url + CHAT, json={}, headers={"authorization": f"Bearer guess-{number}"}
        )
        for number in range(GUESSES)
    ]
    seen = refused(answers, 401)
    took = time.monotonic() - started
    assert target.metric("steering_wrong_keys_total") == counted + GUESSES
    eventually(lambda: len(_denials(target)) > before)
    written = len(_denials(target)) - before
    assert written < GUESSES, "one line for every guess fills the disk"
    good = answered([target.server.chat()])
    return f"{seen} in {took:.0f} s, {written} lines in the audit log; the right key: {good}"


def _denials(target: Target) -> list[str]:
    lines = target.audit.read_text().splitlines() if target.audit.exists() else []
    return [line for line in lines if '"wrong_key"' in line]


ROWS = (
    Row((1,), "no key, wrong key, key in another header", "401 `invalid_api_key`", _keys),
    Row((2,), "routes of the engine's own server", "404", _absent_routes),
    Row((3,), "`/metrics` without a key", "on the ops port only", _metrics),
    Row((4,), "unknown path, wrong method", "404, 405 with `Allow`", _wrong_method),
    Row((58,), "`Host` that names another path", "401", _hosts),
    Row((59,), "`X-Request-Id` with control characters or of 10 KB", "replaced", _request_ids),
    Row((60,), "errors on a kept connection", "the connection survives", _kept_connection),
    Row((70,), "many wrong keys", "counted, audited at a limited rate, slowed", _guesses),
)
