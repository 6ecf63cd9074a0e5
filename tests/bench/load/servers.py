"""The two servers that are compared, each with the same model and arguments of the engine."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import httpx2
import yaml

from refusal_steering.vllm_plugin.waiting import SHORTEST_SECONDS
from tests.server.fixtures.live import CONFIG, KEY, LIMIT_SECONDS, environment, launched, prepare
from tests.server.fixtures.live import stop as end

Who = Literal["stock", "ours"]
# Otherwise the comparison would be one of :mod:`refusal_steering.vllm_plugin.waiting`.
_WAITING = f"""
import os, time
os.sched_yield = lambda: time.sleep({SHORTEST_SECONDS})
"""


@dataclass(frozen=True)
class Server:
    """A ready server: its address, the name of its model, and its own process, not the engine's."""

    url: str
    model: str
    tokenizer: str
    pid: int


@dataclass(frozen=True)
class Site:
    """Where a configuration of ours lies, and the engine that it describes."""

    config: Path
    engine: Mapping[str, Any]

    @classmethod
    def tiny(cls, folder: Path) -> Site:
        """The tiny model with random bundles; it queues what it cannot run at once."""
        engine = {**CONFIG["engine"], "max_num_queued_reqs": 4096, "max_num_seqs": 64}
        return cls.of(prepare(folder, {**CONFIG, "engine": engine}))

    @classmethod
    def of(cls, config: Path, **more: Any) -> Site:
        """What ``config`` describes, with ``more`` arguments of the engine."""
        engine = {**yaml.safe_load(config.read_text())["engine"], **more}
        return cls(config, engine)

    @contextmanager
    def serving(self, who: Who, folder: Path) -> Iterator[Server]:
        """One of the two servers, logging below ``folder``."""
        name = (self.engine.get("served_model_name") or [self.engine["model"]])[0]
        tokenizer = self.engine["model"]
        if who == "ours":
            options = ("--config", str(self.config), "--port", "0", "--model", tokenizer)
            with launched(folder, *options) as (url, process):
                yield Server(url, name, tokenizer, process.pid)
        else:
            with _stock(self.engine, folder) as (url, pid):
                yield Server(url, name, tokenizer, pid)


@contextmanager
def _stock(engine: Mapping[str, Any], folder: Path) -> Iterator[tuple[str, int]]:
    """vLLM's own server, without this project's plugin, but with its way of waiting on a CPU."""
    port = _free_port()
    command = [
        *(sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", engine["model"]),
        *("--host", "127.0.0.1", "--port", str(port), "--api-key", KEY),
        *(
            word
            for name, value in engine.items()
            if name != "model"
            for word in _words(name, value)
        ),
    ]
    site = folder / "site"
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(_WAITING)
    with (folder / "stock.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment(REFUSAL_STEERING_DISABLE="1", PYTHONPATH=str(site)),
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _await_health(url, process, folder / "stock.log")
        yield url, process.pid
    finally:
        end(process)


def _words(name: str, value: Any) -> list[str]:
    option = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{option}" if value else f"--no-{option}"]
    if isinstance(value, list):
        return [f"--{option}", *map(str, value)]
    return [f"--{option}", json.dumps(value) if isinstance(value, dict) else str(value)]


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _await_health(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx2.get(f"{url}/health", timeout=5).status_code == 200:
                return
        except httpx2.TransportError:
            time.sleep(0.3)
    tail = re.sub(r"\x1b\[[0-9;]*m", "", log.read_text(errors="replace")).splitlines()[-20:]
    raise SystemExit("stock vLLM did not become ready:\n" + "\n".join(tail))
