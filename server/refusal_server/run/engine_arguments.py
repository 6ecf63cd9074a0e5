"""vLLM's own flags: from our YAML and command line through vLLM's parser."""

from __future__ import annotations

import json
import re
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from pydantic import ValidationError
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.utils.argparse_utils import FlexibleArgumentParser

from refusal_server.files.yaml_file import first_problem, nearest
from refusal_server.run.startup import StartupError
from refusal_server.settings import Settings

# Flags of vLLM's own web server, which does not run here, and of what we forbid to callers.
_NOT_OURS = (
    "allow_credentials",
    "allowed_headers",
    "allowed_local_media_path",
    "allowed_media_domains",
    "allowed_methods",
    "allowed_origins",
    "api_key",
    "api_server_count",
    "config",
    "disable_fastapi_docs",
    "enable_offline_docs",
    "enable_request_id_headers",
    "grpc",
    "grpc_port",
    "headless",
    "host",
    "middleware",
    "port",
    "root_path",
    "ssl_ca_certs",
    "ssl_certfile",
    "ssl_keyfile",
    "tokens_only",
    "trust_request_chat_template",
    "trust_request_mm_kwargs",
    "uds",
)
_UNKNOWN = re.compile(r"unrecognized arguments: (\S+)")


class _Parser(FlexibleArgumentParser):
    def error(self, message: str) -> NoReturn:
        unknown = _UNKNOWN.search(message)
        if unknown is None:
            raise StartupError(f"vLLM's flags: {message}")
        flag = unknown[1].split("=")[0]
        ours = [f"--{name.replace('_', '-')}" for name in Settings.model_fields]
        raise StartupError(
            f"unknown option {flag}.{nearest(flag, [*self._option_string_actions, *ours])}"
        )


def parse_engine_args(settings: Settings) -> Namespace:
    """The namespace that vLLM's builders take; raises :class:`StartupError`."""
    parser = make_arg_parser(_Parser())
    defaults = vars(parser.parse_args([]))
    known = [*_flags(settings.engine, parser), *settings.engine_args]
    try:
        args: Namespace = parser.parse_args(known)
        validate_parsed_serve_args(args)
    except (TypeError, ValueError, KeyError) as error:
        raise StartupError(f"vLLM's flags: {first_line(error)}") from error
    for name in _NOT_OURS:
        if getattr(args, name, None) != defaults.get(name):
            flag = name.replace("_", "-")
            if name == "api_server_count":
                raise StartupError("api_server_count stands below `server`, not below `engine`")
            raise StartupError(
                f"--{flag} belongs to vLLM's own web server, which does not run here; remove it"
            )
    _settle_model(args, named=bool(args.model_tag) or args.model != defaults["model"])
    args.shutdown_timeout = settings.drain_seconds
    return args


def first_line(error: BaseException) -> str:
    """The part of an error that an operator can use."""
    if isinstance(error, ValidationError):
        return first_problem(error, ())
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _flags(engine: Mapping[str, Any], parser: FlexibleArgumentParser) -> list[str]:
    # argparse lists its options nowhere else.
    known = parser._option_string_actions  # noqa: SLF001
    flags: list[str] = []
    for name, value in engine.items():
        flag = f"--{name.replace('_', '-')}"
        if flag not in known:
            names = [option.removeprefix("--").replace("-", "_") for option in known]
            raise StartupError(f"engine: unknown key {name!r}.{nearest(name, names)}")
        if value is None:
            continue
        takes_none = known[flag].nargs == 0
        if takes_none or isinstance(value, bool):
            chosen = flag if _switch(name, value) else f"--no-{flag[2:]}"
            # A flag that can only be turned on is off where it is not named.
            flags += [] if takes_none and chosen not in known else [chosen]
        elif isinstance(value, dict):
            flags += [flag, json.dumps(value)]
        elif isinstance(value, list):
            flags += [flag, *(str(item) for item in value)]
        else:
            flags += [flag, str(value)]
    return flags


def _switch(name: str, value: Any) -> bool:
    """A flag that takes no value; the environment and ``${...}`` bring true and false as texts."""
    text = str(value).lower()
    if text not in ("true", "false"):
        raise StartupError(f"engine: {name} is {value!r}; expected true or false")
    return text == "true"


def _settle_model(args: Namespace, *, named: bool) -> None:
    if not named:
        raise StartupError("no model is named; set --model or `engine: {model: ...}`")
    if args.model_tag is not None:
        args.model = args.model_tag
    folder = Path(args.model).expanduser()
    if folder.is_dir():
        args.model = str(folder)
        if args.served_model_name is None:
            # The folder's whole path would show in answers and errors.
            args.served_model_name = [folder.resolve().name]
    elif folder.is_absolute() or args.model.startswith((".", "~")):
        raise StartupError(f"there is no model at {args.model}; fetch it or name another --model")
