"""One server of two ranks with an ops port, and what its operator does to it."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from refusal_steering.atomic_file import write_atomically
from tests.server.fixtures import live
from tests.server.fixtures.bundles import write_bundle
from tests.server.fixtures.live import LiveServer
from tests.server.fixtures.otlp import Collector, collecting
from tests.server.fixtures.states import eventually

ADMIN = "an-admin-key-for-tests"
BEARER = {"authorization": f"Bearer {ADMIN}"}
POLICY = "/admin/policy"
RANKS = 2
RELOADED = "steering_policy_last_reload_successful"
FAR_BUNDLE = "bundles/far"
FALSE_BUNDLE = "bundles/false"
_OPS = re.compile(r"^  ops +(http://\S+)$", re.MULTILINE)


def policy(**main: Any) -> str:
    """The text of a policy file whose default, ``main``, has other fields."""
    omnisteer, static = "bundles/omnisteer", "bundles/static"
    rules: dict[str, dict[str, Any]] = {
        "main": {"mode": "enforce", "bundle": omnisteer} | main,
        "static": {"mode": "enforce", "bundle": static, "floor": 0.0, "selectable": True},
        "ras": {"mode": "enforce", "bundle": "bundles/ras", "selectable": True},
        "cascade": {"mode": "enforce", "bundle": "bundles/cascade", "selectable": True},
        "shadow": {"mode": "shadow", "bundle": omnisteer, "selectable": True},
        "off": {"mode": "off", "selectable": True},
    }
    return yaml.safe_dump({"default": "main", "policies": rules}, sort_keys=False)


FIRST = policy()
OTHER = policy(bundle="bundles/static", strength=2.0)
# Shares no bundle with the first.
NEXT = FIRST.replace("bundles/", "bundles/next-")


@dataclass(frozen=True)
class Site:
    """The server as its callers and as its operators see it; ``first`` is its first version.

    ``collector`` gets its traces.
    """

    callers: LiveServer
    ops: LiveServer
    first: str
    collector: Collector

    @property
    def file(self) -> Path:
        """The policy file."""
        return self.callers.folder / "policy.yaml"

    @property
    def version(self) -> str:
        """The policy version that the server announces."""
        return str(httpx2.get(f"{self.ops.url}/version").json()["policy_version"])

    def admin(self, method: str, path: str, **options: Any) -> httpx2.Response:
        """One call with the admin key."""
        headers = BEARER | options.pop("headers", {})
        url = self.ops.url + path
        return httpx2.request(method, url, headers=headers, timeout=120, **options)

    def put(self, text: str, match: str | None = None, **query: str) -> httpx2.Response:
        """``PUT /admin/policy``; the version that it replaces is ``match``."""
        headers = {"content-type": "application/yaml"}
        if match is not None:
            headers["if-match"] = f'"{match}"'
        return self.admin("PUT", POLICY, headers=headers, params=query, content=text)

    def would_be(self, text: str) -> str:
        """The version that ``text`` would be in force as."""
        return str(self.put(text, dry_run="true").json()["version"])

    def write(self, text: str) -> None:
        """Replace the policy file on disk as editors do, behind the server's back."""
        write_atomically(self.file, text.encode())

    def ranks(self) -> list[int]:
        """The process of every rank, in order."""
        named = {name: pid for pid, name in self.callers.descendants().items()}
        return [named[name] for name in sorted(named) if "Worker_TP" in name]

    def restore(self) -> None:
        """Bring the first policy back."""
        if self.file.is_symlink():
            self.file.unlink()
        self.write(FIRST)
        self.callers.signal(signal.SIGHUP)
        eventually(lambda: self.version == self.first and self.ops.metric(RELOADED) == 1)


def steering(response: httpx2.Response) -> dict[str, str]:
    """The fields of the header of a good answer."""
    assert response.status_code == 200, response.text
    return dict(pair.split("=", 1) for pair in response.headers["x-steering"].split(";"))


def said(response: httpx2.Response) -> str:
    """The text of a good answer."""
    assert response.status_code == 200, response.text
    return str(response.json()["choices"][0]["message"]["content"])


def code(response: httpx2.Response) -> tuple[int, str]:
    """Status and code of an error."""
    return response.status_code, response.json()["error"]["code"]


@contextmanager
def started(folder: Path) -> Iterator[Site]:
    """A ready server of :data:`RANKS` ranks; stopped at the end."""
    with pytest.MonkeyPatch.context() as patch, collecting() as collector:
        config = _prepare(folder, collector.url)
        patch.setenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf")
        # So that a span is there soon after its request.
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
        # A core for each rank, or vLLM would bind both to the same ones.
        patch.setenv("VLLM_CPU_OMP_THREADS_BIND", "0|1")
        with live.launched(folder, "--config", str(config)) as (url, process):
            callers = LiveServer(url, folder, process)
            eventually(lambda: _OPS.search(callers.log) is not None)
            found = _OPS.search(callers.log)
            assert found is not None
            ops = LiveServer(found[1], folder, process)
            version = httpx2.get(f"{ops.url}/version").json()["policy_version"]
            yield Site(callers, ops, version, collector)


def _prepare(folder: Path, traces: str) -> Path:
    own = {
        "ops_port": 0,
        "admin_key": ADMIN,
        "keys_file": "keys.yaml",
        "audit": {"file": str(folder / "audit.jsonl")},
        "log_format": "json",
    }
    # The log tells when a request has reached the engine.
    asked: dict[str, Any] = {"tensor_parallel_size": RANKS, "enable_log_requests": True}
    asked |= {"otlp_traces_endpoint": traces}
    engine = {**live.CONFIG["engine"], **asked}
    path = live.prepare(folder, {"server": {**live.CONFIG["server"], **own}, "engine": engine})
    (folder / "keys.yaml").write_text("keys: []\n")
    (folder / "policy.yaml").write_text(FIRST)
    bundles = folder / "bundles"
    for seed, strategy in enumerate(("static", "omnisteer", "ras", "cascade")):
        write_bundle(bundles / strategy, strategy=strategy, seed=seed)
        write_bundle(bundles / f"next-{strategy}", strategy=strategy, seed=seed + 10)
    # The engine was started with the operator behind other layers only.
    write_bundle(folder / FAR_BUNDLE, layers=(3,))
    # It says that steering does nothing, which a steered engine does not confirm.
    still = {str(token): 0.0 for token in range(356)}
    canary = {"token_ids": list(range(40, 60)), "shift": still, "tolerance": 1e-4}
    write_bundle(folder / FALSE_BUNDLE, seed=5, canary=canary)
    return path
