"""The servers that the rows are tried on, and starts that must fail."""

from __future__ import annotations

import copy
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.attack.rows.row import Target
from tests.attack.site import POLICY as ATTACKED
from tests.server.fixtures.live import LiveServer, command, environment, launched

QUEUE, CHOICES = 24, 8
_OTHER = Path(ATTACKED["policies"]["main"]["bundle"]).parent / "static"
POLICY: dict[str, Any] = {
    "default": "main",
    "policies": {
        **ATTACKED["policies"],
        "shadow": {**ATTACKED["policies"]["main"], "mode": "shadow"},
        "quiet": {**ATTACKED["policies"]["main"], "report_to": "nobody", "selectable": True},
        "other": {"mode": "enforce", "bundle": str(_OTHER), "strength": 2.0, "floor": 2.0},
    },
}
SERVER: dict[str, Any] = {
    "port": 0,
    "policy_file": "policy.yaml",
    "drain_seconds": 240,
    "limits": {
        "body_seconds": 5.0,
        "header_seconds": 4.0,
        "header_bytes": 16_384,
        "write_seconds": 5.0,
        "default_max_tokens": 64,
    },
    "media": {
        "domains": ["localhost", "unknown.invalid"],
        "audio_seconds": 60,
        "video_seconds": 60,
        "read_seconds": 2.0,
        "fetch_seconds": 4.0,
    },
}
ENGINE: dict[str, Any] = {
    "max_model_len": 4096,
    "max_num_seqs": 16,
    "max_num_queued_reqs": QUEUE,
    "kv_cache_memory_bytes": 256 * 2**20,
    "enforce_eager": True,
    "enable_auto_tool_choice": True,
    "tool_call_parser": "hermes",
}
MEDIA: dict[str, Any] = {
    "limit_mm_per_prompt": {"image": 2, "audio": 1, "video": 1},
    "mm_processor_cache_gb": 0.25,
}


@contextmanager
def serving(
    folder: Path, model: Path, engine: Mapping[str, Any], **server: Any
) -> Iterator[Target]:
    """A ready server of ``model`` with an ops port and an audit log."""
    folder.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    audit = folder / "audit.jsonl"
    options = _configured(
        folder, model, engine, ops_port=port, audit={"file": str(audit)}, **server
    )
    with launched(folder, *options) as (url, process):
        yield Target(LiveServer(url, folder, process), f"http://127.0.0.1:{port}", audit, model)


def start_that_fails(target: Target, *options: str, open_files: int | None = None) -> str:
    """The one line with which another start of a server ends, before its model is loaded.

    It must end with exit code 2 and say nothing else.
    """
    configured = _configured(target.server.folder / "another", target.model, ENGINE)
    limited = ["prlimit", f"--nofile={open_files}:{open_files}"] if open_files else []
    done = subprocess.run(
        [*limited, *command(*configured, *options)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("refusal-server: ")]
    assert done.returncode == 2, f"exit code {done.returncode}: {done.stderr[-500:]}"
    assert len(lines) == 1, lines
    assert "Traceback" not in done.stderr
    return lines[0]


def _configured(folder: Path, model: Path, engine: Mapping[str, Any], **server: Any) -> list[str]:
    folder.mkdir(exist_ok=True)
    policy = folder / "policy.yaml"
    if not policy.exists():
        policy.write_text(yaml.safe_dump(POLICY))
    section = copy.deepcopy(SERVER)
    for name, value in server.items():
        section[name] = {**section.get(name, {}), **value} if isinstance(value, dict) else value
    path = folder / "server.yaml"
    path.write_text(yaml.safe_dump({"server": section, "engine": {"model": str(model), **engine}}))
    return ["--config", str(path)]
