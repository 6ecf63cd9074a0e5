"""What each API process runs."""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refusal_server.errors import ApiError
from refusal_server.files.yaml_file import FileError
from refusal_server.policy.policy_loader import parse_policy_set
from refusal_server.policy.policy_set import PolicySet
from refusal_server.run.processes.part import Part
from refusal_server.run.startup import StartupError, raise_open_files
from refusal_server.settings import Settings
from refusal_server.shared.member import Member
from refusal_server.telemetry import logs
from refusal_steering.errors import SteeringError
from refusal_steering.vllm_plugin.processes import die_with_parent

UNUSABLE = 2


@dataclass(frozen=True, slots=True)
class Orders:
    """What every API process is given, beside vLLM's arguments and its place.

    ``listeners`` are one for each of them; ``ops_listener`` is for the first. ``engine_pids`` are
    the processes whose end is the server's.
    """

    settings: Settings
    policy_text: str
    policy_version: str
    listeners: Sequence[socket.socket]
    ops_listener: socket.socket | None
    folder: Path
    cache_secret: bytes
    engine_pids: Sequence[int]


def run_member(
    orders: Orders,
    _address: str,
    _listener: None,
    args: Namespace,
    client_config: dict[str, Any],
) -> None:
    """Serve until told to stop; the process ends with the status of :func:`lifecycle.serve`.

    The unused arguments are those of vLLM's own API server.
    """
    die_with_parent()
    # Ctrl-C reaches every process of a terminal; the one that started this one passes it on.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    settings = orders.settings
    logs.configure(settings.log_format, settings.log_level)
    try:
        raise_open_files()
        status = _serve(orders, args, client_config)
    except (ApiError, FileError, StartupError, SteeringError) as error:
        line = " ".join(str(error).split())
        sys.stderr.write(f"refusal-server: error: {line}\n")
        status = UNUSABLE
    sys.exit(status)


def _serve(orders: Orders, args: Namespace, client_config: dict[str, Any]) -> int:
    import uvloop
    from vllm.utils.system_utils import set_process_title

    from refusal_server.run.lifecycle import serve

    place, count = client_config["client_index"], client_config["client_count"]
    # The kernel spreads connections, not vLLM's own server.
    client_config.pop("api_server_loads", None)
    set_process_title("APIServer", str(place))
    member = Member(place, count, orders.folder, orders.cache_secret)
    with contextlib.ExitStack() as sockets:
        for other, listener in enumerate(orders.listeners):
            if other != place:
                listener.close()
        listener = sockets.enter_context(orders.listeners[place])
        ops_listener = orders.ops_listener
        if ops_listener is not None:
            sockets.enter_context(ops_listener)
        return int(
            uvloop.run(
                serve(
                    orders.settings,
                    args,
                    _first_policy(orders),
                    listener,
                    ops_listener if member.leads else None,
                    Part(member, client_config, orders.engine_pids),
                )
            )
        )


def _first_policy(orders: Orders) -> PolicySet:
    assert orders.settings.policy_file is not None
    found = parse_policy_set(orders.policy_text, orders.settings.policy_file)
    if found.version != orders.policy_version:
        raise StartupError("the bundles of the policy have changed while the server started")
    return found
