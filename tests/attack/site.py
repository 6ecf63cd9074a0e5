"""The server under attack: the demo model for text, a policy that enforces, a key, an ops port."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import yaml

from tests.needs import demo_dtype
from tests.server.fixtures.live import CHAT, KEY, ROOT, launched

BUNDLE = ROOT / "deploy" / "demo" / "bundles" / "promptgate"
POLICY: dict[str, Any] = {
    "default": "main",
    "policies": {
        "main": {"mode": "enforce", "bundle": str(BUNDLE), "strength": 1.0, "floor": 1.0},
        "weak": {"mode": "enforce", "bundle": str(BUNDLE), "strength": 0.1, "floor": 0.0},
        "off": {"mode": "off"},
    },
}
_GAUGE = re.compile(r"^vllm:num_requests_(?:running|waiting)\{[^}]*\} (\S+)$", re.MULTILINE)


@dataclass(slots=True)
class Site:
    """A running server, and clients for its two ports."""

    url: str
    ops: str
    process: subprocess.Popen[bytes] | None
    http: httpx2.Client = field(init=False)

    def __post_init__(self) -> None:
        headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
        self.http = httpx2.Client(base_url=self.url, headers=headers, timeout=180)

    def post(self, content: bytes) -> httpx2.Response:
        """One chat request as bytes."""
        return self.http.post(CHAT, content=content)

    @property
    def busy(self) -> int:
        """Requests that the engine says it runs or lets wait."""
        text = httpx2.get(f"{self.ops}/metrics", timeout=60).text
        return sum(int(float(value)) for value in _GAUGE.findall(text))

    @property
    def ready(self) -> bool:
        """Whether the server says that it answers."""
        return httpx2.get(f"{self.ops}/ready", timeout=60).status_code == 200


@contextmanager
def attacked(folder: Path, model: Path, *more: str) -> Iterator[Site]:
    """A ready server of the demo model, with more options."""
    policy = folder / "policy.yaml"
    policy.write_text(yaml.safe_dump(POLICY))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = (
        *("--config", str(ROOT / "deploy" / "demo" / "server.yaml")),
        *("--policy-file", str(policy), "--model", str(model), "--dtype", demo_dtype()),
        *("--port", "0", "--ops-port", str(port)),
        *more,
    )
    with launched(folder, *options) as (url, process):
        yield Site(url, f"http://127.0.0.1:{port}", process)
