"""``/live`` is answered while the main loop is held up; everything else is done on that loop."""

from __future__ import annotations

import asyncio
import threading
import time

import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from refusal_server.run.ops_thread import OtherLoop, ServingThread

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def _application(scope: Scope, receive: Receive, send: Send) -> None:
    request = Request(scope, receive)
    body = (await request.body()).decode()
    thread = threading.current_thread().name
    await JSONResponse({"thread": thread, "body": body})(scope, receive, send)


async def _get(app: OtherLoop, path: str, content: bytes = b"") -> httpx2.Response:
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://t") as client:
        return await client.request("POST" if content else "GET", path, content=content)


async def test_liveness_does_not_wait_and_the_rest_runs_on_the_main_loop() -> None:
    app = OtherLoop(_application, asyncio.get_running_loop())
    live: list[httpx2.Response] = []
    told: list[httpx2.Response] = []

    async def elsewhere() -> None:
        live.append(await _get(app, "/live"))
        told.append(await _get(app, "/metrics", b"hello"))

    thread = ServingThread(elsewhere)
    thread.start()
    deadline = time.monotonic() + 30
    while not live and time.monotonic() < deadline:
        # Holds up this loop: only the other one can have answered.
        time.sleep(0.01)
    assert live and live[0].json() == {"status": "live"}
    assert not told
    await thread.wait(30)
    assert told[0].json() == {"thread": "MainThread", "body": "hello"}
    assert thread.ended
