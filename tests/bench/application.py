"""What the server adds to a request and to a streamed event, next to vLLM's own application.

    python -m tests.bench.application [--rounds 15] [--out FILE]

Both applications stand before the same scripted serving object, each behind its own uvicorn on a
uvloop in a thread of its own; they take turns. The figures are processor time of that thread, so
no client is in them, of an engine only the script, and of what else the machine does hardly any.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import logging
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

import uvicorn
import uvloop
from vllm.entrypoints.launchers.app import build_app
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser

from refusal_server.run.front import Front
from refusal_server.run.startup import bind
from refusal_server.settings import Settings
from refusal_steering.vllm_plugin.gateway import SteeringGateway
from refusal_steering.vllm_plugin.protocols import EngineClient
from tests.server.fixtures.live import CHAT
from tests.server.fixtures.scripted_application import Engine, Serving, application

STOCK = "stock"
# The row of the table, and the policy that it asks for.
ARMS = {STOCK: None, "off": "off", "static": "static"}
REQUESTS, EVENTS = 100, 2000


class PacedEngine(Engine):
    """Gives the loop a turn with each token, as an engine in another process does."""

    async def generate(
        self, prompt: object, params: Any, request_id: str, **more: object
    ) -> AsyncIterator[object]:
        """As the engine's."""
        async for output in super().generate(prompt, params, request_id, **more):
            await asyncio.sleep(0)
            yield output


@dataclass(frozen=True)
class Site:
    """A server in a thread: its port, and the clock of that thread."""

    port: int
    clock: int

    def seconds(self) -> float:
        """Processor time that the thread has used."""
        return time.clock_gettime(self.clock)


Close = Callable[[], Awaitable[None]]


@contextmanager
def threaded(opened: Callable[[], Awaitable[tuple[int, Close]]]) -> Iterator[Site]:
    """Run what is opened on a uvloop of its own; ``opened`` gives its port and what closes it."""
    loop = uvloop.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def on_loop(work: Awaitable[Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(_awaited(work), loop).result(60)

    port, close = on_loop(opened())
    assert thread.ident is not None
    try:
        yield Site(port, time.pthread_getcpuclockid(thread.ident))
    finally:
        on_loop(close())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _awaited(work: Awaitable[Any]) -> Any:
    return await work


async def open_stock() -> tuple[int, Close]:
    """vLLM's application as its command line builds it, with every default."""
    args = make_arg_parser(FlexibleArgumentParser()).parse_args([])
    root = logging.getLogger()
    level = root.level
    app = build_app(args, ("generate",))
    # One of its libraries silences every logger of the process.
    root.setLevel(level)
    app.state.openai_serving_chat = Serving(PacedEngine())
    listener = bind("127.0.0.1", 0)
    config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0.01)

    async def close() -> None:
        server.should_exit = True
        await serving

    return int(listener.getsockname()[1]), close


def opener(folder: Path) -> Callable[[], Awaitable[tuple[int, Close]]]:
    """What opens the application of this project, with an audit log in ``folder``."""

    async def opened() -> tuple[int, Close]:
        engine = PacedEngine()
        SteeringGateway(cast(EngineClient, engine))
        app, audit = application(folder, Serving(engine))
        front = Front(app, Settings(), bind("127.0.0.1", 0))
        await front.open()

        async def close() -> None:
            await front.close()
            audit.close(5)

        return int(front.listener.getsockname()[1]), close

    return opened


@dataclass(frozen=True)
class Cost:
    """Microseconds of a request that is not streamed, and of an event of one that is.

    ``everywhere`` is the request's with what other threads than the client's do for it.
    """

    request: float
    everywhere: float
    event: float


def cost(site: Site, policy: str | None) -> Cost:
    """What one arm costs now."""
    link = http.client.HTTPConnection("127.0.0.1", site.port, timeout=60)
    before, others = site.seconds(), time.process_time() - time.thread_time()
    for _ in range(REQUESTS):
        _ask(link, policy, 1, stream=False)
    request = (site.seconds() - before) / REQUESTS
    everywhere = (time.process_time() - time.thread_time() - others) / REQUESTS
    before = site.seconds()
    _ask(link, policy, EVENTS, stream=True)
    # A stream begins like any request.
    event = (site.seconds() - before - request) / EVENTS
    link.close()
    return Cost(1e6 * request, 1e6 * everywhere, 1e6 * event)


def _ask(
    link: http.client.HTTPConnection, policy: str | None, tokens: int, *, stream: bool
) -> None:
    body: dict[str, Any] = {
        "model": "m",
        "messages": [{"role": "user", "content": "How?"}],
        "max_completion_tokens": tokens,
        "stream": stream,
    }
    if policy is not None:
        body["steering"] = {"policy": policy}
    link.request("POST", CHAT, json.dumps(body), {"content-type": "application/json"})
    answer = link.getresponse()
    text = answer.read()
    whole = text.count(b"data: ") > tokens if stream else b"fine" in text
    if answer.status != 200 or not whole:
        raise SystemExit(f"an answer failed with {answer.status}: {text[:300]!r}")


def table(found: list[dict[str, Cost]]) -> str:
    """Medians, and the medians of what an arm costs more than stock in the same round."""
    figures = [field.name for field in fields(Cost)]
    heads = " | ".join(f"{figure}, us | more" for figure in figures)
    lines = [f"| arm | {heads} |", "|---" + "|---:" * 2 * len(figures) + "|"]
    for arm in ARMS:
        mine, stock = [one[arm] for one in found], [one[STOCK] for one in found]
        cells = []
        for figure in figures:
            values = [getattr(one, figure) for one in mine]
            more = [a - getattr(b, figure) for a, b in zip(values, stock, strict=True)]
            cells += [f"{statistics.median(values):.1f}", f"{statistics.median(more):+.1f}"]
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, default=None, help="where the table is written")
    arguments = parser.parse_args()
    found = []
    with (
        tempfile.TemporaryDirectory() as name,
        threaded(open_stock) as stock,
        threaded(opener(Path(name))) as ours,
    ):
        for number in range(arguments.rounds + 1):
            arms = [*ARMS][number % len(ARMS) :] + [*ARMS][: number % len(ARMS)]
            costs = {arm: cost(stock if arm == STOCK else ours, ARMS[arm]) for arm in arms}
            # The first round warms up.
            found += [costs] if number else []
    text = table(found)
    sys.stdout.write(text)
    if arguments.out:
        arguments.out.write_text(text)


if __name__ == "__main__":
    main()
