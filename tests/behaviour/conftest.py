"""A checkout in which `make serve` has run, in a fresh environment, with its server."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.behaviour import fresh
from tests.behaviour.readme import Site
from tests.engine_lock import one_engine
from tests.needs import ROOT, demo_model, need
from tests.server.fixtures.live import stop

_LIMIT_SECONDS = 600
# What a checkout has and the tests do not need to see.
_LEFT_OUT = {".git", ".venv", "build", "dist", "my"}
# An answer that is no success is a failure of the command that asked.
_CURL_SETTINGS = "fail-with-body\nshow-error\n"


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel."""
    return fresh.build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def checkout(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a stranger has it after `make install`; what commands write stays in it."""
    folder = tmp_path_factory.mktemp("checkout")
    for path in ROOT.iterdir():
        if path.name not in _LEFT_OUT:
            (folder / path.name).symlink_to(path)
    fresh.make(folder / ".venv", wheel, fresh.INSTALL)
    (folder / ".curlrc").write_text(_CURL_SETTINGS, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def site(checkout: Path) -> Iterator[Site]:
    """The server that `make serve` starts, with images, audio and video."""
    need("demo-model")
    port = _free_port()
    with _served(checkout, port):
        yield Site(checkout, port, demo_model())


@contextmanager
def _served(checkout: Path, port: int) -> Iterator[None]:
    log = checkout / "serve.log"
    ours = ("REFUSAL_SERVER_", "PYTHON", "MAKE", "MFLAGS")
    environment = {name: v for name, v in os.environ.items() if not name.startswith(ours)}
    command = ["make", "serve", f"PORT={port}", f"EXTRA={fresh.engine()}"]
    with one_engine():
        with log.open("wb") as stream:
            process = subprocess.Popen(
                command,
                cwd=checkout,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        try:
            _await_ready(process, log)
        except BaseException:
            stop(process)
            raise
    try:
        yield
    finally:
        stop(process)


def _await_ready(process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _LIMIT_SECONDS
    while not re.search(r"^refusal-server is ready$", log.read_text(errors="replace"), re.M):
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"`make serve` did not serve:\n{log.read_text()[-4000:]}")
        time.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
