"""What ``refusal-server doctor`` looks at, from the environment to the model's configuration."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
import stat
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from refusal_server.access.key_file import load_keyring
from refusal_server.files.yaml_file import FileError
from refusal_server.policy.policy_order import shortfall
from refusal_server.policy.policy_set import PolicySet
from refusal_server.policy.remote.first_policy import FirstPolicy, first_policy
from refusal_server.policy.remote.policy_url import PolicyUrl
from refusal_server.run.startup import (
    StartupError,
    bind,
    check_keys,
    prepare_environment,
)
from refusal_server.settings import Settings, load_settings
from refusal_steering.errors import SteeringError
from refusal_steering.vllm_plugin.seams import check_engine

Status = Literal["ok", "warn", "FAIL"]
_PYTHONS = ((3, 11), (3, 14))
_OPEN_FILES = 4096


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check; ``fix`` says what to do unless it is ``ok``."""

    check: str
    status: Status
    message: str
    fix: str = ""


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
    policies = yield from _policy(settings)
    if policies is not None:
        yield from _safely("keys", lambda: _key_policies(settings, policies))
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
    secrets = (settings.api_key_file, settings.admin_key_file, settings.policy_token_file)
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


def _policy(settings: Settings) -> Generator[Finding, None, PolicySet | None]:
    path = settings.policy_file
    if path is None:
        yield Finding("policy", "FAIL", "no policy is named", "set --policy-file")
        return None
    url = PolicyUrl.of(settings)
    try:
        first = first_policy(path, url)
    except FileError as error:
        for problem in error.problems:
            fix = f"correct {path}" if url is None else "correct the source, or the way to it"
            yield Finding("policy", "FAIL", str(problem), fix)
        return None
    policies = first.policies
    if url is not None:
        yield from _source(url, first)
    bundles = ", ".join(bundle.manifest.name for bundle in policies.bundles) or "none"
    found = f"version {policies.version}; bundles with their canaries: {bundles}"
    yield Finding("policy", "ok", found)
    yield from _refused_shares(policies)
    yield from _gates(policies)
    yield from _closed(policies)
    if url is None and settings.ops_port is not None and settings.admin is not None:
        fixed = path.is_symlink() or not os.access(path.parent, os.W_OK)
        fix = "change it at its source instead" if fixed else ""
        message = "cannot be changed by PUT /admin/policy" if fixed else "can be changed by PUT"
        yield Finding("policy file", "warn" if fixed else "ok", message, fix)
    return policies


def _source(url: PolicyUrl, first: FirstPolicy) -> Iterator[Finding]:
    if first.problem is not None:
        fix = "correct the source or the way to it; a start would take the copy"
        yield Finding("policy source", "warn", first.problem, fix)
    else:
        yield Finding("policy source", "ok", f"{url.shown} holds {first.policies.version}")
    if url.exposed:
        message = f"{url.shown} is not encrypted: whoever is on the way can change the policy"
        yield Finding("policy source", "warn", message, "use https")


def _refused_shares(policies: PolicySet) -> Iterator[Finding]:
    for bundle in policies.bundles:
        figures = ", ".join(
            f"{found.share:.1%} of {found.requests} at strength {found.strength:g}"
            for found in bundle.manifest.measured
        )
        message = f"{bundle.manifest.name} has refused {figures or 'what nobody has measured'}"
        yield Finding("refused share", "ok", message)


def _gates(policies: PolicySet) -> Iterator[Finding]:
    for bundle in policies.bundles:
        if bundle.manifest.gate is not None:
            message = f"{bundle.manifest.name}: {bundle.manifest.gate.summary}"
            yield Finding("gate", "ok", message)


def _closed(policies: PolicySet) -> Iterator[Finding]:
    """What callers with the file's default may not name, and why."""
    default = policies.policies[policies.default]
    for policy in policies.policies.values():
        if policy is default or policy.rule.selectable:
            continue
        less = shortfall(policy, default)
        if less is not None:
            message = f"{policy.name!r} is closed to callers of {default.name!r}: {less}"
            yield Finding("policy", "ok", message)


def _key_policies(settings: Settings, policies: PolicySet) -> Iterator[Finding]:
    if settings.keys_file is None:
        return
    for _, caller in load_keyring(settings.keys_file).entries:
        if policies.default_for(caller) not in policies.policies:
            message = f"key {caller.name!r} has the policy {caller.policy!r}, which is not there"
            yield Finding("keys", "FAIL", message, "name another; its requests would get a 503")
        unknown = sorted((caller.policies or frozenset()) - set(policies.policies))
        if unknown:
            message = f"key {caller.name!r} may name {', '.join(unknown)}, which are not there"
            yield Finding("keys", "warn", message, "remove them from the key file")


def _model(settings: Settings, policies: PolicySet) -> Iterator[Finding]:
    prepare_environment(settings)
    # Not above: importing vLLM takes seconds and reads the environment just prepared.
    from refusal_server.run.engine_plan import plan_engine

    args = plan_engine(settings, policies)
    yield Finding("model", "ok", f"{args.model}: every bundle fits its configuration")
