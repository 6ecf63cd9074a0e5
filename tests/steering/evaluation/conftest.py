"""A scripted server for each test that asks for one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.steering.evaluation.fake_server import FakeServer, Script, running

Serve = Callable[..., FakeServer]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts fake servers; they end with the test."""
    with ExitStack() as stack:

        def start(script: Script, **options: Any) -> FakeServer:
            return stack.enter_context(running(FakeServer(script, **options)))

        yield start


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """No hub answers."""

    class Closed:
        @staticmethod
        def hf_hub_download(*_: object, **__: object) -> str:
            raise ConnectionError("no route")

    monkeypatch.setitem(sys.modules, "huggingface_hub", Closed)
