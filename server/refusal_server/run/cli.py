"""``refusal-server``: options of ours, and every option of vLLM's besides."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
from collections.abc import Sequence
from typing import Any

from refusal_server import __version__
from refusal_server.files.yaml_file import FileError, nearest
from refusal_server.policy.remote.first_policy import first_policy
from refusal_server.policy.remote.policy_url import PolicyUrl
from refusal_server.run.commands import COMMANDS
from refusal_server.run.startup import (
    StartupError,
    bind,
    bind_for,
    check_keys,
    check_ports,
    check_store,
    prepare_environment,
    raise_open_files,
)
from refusal_server.settings import Settings, load_settings
from refusal_server.telemetry import logs
from refusal_server.telemetry.audit.build import check_audit
from refusal_steering.errors import SteeringError
from refusal_steering.tools.extras import naming_the_extra

logger = logging.getLogger(__name__)

_HELP = """\
usage: refusal-server [OPTIONS] [any option of vLLM's server]
       refusal-server COMMAND ...

commands:
  completion  print a script that completes commands and options, for bash, zsh or fish
  doctor      check an installation and say what to do (takes the server's own options)
  fleet       ask replicas for their policy versions; 1 when they differ
  keys        make, list and revoke API keys
  policy      write a folder to start with, check a policy file, print its schema

Exit status 0 is a clean end, 1 the engine's death (of doctor: something has failed), 2 a mistake in
what was given, 130 an end by Ctrl-C while starting. `--version` prints the version.
Options may stand in a file, too (--config), and in variables (REFUSAL_SERVER_...).

"""
_UNUSABLE = 2
_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the server; 2 means that it was told something it cannot do, in one line."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = COMMANDS.get(arguments[0]) if arguments else None
    if arguments == ["--version"]:
        sys.stdout.write(f"refusal-server {__version__}\n")
        return 0
    if arguments in (["--help"], ["-h"]):
        sys.stdout.write(_HELP)
        sys.stdout.flush()
    try:
        if arguments and command is None and not arguments[0].startswith("-"):
            raise StartupError(
                f"there is no command {arguments[0]!r}.{nearest(arguments[0], COMMANDS)} Commands "
                f"are {', '.join(COMMANDS)}; options begin with --"
            )
        with naming_the_extra("refusal-server"):
            return _run(load_settings(arguments)) if command is None else command(arguments[1:])
    except (FileError, StartupError, SteeringError) as error:
        line = " ".join(str(error).split())
        sys.stderr.write(f"refusal-server: error: {line}\n")
        return _UNUSABLE
    except KeyboardInterrupt:
        sys.stderr.write("refusal-server: interrupted while starting\n")
        return _INTERRUPTED


def _run(settings: Settings) -> int:
    if settings.policy_file is None:
        raise StartupError("no policy is named; set --policy-file or `server: {policy_file: ...}`")
    check_ports(settings)
    raise_open_files()
    check_keys(settings)
    check_store(settings)
    check_audit(settings.audit)
    first = first_policy(settings.policy_file, PolicyUrl.of(settings))
    policies = first.policies
    prepare_environment(settings)
    logs.configure(settings.log_format, settings.log_level)
    if first.problem is not None:
        logger.error("starting with the copy, %s: %s", policies.version, first.problem)
    with contextlib.ExitStack() as sockets:
        listeners = bind_for(settings.api_server_count, settings.host, settings.port)
        for listener in listeners:
            sockets.enter_context(listener)
        ops_listener = None
        if settings.ops_port is not None:
            opened = bind(settings.ops_host, settings.ops_port, "--ops-port")
            ops_listener = sockets.enter_context(opened)
        signal.signal(signal.SIGTERM, _interrupt)
        # Its default would end a server that is still starting.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        # Here, not above: importing vLLM takes seconds and reads the environment just prepared.
        from refusal_server.run.engine_plan import plan_engine

        args = plan_engine(settings, policies)
        if settings.api_server_count > 1:
            from refusal_server.run.processes.parent import run_processes

            return run_processes(settings, args, policies, listeners, ops_listener)
        import uvloop

        from refusal_server.run.lifecycle import serve

        return int(uvloop.run(serve(settings, args, policies, listeners[0], ops_listener)))


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt
