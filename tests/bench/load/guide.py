"""The same load by a second client, guidellm, whose figures are made by other code."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.bench.load.servers import Server
from tests.server.fixtures.live import KEY

PROGRAM = "GUIDELLM"
"""Environment variable with the program's path; without it ``guidellm`` is looked up in PATH."""
# Its figures by the names of those of vLLM's benchmark, so that both tables read alike.
FIGURES = {
    "request_throughput": "requests_per_second",
    "output_throughput": "output_tokens_per_second",
    "mean_ttft_ms": "time_to_first_token_ms",
    "mean_tpot_ms": "inter_token_latency_ms",
}


def program() -> str | None:
    """Where guidellm is; ``None`` where it is not: it needs an environment of its own."""
    return os.environ.get(PROGRAM) or shutil.which("guidellm")


def guided(
    server: Server,
    policy: str | None,
    folder: Path,
    prompts: Sequence[str],
    *,
    tokens: int,
    at_once: int,
) -> dict[str, float]:
    """The figures of one run in which each of ``prompts`` is streamed once, ``at_once`` at a time.

    Raises ``SystemExit`` where a request failed.
    """
    data, out = folder / "guided.jsonl", folder / "guided.json"
    data.write_text("\n".join(json.dumps({"prompt": prompt}) for prompt in prompts))
    out.unlink(missing_ok=True)
    body = {"temperature": 0, **({} if policy is None else {"steering": {"policy": policy}})}
    backend = {
        "kind": "openai_http",
        "target": server.url,
        "model": server.model,
        "api_key": KEY,
        "max_tokens": tokens,
        "extras": {"body": body},
    }
    command = [
        *(str(program()), "run", "--backend", json.dumps(backend), "--disable-console"),
        *("--data", json.dumps({"kind": "json_file", "path": str(data)})),
        *("--tokenizer", json.dumps({"kind": "huggingface_auto", "model": server.tokenizer})),
        *("--profile", f"kind=concurrent,streams={at_once}"),
        *("--constraint", f"kind=max_requests,count={len(prompts)}"),
        *("--output", json.dumps({"kind": "json", "path": str(out)})),
    ]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode or not out.exists():
        raise SystemExit(f"guidellm failed:\n{(done.stdout + done.stderr)[-2000:]}")
    return figures(json.loads(out.read_text()), len(prompts))


def figures(report: Any, asked: int) -> dict[str, float]:
    """What a report says of ``asked`` requests; raises ``SystemExit`` where one has no answer."""
    metrics = report["benchmarks"][0]["metrics"]
    answered = metrics["request_totals"]["successful"]
    if answered != asked:
        raise SystemExit(f"{answered} of {asked} requests were answered")
    return {name: float(metrics[theirs]["successful"]["mean"]) for name, theirs in FIGURES.items()}
