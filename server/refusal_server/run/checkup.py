"""What ``refusal-server doctor`` looks at, from the environment to the model's configuration."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import platform
import resource
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from refusal_server.errors import ApiError
from refusal_server.files.yaml_file import FileError
from refusal_server.policy.policy_set import PolicySet
from refusal_server.run.finding import Finding
from refusal_server.run.policy_checkup import key_policy_findings, policy_findings
from refusal_server.run.startup import (
    StartupError,
    bind,
    check_keys,
    check_store,
    prepare_environment,
)
from refusal_server.settings import Settings, load_settings
from refusal_steering.errors import SteeringError
from refusal_steering.tools.extras import naming_the_extra
from refusal_steering.vllm_plugin.seams import check_engine

_PYTHONS = ((3, 11), (3, 14))
_OPEN_FILES = 4096


def examine(arguments: Sequence[str]) -> Iterator[Finding]:
    """Every finding in order; what depends on something broken is not looked at."""
    for check in (_python, _torch, _vllm, _open_files, _multiprocess_folder):
        yield from _safely(check.__name__.strip("_"), check)
    try:
        settings = load_settings(arguments)
    except FileError as error:
        yield Finding(
            "settings", "FAIL", str(error), "correct the settings; nothing else was checked"
        )
        return
    yield Finding("settings", "ok", f"{settings.config or 'no file'}")
    yield from _safely("ports", lambda: _ports(settings))
    yield from _safely("keys", lambda: _keys(settings))
    yield from _safely("store", lambda: _store(settings))
    policies = yield from policy_findings(settings)
    if policies is not None:
        yield from _safely("keys", lambda: key_policy_findings(settings, policies))
        yield from _safely("model", lambda: _model(settings, policies))


def _safely(name: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from check()
    except (FileError, StartupError, SteeringError) as error:
        yield Finding(name, "FAIL", str(error), "see the message")


def _python() -> Iterator[Finding]:
    lowest, beyond = _PYTHONS
    fits = lowest <= sys.version_info[:2] < beyond
    fix = "" if fits else "use Python 3.11 to 3.13"
    yield Finding("python", "ok" if fits else "FAIL", platform.python_version(), fix)


def _torch() -> Iterator[Finding]:
    try:
        yield Finding("torch", "ok", importlib.metadata.version("torch"))
    except importlib.metadata.PackageNotFoundError:
        yield Finding("torch", "FAIL", "not installed", "install the extra 'cpu' or 'gpu'")


def _vllm() -> Iterator[Finding]:
    # Two wheels that both unpack a `vllm` folder overwrite each other's files.
    owners = sorted(
        {
            f"{found.name} {found.version}"
            for found in importlib.metadata.distributions()
            if found.name.lower().startswith("vllm")
            and any(file.parts[:2] == ("vllm", "_version.py") for file in found.files or ())
        }
    )
    if len(owners) > 1:
        fix = "remove all of them and install exactly one, by the extra 'cpu' or 'gpu'"
        yield Finding("vllm", "FAIL", f"installed {len(owners)} times: {', '.join(owners)}", fix)
    yield Finding("vllm", "ok", f"{check_engine()}, all hooks are in place")


def _open_files() -> Iterator[Finding]:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    enough = limit >= _OPEN_FILES or limit == resource.RLIM_INFINITY
    fix = "" if enough else f"raise it: ulimit -n {_OPEN_FILES}"
    yield Finding("open files", "ok" if enough else "warn", f"limit {limit}", fix)


def _multiprocess_folder() -> Iterator[Finding]:
    name, value = "metrics folder", os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if value is None:
        yield Finding(name, "ok", "PROMETHEUS_MULTIPROC_DIR is not set")
    elif not os.access(value, os.W_OK) or not Path(value).is_dir():
        fix = "create it, or unset PROMETHEUS_MULTIPROC_DIR"
        yield Finding(name, "FAIL", f"{value} is not a folder that can be written", fix)
    elif any(Path(value).glob("*.db")):
        fix = "empty it before the server starts"
        yield Finding(name, "warn", f"{value} holds metrics of an earlier run", fix)
    else:
        yield Finding(name, "ok", value)


def _ports(settings: Settings) -> Iterator[Finding]:
    wanted = [("port", settings.host, settings.port)]
    if settings.ops_port is not None:
        wanted.append(("ops port", settings.ops_host, settings.ops_port))
    for name, host, port in wanted:
        try:
            bind(host, port).close()
        except StartupError as error:
            yield Finding(name, "FAIL", str(error), "stop what listens there, or choose another")
        else:
            yield Finding(name, "ok", f"{host} {port} is free")


def _keys(settings: Settings) -> Iterator[Finding]:
    check_keys(settings)
    if settings.key is None and settings.keys_file is None:
        local = settings.host in ("127.0.0.1", "::1", "localhost")
        fix = "" if local else "set keys_file or api_key_file; everybody can use this server"
        yield Finding("keys", "ok" if local else "warn", "the server needs no key", fix)
    secrets = (
        *(settings.api_key_file, settings.admin_key_file),
        *(settings.policy_token_file, settings.store_password_file),
    )
    # The key file holds hashes: reading it gives no key away, writing it makes one.
    for path, forbidden in [*((path, 0o077) for path in secrets), (settings.keys_file, 0o022)]:
        if path is not None:
            yield _permissions(path, forbidden)


def _permissions(path: Path, forbidden: int) -> Finding:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & forbidden:
        allowed = 0o600 if forbidden & 0o044 else 0o644
        return Finding(
            "key files", "warn", f"{path} has mode {mode:03o}", f"chmod {allowed:o} {path}"
        )
    return Finding("key files", "ok", f"{path} has mode {mode:03o}")


def _store(settings: Settings) -> Iterator[Finding]:
    if settings.store_url is None:
        return
    with naming_the_extra("refusal-server"):
        check_store(settings)
        from refusal_server.access.fleet_store import FleetStore
    store = FleetStore(settings.store_url, settings.store_password_file)
    try:
        asyncio.run(store.check())
    except ApiError as error:
        fix = "start it, or correct store_url; keys with limits would get a 503"
        yield Finding("store", "FAIL", f"{settings.store_url}: {error.__cause__}", fix)
    else:
        yield Finding("store", "ok", f"{settings.store_url} answers")


def _model(settings: Settings, policies: PolicySet) -> Iterator[Finding]:
    prepare_environment(settings)
    # Not above: importing vLLM takes seconds and reads the environment just prepared.
    from refusal_server.run.engine_plan import model_findings

    yield from model_findings(settings, policies)
