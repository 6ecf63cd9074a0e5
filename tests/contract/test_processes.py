"""What starts several API processes is there in the installed vLLM, as it is called."""

from __future__ import annotations

import inspect
from argparse import Namespace

from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.entrypoints.launchers.api_server.entry import build_async_engine_client
from vllm.v1.engine.core_client import EngineCoreClient
from vllm.v1.engine.utils import (
    CoreEngineLaunch,
    bind_engine_zmq_listeners,
    launch_core_engines,
)
from vllm.v1.utils import APIServerProcessManager


def parameters(of: object) -> set[str]:
    return set(inspect.signature(of).parameters)  # type: ignore[arg-type]


def test_the_launcher_takes_what_it_is_given() -> None:
    assert {"vllm_config", "num_api_servers"} <= parameters(bind_engine_zmq_listeners)
    wanted = {"vllm_config", "executor_class", "log_stats", "addresses"}
    assert wanted == parameters(launch_core_engines)
    fields = set(CoreEngineLaunch.__dataclass_fields__)
    assert {"engine_manager", "tensor_queue", "watched_frontend_processes"} <= fields
    given = {
        "listen_address",
        "sock",
        "args",
        "num_servers",
        "input_listeners",
        "output_listeners",
        "target_server_fn",
        "tensor_queue",
    }
    assert given <= parameters(APIServerProcessManager)


def test_a_process_reaches_an_engine_that_another_has_started() -> None:
    assert "client_config" in parameters(build_async_engine_client)
    assert "timeout" in parameters(EngineCoreClient.shutdown)
    engine_args = AsyncEngineArgs.from_cli_args(Namespace(model="m"))
    # Set on the arguments of the process that starts the others, as vLLM's own does.
    assert engine_args._api_process_count == 1  # noqa: SLF001
    assert engine_args._api_process_rank == 0  # noqa: SLF001
