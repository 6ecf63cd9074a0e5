"""From start to stop: engine, readiness, reload, drain, and the exit code."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
import socket
import sys
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

import uvicorn
from vllm.entrypoints.launchers.api_server.entry import build_async_engine_client

from refusal_server.app import build_app
from refusal_server.assembly import assemble
from refusal_server.engine_args import first_line
from refusal_server.http_protocol import deadline_protocol
from refusal_server.policy import PolicySet
from refusal_server.service import Service
from refusal_server.settings import Settings
from refusal_server.startup import StartupError

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.1
_LAST_WORDS_SECONDS = 1.0
_KEEP_ALIVE_SECONDS = 75


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the supervisor's."""
        yield


async def serve(
    settings: Settings, args: Namespace, policies: PolicySet, listener: socket.socket
) -> int:
    """Run until told to stop; the exit code is 0 after a drain and 1 when the engine died."""
    async with contextlib.AsyncExitStack() as stack:
        try:
            engine = await stack.enter_async_context(build_async_engine_client(args))
        except (ValueError, OSError, RuntimeError) as error:
            raise StartupError(f"the engine did not start: {first_line(error)}") from error
        service = await assemble(engine, args, settings, policies)
        server = _Server(_uvicorn_config(service, settings))
        return await _Supervisor(server, service, settings).run(listener)


class _Supervisor:
    def __init__(self, server: uvicorn.Server, service: Service, settings: Settings) -> None:
        self._server = server
        self._service = service
        self._settings = settings
        self._stop = asyncio.Event()
        self._force = asyncio.Event()
        self._reloads: set[asyncio.Task[bool]] = set()

    async def run(self, listener: socket.socket) -> int:
        self._take_signals()
        health = self._service.health
        serving = asyncio.create_task(self._server.serve(sockets=[listener]))
        while not self._server.started and not serving.done():
            await asyncio.sleep(_POLL_SECONDS)
        health.started = True
        _announce(self._service, self._settings, listener.getsockname()[1])
        while not (self._stop.is_set() or health.engine_failed() or serving.done()):
            await asyncio.sleep(_POLL_SECONDS)
        died = health.engine_failed()
        if died:
            logger.error("the engine has died; the server stops")
            # Streams in flight get their error event before the connections close.
            await asyncio.sleep(_LAST_WORDS_SECONDS)
        else:
            died = not await self._drain()
        self._server.should_exit = True
        await serving
        return 1 if died else 0

    async def _drain(self) -> bool:
        """Wait for the work in flight; ``False`` when the engine died meanwhile."""
        health = self._service.health
        health.draining = True
        logger.info("draining: %d requests in flight", health.in_flight)
        deadline = asyncio.get_running_loop().time() + self._settings.drain_seconds
        while health.in_flight and not self._force.is_set():
            if health.engine_failed():
                return False
            if asyncio.get_running_loop().time() >= deadline:
                logger.warning("the drain time is over: %d requests are cut", health.in_flight)
                break
            await asyncio.sleep(_POLL_SECONDS)
        return True

    def _take_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_stop)
        loop.add_signal_handler(signal.SIGHUP, self._on_reload)

    def _on_stop(self) -> None:
        if self._stop.is_set():
            self._force.set()
            self._server.force_exit = True
        self._stop.set()

    def _on_reload(self) -> None:
        task = asyncio.get_running_loop().create_task(self._service.policies.reload())
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)


def _uvicorn_config(service: Service, settings: Settings) -> uvicorn.Config:
    limits = settings.limits
    protocol: Any = deadline_protocol(limits.header_seconds, limits.write_seconds)
    return uvicorn.Config(
        build_app(service, settings),
        http=protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        h11_max_incomplete_event_size=limits.header_bytes,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=1,
    )


def _announce(service: Service, settings: Settings, port: int) -> None:
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)
    url = f"http://{host}:{port}"
    policies = service.policies.current
    policy = policies.policies[policies.default]
    model = service.model.names[0]
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello!"}]})
    key = "" if settings.key is None else ' -H "Authorization: Bearer $REFUSAL_SERVER_API_KEY"'
    takes = ", ".join(("text", *sorted(service.model.takes)))
    sys.stdout.write(
        f"\nrefusal-server is ready\n"
        f"  URL      {url}/v1\n"
        f"  model    {model} ({takes})\n"
        f"  policy   {policy.name}: {policy.rule.mode}, {policy.strategy} (version "
        f"{policies.version})\n"
        f"  try it   curl -s {url}/v1/chat/completions -H 'Content-Type: application/json'{key} "
        f"-d '{body}'\n\n"
    )
    sys.stdout.flush()
