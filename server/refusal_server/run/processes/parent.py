"""The process that starts the engine and the API processes, passes signals on, and ends last."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.usage.usage_lib import UsageContext
from vllm.v1.engine.utils import bind_engine_zmq_listeners, launch_core_engines
from vllm.v1.executor import Executor
from vllm.v1.metrics.prometheus import setup_multiprocess_prometheus
from vllm.v1.utils import APIServerProcessManager

from refusal_server.policy.policy_set import PolicySet
from refusal_server.run.engine_arguments import first_line
from refusal_server.run.processes.member_process import UNUSABLE, Orders, run_member
from refusal_server.run.startup import StartupError
from refusal_server.settings import Settings
from refusal_server.shared.database import Database
from refusal_server.shared.member import Member

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.2
# Beyond the drain: what a process may take for its last lines and for letting go of the engine.
_GRACE_SECONDS = 20.0


def run_processes(
    settings: Settings,
    args: Namespace,
    policies: PolicySet,
    listeners: Sequence[socket.socket],
    ops_listener: socket.socket | None,
) -> int:
    """Run until told to stop; 0 after a drain, 2 for a bad start, 1 when a process has died.

    A process that has died takes the server with it: vLLM's engine takes no new client. The others
    end what they are answering. Raises :class:`StartupError` when the engine does not start.
    """
    setup_multiprocess_prometheus()
    with tempfile.TemporaryDirectory(prefix="refusal-server-") as folder:
        # The mode of the database is changed before two processes could do so at once.
        Database(Member(0, len(listeners), Path(folder), b"").database)
        orders = partial(
            Orders,
            plain(settings),
            policies.text,
            policies.version,
            listeners,
            ops_listener,
            Path(folder),
            secrets.token_bytes(32),
        )
        with _started(args, len(listeners), orders) as members:
            for listener in (*listeners, ops_listener):
                if listener is not None:
                    listener.close()
            return Members(members, settings.drain_seconds).run()


@contextmanager
def _started(args: Namespace, count: int, orders: Any) -> Iterator[Sequence[BaseProcess]]:
    """The API processes, once the engine is up; both have ended after the block."""
    engine_args = AsyncEngineArgs.from_cli_args(args)
    engine_args._api_process_count = count  # noqa: SLF001
    engine_args._api_process_rank = -1  # noqa: SLF001
    manager = engines = coordinator = None
    try:
        try:
            config = engine_args.create_engine_config(usage_context=UsageContext.OPENAI_API_SERVER)
            sockets = bind_engine_zmq_listeners(config, count)
            executor, stats = Executor.get_class(config), not engine_args.disable_log_stats
            with launch_core_engines(config, executor, stats, sockets.addresses) as launch:
                engines, coordinator = launch.engine_manager, launch.coordinator
                pids = [process.pid for process in engines.processes]
                manager = APIServerProcessManager(
                    listen_address="",
                    sock=None,
                    args=args,
                    num_servers=count,
                    input_listeners=sockets.inputs,
                    output_listeners=sockets.outputs,
                    target_server_fn=partial(run_member, orders(engine_pids=pids)),
                    tensor_queue=launch.tensor_queue,
                    stats_update_address=coordinator and coordinator.get_stats_publish_address(),
                )
                launch.watched_frontend_processes = manager.processes
        except (ValueError, OSError, RuntimeError) as error:
            raise StartupError(f"the engine did not start: {first_line(error)}") from error
        yield manager.processes
    finally:
        if manager is not None:
            manager.shutdown(timeout=_GRACE_SECONDS)
        if engines is not None:
            engines.shutdown(timeout=_GRACE_SECONDS)
        if coordinator is not None:
            coordinator.shutdown(timeout=_GRACE_SECONDS)


class Members:
    """The running API processes; signals of this process become theirs."""

    def __init__(self, processes: Sequence[BaseProcess], drain_seconds: float) -> None:
        self._processes = processes
        self._patience = drain_seconds + _GRACE_SECONDS
        self._told = 0
        self._lost = False
        self._deadline = float("inf")

    def run(self) -> int:
        """Return when all have ended: the status of the server."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop)
        signal.signal(signal.SIGHUP, self._on_reload)
        while alive := [process for process in self._processes if process.is_alive()]:
            connection.wait([process.sentinel for process in alive], timeout=_POLL_SECONDS)
            if self._deadline == float("inf") and len(alive) < len(self._processes):
                logger.error("an API process has ended; the server stops")
                self._lost = True
                self._stop()
            if time.monotonic() >= self._deadline:
                logger.error("API processes that have not ended in time are killed")
                self._kill()
        return self._status()

    def _status(self) -> int:
        codes = [process.exitcode for process in self._processes]
        if not any(codes) and not self._lost and self._told <= 1:
            return 0
        return UNUSABLE if UNUSABLE in codes else 1

    def _on_stop(self, *_: Any) -> None:
        self._told += 1
        if self._told > 1:
            logger.error("told to stop twice: the server ends now")
            self._kill()
        else:
            self._stop()

    def _on_reload(self, *_: Any) -> None:
        self._signal(signal.SIGHUP)

    def _stop(self) -> None:
        self._deadline = time.monotonic() + self._patience
        self._signal(signal.SIGTERM)

    def _kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        for process in self._processes:
            if process.is_alive() and process.pid is not None:
                os.kill(process.pid, number)


def plain(settings: Settings) -> Settings:
    """The same settings as an object that can be sent to another process."""
    return Settings.model_construct(
        **{name: getattr(settings, name) for name in Settings.model_fields}
    )
