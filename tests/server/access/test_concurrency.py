"""One key's requests, and one key's grammars, never take the places of all others."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from refusal_server.access.places import Places
from refusal_server.access.tally import LocalTally
from refusal_server.caller import ANYONE, Caller
from refusal_server.chat.request import ChatCall
from refusal_server.errors import ApiError
from refusal_server.settings import Limits
from tests.server.fixtures.keyed import Server, outcome
from tests.server.fixtures.states import eventually

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}]
GRAMMARS: dict[str, dict[str, Any]] = {
    "json object": {"response_format": {"type": "json_object"}},
    "json schema": {
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}
    },
    "choice": {"structured_outputs": {"choice": ["a", "b"]}},
    "regex": {"structured_outputs": {"regex": "[a-z]+"}},
    "grammar": {"structured_outputs": {"grammar": 'root ::= "a"'}},
    "schema": {"structured_outputs": {"json": SCHEMA}},
    "tools required": {"tools": TOOLS, "tool_choice": "required"},
    "a named tool": {
        "tools": TOOLS,
        "tool_choice": {"type": "function", "function": {"name": "f"}},
    },
}
FREE: dict[str, dict[str, Any]] = {
    "plain": {},
    "tools": {"tools": TOOLS},
    "tools, auto": {"tools": TOOLS, "tool_choice": "auto"},
    "tools, none": {"tools": TOOLS, "tool_choice": "none"},
    "text": {"response_format": {"type": "text"}},
}
KEYS = {"two": {"concurrent_requests": 2}, "one": {"concurrent_requests": 1}}


class Patient:
    """Answers once it is told to; a stream is open before."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.running = 0

    async def respond(self, call: ChatCall, raw: Request) -> Response:
        if call.request.stream:
            return StreamingResponse(self._events())
        await self._wait()
        return JSONResponse({"policy": call.choice.policy.name})

    async def _events(self) -> AsyncIterator[str]:
        yield "data: first\n\n"
        await self._wait()
        yield "data: [DONE]\n\n"

    async def _wait(self) -> None:
        self.running += 1
        try:
            while not self.go.is_set():
                await asyncio.sleep(0.005)
        finally:
            self.running -= 1


class Crowd:
    """A server, and requests that are in progress on it."""

    def __init__(self, folder: Path, **limits: Any) -> None:
        self.chat = Patient()
        self.server = Server(folder, self.chat, Limits(**limits), KEYS)
        self._pool = ThreadPoolExecutor(16)

    @contextmanager
    def busy(self, *asked: tuple[str, dict[str, Any]]) -> Iterator[None]:
        """Hold one request for each of ``asked``, a key and fields; all must end well."""
        self.chat.go.clear()
        held: list[Future[Any]] = []
        try:
            # One behind the other: streams that begin at once may need more places than there are.
            for key, fields in asked:
                held.append(self._pool.submit(self.server.ask, key, **fields))
                eventually(lambda: self.chat.running == len(held))
            yield
        finally:
            self.chat.go.set()
            answers = [answer.result(20).status_code for answer in held]
        assert set(answers) == {200}

    def ask(self, key: str, **fields: Any) -> Any:
        """One more request, which must not wait: it is denied, or those that wait are let go."""
        before = self.chat.running
        answer: Future[Any] = self._pool.submit(self.server.ask, key, **fields)
        eventually(lambda: answer.done() or self.chat.running > before)
        if not answer.done():
            self.chat.go.set()
        return answer.result(20)


@pytest.fixture
def crowd(tmp_path: Path) -> Crowd:
    return Crowd(tmp_path, grammars=3, grammars_per_key=2)


