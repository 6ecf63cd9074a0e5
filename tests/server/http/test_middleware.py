from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from refusal_server.access.key_file import OPEN, Keyring
from refusal_server.http.health import Health
from refusal_server.http.middleware.auth import AuthMiddleware
from refusal_server.http.middleware.body_limit import BodyLimitMiddleware
from refusal_server.http.middleware.catch_all import CatchAllMiddleware
from refusal_server.http.middleware.drain import DrainMiddleware
from refusal_server.http.middleware.request_id import RequestIdMiddleware
from tests.server.fixtures.fair_use import unheeded


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    request = Request(scope, receive)
    body = await request.body()
    content = {"id": request.headers.get("x-request-id"), "body": body.decode()}
    await JSONResponse(content)(scope, receive, send)


async def drive(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)


def client(app: ASGIApp) -> TestClient:
    return TestClient(app, raise_server_exceptions=False)


def code(response: Any) -> str:
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return str(error["code"])


class TestRequestId:
    app = client(RequestIdMiddleware(echo))

    @pytest.mark.parametrize("given", ["a", "A-b_c.9", "x" * 128])
    def test_a_plain_id_is_kept_and_echoed(self, given: str) -> None:
        response = self.app.get("/", headers={"x-request-id": given})
        assert response.json()["id"] == response.headers["x-request-id"] == given

    @pytest.mark.parametrize("given", ["", "a b", "a\tb", "<script>", "x" * 129, "x" * 10_000, "ä"])
    def test_any_other_is_replaced(self, given: str) -> None:
        response = self.app.get("/", headers=[(b"x-request-id", given.encode("latin-1"))])
        assert response.json()["id"] == response.headers["x-request-id"]
        assert len(response.json()["id"]) == 32

    def test_two_ids_are_none(self) -> None:
        response = self.app.get("/", headers=[("x-request-id", "a"), ("x-request-id", "b")])
        assert len(response.headers["x-request-id"]) == 32


def guarded(keys: Keyring, *public: str) -> AuthMiddleware:
    return AuthMiddleware(echo, keys.admit, unheeded(), "api", public)


class TestAuth:
    app = client(guarded(Keyring().plus("secret"), "/ready"))

    def test_the_bearer_key_opens(self) -> None:
        for scheme in ("Bearer", "bearer"):
            headers = {"authorization": f"{scheme} secret"}
            assert self.app.get("/v1/x", headers=headers).status_code == 200

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"authorization": "Bearer wrong"},
            {"authorization": "Bearer "},
            {"authorization": "secret"},
            {"authorization": "Basic secret"},
            {"x-api-key": "secret"},
            {"authorization": b"Bearer \xff\xfe"},
            {"host": "localhost/ready?"},
        ],
    )
    def test_anything_else_is_refused_on_every_path(self, headers: dict[str, Any]) -> None:
        for path in ("/", "/v1/chat/completions", "/metrics", "/ready/", "//ready"):
            response = self.app.get(path, headers=headers)
            assert response.status_code == 401
            assert response.headers["www-authenticate"] == "Bearer"
            assert code(response) == "invalid_api_key"

    def test_two_headers_are_none(self) -> None:
        headers = [("authorization", "Bearer secret"), ("authorization", "Bearer secret")]
        assert self.app.get("/x", headers=headers).status_code == 401

    def test_public_paths_and_servers_without_a_key_are_open(self) -> None:
        assert self.app.get("/ready").status_code == 200
        assert client(guarded(OPEN)).get("/x").status_code == 200


class TestBodyLimit:
    app = client(BodyLimitMiddleware(echo, 100, 0.3, ["/json"]))

    def test_a_body_within_the_limit_passes_whole(self) -> None:
        assert self.app.post("/", content=b"x" * 100).json()["body"] == "x" * 100

    def test_too_large_by_its_length(self) -> None:
        response = self.app.post("/", content=b"x" * 101)
        assert (response.status_code, code(response)) == (413, "request_too_large")
        assert response.headers["connection"] == "close"

    def test_too_large_while_streaming(self) -> None:
        response = self.app.post("/", content=(b"x" * 40 for _ in range(3)))
        assert response.status_code == 413

    @pytest.mark.parametrize(
        "kind", [None, "text/plain", "application/jsonx", "multipart/form-data"]
    )
    def test_json_paths_take_only_json(self, kind: str | None) -> None:
        headers = {} if kind is None else {"content-type": kind}
        response = self.app.post("/json", content=b"{}", headers=headers)
        assert (response.status_code, code(response)) == (415, "unsupported_media_type")

    def test_json_may_name_its_charset(self) -> None:
        headers = {"content-type": "Application/JSON; charset=utf-8"}
        assert self.app.post("/json", content=b"{}", headers=headers).status_code == 200

    def test_a_length_that_is_no_number_is_refused(self) -> None:
        response = self.app.post("/", content=b"{}", headers={"content-length": "-1"})
        assert response.status_code == 400

    def test_a_body_that_does_not_arrive_times_out(self) -> None:
        sent: list[Message] = []

        async def receive() -> Message:
            await asyncio.sleep(10)
            raise AssertionError

        async def send(message: Message) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
        asyncio.run(drive(self.app.app, scope, receive, send))
        assert sent[0]["status"] == 408

    def test_a_disconnect_while_reading_ends_quietly(self) -> None:
        async def receive() -> Message:
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            raise AssertionError(message)

        scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
        asyncio.run(drive(self.app.app, scope, receive, send))


class TestCatchAll:
    def test_an_unhandled_error_is_a_500_object_without_its_text(self) -> None:
        async def broken(*_: Any) -> None:
            raise RuntimeError("secret detail")

        response = client(CatchAllMiddleware(broken)).get("/")
        assert (response.status_code, code(response)) == (500, "internal_error")
        assert "secret" not in response.text

    def test_after_the_first_byte_the_connection_breaks(self) -> None:
        async def half(scope: Scope, receive: Receive, send: Send) -> None:
            async def chunks() -> Any:
                yield "a"
                raise RuntimeError("late")

            await StreamingResponse(chunks())(scope, receive, send)

        with pytest.raises(Exception, match="late"):
            TestClient(CatchAllMiddleware(half)).get("/")


class TestDrain:
    def test_work_is_turned_away_with_the_reason_while_public_paths_answer(self) -> None:
        health = Health(engine_failed=lambda: False)
        app = client(DrainMiddleware(echo, health, ["/ready"]))
        for state, reason in (("starting", "starting"), ("draining", "shutting_down")):
            health.started = state != "starting"
            health.draining = state == "draining"
            response = app.get("/v1/x")
            assert (response.status_code, code(response)) == (503, reason)
            assert int(response.headers["retry-after"]) > 0
            assert app.get("/ready").status_code == 200

    def test_a_dead_engine_shows_at_once(self) -> None:
        health = Health(engine_failed=lambda: True, started=True)
        assert health.reason == "engine_dead"
        assert client(DrainMiddleware(echo, health, [])).get("/x").status_code == 503

    def test_work_in_flight_is_counted_to_its_end(self) -> None:
        health = Health(engine_failed=lambda: False, started=True)
        seen: list[int] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            seen.append(health.in_flight)
            await PlainTextResponse("x")(scope, receive, send)

        guarded = client(DrainMiddleware(app, health, []))
        guarded.get("/")
        assert seen == [1]
        assert health.in_flight == 0
