"""From start to stop: engine, readiness, reload, drain, and the exit code."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from argparse import Namespace
from collections.abc import Coroutine
from typing import Any

from vllm.entrypoints.launchers.api_server.entry import build_async_engine_client

from refusal_server.files.file_watcher import FileWatcher
from refusal_server.http.service import Service
from refusal_server.policy.policy_set import PolicySet
from refusal_server.run.announcement import announce
from refusal_server.run.app import build_app, build_ops_app
from refusal_server.run.assembly import assemble, media_workers
from refusal_server.run.engine_arguments import first_line
from refusal_server.run.front import Front, OpsFront
from refusal_server.run.heartbeat import Heartbeat
from refusal_server.run.processes.commons import Commons
from refusal_server.run.processes.engine_watch import end_with
from refusal_server.run.processes.part import Part
from refusal_server.run.startup import StartupError
from refusal_server.settings import Settings

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.1
_LAST_WORDS_SECONDS = 1.0
_ENDED_AT_ONCE = 1


async def serve(
    settings: Settings,
    args: Namespace,
    policies: PolicySet,
    listener: socket.socket,
    ops_listener: socket.socket | None = None,
    part: Part | None = None,
) -> int:
    """Run until told to stop; the exit code is 0 after a drain and 1 when the engine died.

    With ``ops_listener``, metrics, health and administration are answered there. With ``part``,
    this is one of several processes, and the engine was started by another.
    """
    async with contextlib.AsyncExitStack() as stack:
        client = None if part is None else dict(part.client)
        try:
            engine = await stack.enter_async_context(
                build_async_engine_client(args, client_config=client)
            )
        except (ValueError, OSError, RuntimeError) as error:
            raise StartupError(f"the engine did not start: {first_line(error)}") from error
        if part is not None:
            end_with(part.engine_pids, engine)
        media = media_workers(settings, args)
        stack.callback(media.close)
        commons = Commons.of(None if part is None else part.member, settings)
        stack.push_async_callback(commons.fleet.close)
        service = await assemble(engine, args, settings, policies, media, commons)
        fronts = [Front(build_app(service, settings), settings, listener)]
        if ops_listener is not None:
            fronts.append(OpsFront(build_ops_app(service, settings), settings, ops_listener))
        return await Supervisor(fronts, service, settings).run()


class Supervisor:
    """Opens the fronts, watches policy, keys, engine and signals, and closes all in order."""

    def __init__(self, fronts: list[Front], service: Service, settings: Settings) -> None:
        self._fronts = fronts
        self._service = service
        self._settings = settings
        self._stop = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run(self) -> int:
        """Serve until a signal or the engine's death; the process's exit status."""
        self._take_signals()
        health = self._service.health
        for front in self._fronts:
            await front.open()
        health.started = True
        health.answered()  # by the boot canaries
        watchers = [*self._watch(), self._spawn(self._heartbeat().run())]
        if len(self._fronts) > 1:
            watchers.append(self._spawn(self._service.history.run()))
        announcing = self._spawn(self._announce())
        while not (self._stop.is_set() or health.engine_failed() or self._lost_a_front()):
            await asyncio.sleep(_POLL_SECONDS)
        died = health.engine_failed()
        if died:
            logger.error("the engine has died; the server stops")
            # Streams in flight get their error event before the connections close.
            await asyncio.sleep(_LAST_WORDS_SECONDS)
        else:
            died = not await self._drain()
        for watcher in (announcing, *watchers):
            watcher.cancel()
        for front in self._fronts:
            await front.close()
        await asyncio.to_thread(self._service.observer.close)
        return 1 if died else 0

    async def _drain(self) -> bool:
        """Wait for the work in flight; ``False`` when the engine died meanwhile."""
        health = self._service.health
        health.draining = True
        logger.info("draining: %d requests in flight", health.in_flight)
        deadline = asyncio.get_running_loop().time() + self._settings.drain_seconds
        while health.in_flight:
            if health.engine_failed():
                return False
            if asyncio.get_running_loop().time() >= deadline:
                logger.warning("the drain time is over: %d requests are cut", health.in_flight)
                break
            await asyncio.sleep(_POLL_SECONDS)
        return True

    def _take_signals(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._on_stop)
        if self._service.roll is None:
            loop.add_signal_handler(signal.SIGINT, self._on_stop)
        loop.add_signal_handler(signal.SIGHUP, self._on_reload)

    async def _announce(self) -> None:
        """Say that the server is ready, once all of its processes are; the one that leads does."""
        roll = self._service.roll
        if roll is None or roll.leads:
            while self._service.health.others() == "starting":
                await asyncio.sleep(_POLL_SECONDS)
            announce(self._service, self._settings, [f.listener for f in self._fronts])

    def _on_stop(self) -> None:
        if self._stop.is_set() and self._service.roll is None:
            # The engine's processes die with this one; nothing is left to wait for.
            logger.error("told to stop twice: the server ends now")
            logging.shutdown()
            os._exit(_ENDED_AT_ONCE)
        self._stop.set()

    def _on_reload(self) -> None:
        self._spawn(self._service.policies.reload("signal"))
        self._spawn(self._service.keys.reload())

    def _watch(self) -> list[asyncio.Task[Any]]:
        """Watch the policy and the key file, each by itself, and tell the others how this is."""
        service, keys_file = self._service, self._settings.keys_file
        watchers = [self._spawn(service.policies.run())]
        if keys_file is not None:
            watchers.append(self._spawn(FileWatcher(keys_file, service.keys.reload).run()))
        if service.roll is not None:
            watchers.append(self._spawn(service.roll.keep(lambda: service.health.own)))
        return watchers

    def _heartbeat(self) -> Heartbeat:
        settings = self._settings
        return Heartbeat(
            self._service.health,
            self._service.prove,
            settings.ready_interval_seconds,
            settings.ready_patience_seconds,
        )

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _lost_a_front(self) -> bool:
        return any(front.closed for front in self._fronts)
