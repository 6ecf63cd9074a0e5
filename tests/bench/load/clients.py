"""Who sends the load: vLLM's own benchmark, and clients that count what reaches them."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from refusal_steering.prompts.contrast_set import load_items, render
from tests.bench.load.servers import Server
from tests.server.fixtures.live import CHAT, KEY

OUTPUT, _REQUESTS, AT_ONCE = 32, 48, 8
BENCHED = ("request_throughput", "output_throughput", "mean_ttft_ms", "mean_tpot_ms")


def bench(server: Server, policy: str | None, folder: Path) -> dict[str, float]:
    """The figures :data:`BENCHED` of ``vllm bench serve``, everyday requests streamed at once.

    Its random words would not do: it forbids those answers to end, which leaves no room for a
    refusal, so that the refusal guard drafts each answer before it is given. Requests are answered
    under ``policy``, or by a server that knows none. Raises ``SystemExit`` where one failed.
    """
    body = {} if policy is None else {"steering": {"policy": policy}}
    command = [
        *(sys.executable, "-m", "vllm.entrypoints.cli.main", "bench", "serve"),
        *("--backend", "openai-chat", "--base-url", server.url, "--endpoint", CHAT),
        *("--model", server.model, "--tokenizer", server.tokenizer, "--disable-tqdm"),
        *("--dataset-name", "sharegpt", "--dataset-path", str(_prompts(folder))),
        *("--sharegpt-output-len", str(OUTPUT), "--num-prompts", str(_REQUESTS)),
        *("--max-concurrency", str(AT_ONCE), "--temperature", "0", "--num-warmups", "8"),
        *("--save-result", "--result-dir", str(folder), "--result-filename", "bench.json"),
        *("--extra-body", json.dumps(body)),
    ]
    environment = {**os.environ, "OPENAI_API_KEY": KEY, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"vllm bench serve failed:\n{(done.stdout + done.stderr)[-2000:]}")
    found = json.loads((folder / "bench.json").read_text())
    if found["completed"] != _REQUESTS:
        raise SystemExit(f"{found['completed']} of {_REQUESTS} requests were answered")
    return {name: float(found[name]) for name in BENCHED}


def prompts() -> list[str]:
    """Harmless lists to fill in, held out by the contrast set."""
    items = [one for one in load_items() if one.split == "held" and one.label == "harmless"]
    return [render(one, "list", 0) for one in items[:_REQUESTS]]


def _prompts(folder: Path) -> Path:
    """The same as the benchmark reads them."""
    path = folder / "prompts.json"
    turns = [[prompt, "Here it is."] for prompt in prompts()]
    path.write_text(
        json.dumps([{"conversations": [{"value": value} for value in one]} for one in turns])
    )
    return path


@dataclass(frozen=True)
class Arrived:
    """What came of some streams: those that ended as they should, and events of all of them."""

    whole: int
    events: int


async def whole_answers(server: Server, policy: str | None, count: int, at_once: int) -> None:
    """``count`` answers of one token, not streamed; raises ``SystemExit`` for one that fails."""
    free = asyncio.Semaphore(at_once)

    async def ask(client: httpx2.AsyncClient, number: int) -> None:
        async with free:
            answer = await client.post(CHAT, json=_body(server, policy, number, 1))
        if answer.status_code != 200:
            raise SystemExit(f"an answer failed with {answer.status_code}: {answer.text[:300]}")

    async with _client(server, at_once) as client:
        await asyncio.gather(*(ask(client, number) for number in range(count)))


async def streams(server: Server, policy: str | None, count: int, tokens: int) -> Arrived:
    """``count`` streams at once, each of at most ``tokens`` tokens."""

    async def read(client: httpx2.AsyncClient, number: int) -> tuple[bool, int]:
        body = {**_body(server, policy, number, tokens), "stream": True}
        events, last = 0, ""
        async with client.stream("POST", CHAT, json=body) as answer:
            async for line in answer.aiter_lines():
                if line:
                    events, last = events + 1, line
        return answer.status_code == 200 and last == "data: [DONE]", events

    async with _client(server, count) as client:
        found = await asyncio.gather(*(read(client, number) for number in range(count)))
    return Arrived(sum(whole for whole, _ in found), sum(events for _, events in found))


def _client(server: Server, at_once: int) -> httpx2.AsyncClient:
    limits = httpx2.Limits(max_connections=at_once, max_keepalive_connections=at_once)
    headers = {"authorization": f"Bearer {KEY}"}
    return httpx2.AsyncClient(base_url=server.url, headers=headers, timeout=600, limits=limits)


def _body(server: Server, policy: str | None, number: int, tokens: int) -> dict[str, Any]:
    body = {
        "model": server.model,
        "messages": [{"role": "user", "content": f"question {number}"}],
        "max_tokens": tokens,
        "temperature": 0,
    }
    return body if policy is None else {**body, "steering": {"policy": policy}}