@pytest.mark.parametrize("fields", [{}, {"stream": True}], ids=["whole", "streamed"])
@pytest.mark.parametrize(("key", "most"), [("one", 1), ("two", 2)])
def test_a_key_has_so_many_requests_in_progress_until_their_last_byte(
    crowd: Crowd, fields: dict[str, Any], key: str, most: int
) -> None:
    for _ in range(2):
        with crowd.busy(*[(key, fields)] * most):
            denied = crowd.ask(key)
            assert denied.status_code == 429
            assert outcome(denied) == "concurrent_requests_exceeded"
            assert denied.json()["error"]["type"] == "rate_limit_error"
            assert int(denied.headers["retry-after"]) >= 1
            assert crowd.ask("plain").status_code == 200
    assert crowd.server.denied == 2
    assert {(event.key, event.code) for event in crowd.server.events.seen} == {
        (key, "concurrent_requests_exceeded")
    }
    assert crowd.ask(key).status_code == 200


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": []},
        {"steering": {"policy": "off"}},
        {"steering": 3},
        {"model": "none"},
        {"nonsense": 1},
        {"structured_outputs": {"regex": "a" * 9999}},
        {"logit_bias": "x"},
    ],
)
def test_a_request_that_fails_gives_its_place_back(crowd: Crowd, fields: dict[str, Any]) -> None:
    for _ in range(3):
        refused = crowd.server.ask("one", **fields)
        assert 400 <= refused.status_code < 500
        assert outcome(refused) != "concurrent_requests_exceeded"
    assert crowd.ask("one").status_code == 200


@pytest.mark.parametrize("fields", GRAMMARS.values(), ids=GRAMMARS)
def test_a_keys_grammars_wait_for_its_own_and_for_nobody_elses(
    crowd: Crowd, fields: dict[str, Any]
) -> None:
    with crowd.busy(("plain", GRAMMARS["regex"]), ("plain", GRAMMARS["json object"])):
        denied = crowd.ask("plain", **fields)
        assert denied.status_code == 429
        assert outcome(denied) == "grammars_exceeded"
        assert "retry-after" in denied.headers
        assert crowd.ask("free", **fields).status_code == 200
    assert crowd.ask("plain", **fields).status_code == 200


@pytest.mark.parametrize("fields", FREE.values(), ids=FREE)
def test_what_has_no_grammar_never_waits_for_one(crowd: Crowd, fields: dict[str, Any]) -> None:
    regex = GRAMMARS["regex"]
    with crowd.busy(("plain", regex), ("plain", regex), ("free", regex)):
        assert crowd.ask("plain", **fields).status_code == 200


@pytest.mark.parametrize("fields", GRAMMARS.values(), ids=GRAMMARS)
def test_over_all_keys_a_full_queue_is_the_servers_overload_and_nobodys_fault(
    crowd: Crowd, fields: dict[str, Any]
) -> None:
    regex = GRAMMARS["regex"]
    with crowd.busy(("plain", regex), ("plain", regex), ("free", regex)):
        turned_away = crowd.ask("named", **fields)
        assert turned_away.status_code == 503
        assert outcome(turned_away) == "server_overloaded"
        assert "retry-after" in turned_away.headers
    assert crowd.server.denied == 0
    assert crowd.ask("named", **fields).status_code == 200


def test_a_streams_grammar_is_compiled_once_its_first_token_is_there(crowd: Crowd) -> None:
    streamed = {**GRAMMARS["choice"], "stream": True}
    with crowd.busy(*[("plain", streamed)] * 4):
        assert crowd.ask("plain", **GRAMMARS["choice"]).status_code == 200


def test_callers_without_a_name_share_the_servers_places_alone() -> None:
    places = Places("things", "things_exceeded")
    caller = Caller("k")

    async def script() -> None:
        async with AsyncExitStack() as held:
            for _ in range(2):
                await held.enter_async_context(places.of_key(ANYONE, 1))
                await held.enter_async_context(places.of_all(2))
            with pytest.raises(ApiError) as caught:
                await held.enter_async_context(places.of_all(2))
            assert caught.value.status == 503
            for most in (None, None, 1):
                await held.enter_async_context(places.of_key(caller, most))
            with pytest.raises(ApiError) as caught:
                await held.enter_async_context(places.of_key(caller, 1))
            assert (caught.value.status, caught.value.code) == (429, "things_exceeded")

    asyncio.run(script())


def test_keys_that_hold_nothing_are_forgotten() -> None:
    tally = LocalTally()
    places = Places("things", "things_exceeded", tally)

    async def script() -> None:
        for number in range(1000):
            async with places.of_key(Caller(f"k{number}"), 1):
                assert len(tally) == 1

    asyncio.run(script())
    assert len(tally) == 0
