"""Mixed traffic against a server of its own, for a number of minutes, and what it leaves behind.

    python -m tests.attack.soak --model FOLDER [--minutes 12]

Good, bad, streamed and aborted requests of several callers while the policy changes. Counted are
answers with 5xx, unsteered answers where steering was promised, answers that carry another
request's strength, the memory of each kind of process by minute, and file handles before and after.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import yaml

from refusal_steering.prompts.contrast_set import load_items, render
from tests.attack.footprint import Log
from tests.attack.site import POLICY, Site, attacked
from tests.attack.structures import BROKEN
from tests.server.fixtures.live import CHAT, KEY

CALLERS = 8
STRENGTHS = (1.0, 1.25, 1.5, 2.0)
_CHANGE_SECONDS = 7.0
_WARM_SECONDS = 60.0
_SETTLE_SECONDS = 3.0
# Growth over the last two thirds of a run, of so many measurements at least.
_FLAT = 0.02
_FEWEST = 6
_LENGTHS = 320
# Small, so that traffic has written all of it before memory is first measured: pages that were
# never written are not resident.
_CACHE = ("--kv-cache-memory-bytes", str(64 * 2**20))


@dataclass(slots=True)
class Tally:
    """What was seen: answers by status and kind, and broken promises by name."""

    statuses: Counter[int] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    broken: Counter[str] = field(default_factory=Counter)


def main() -> int:
    """Soak, print the table, and say whether every promise was kept."""
    arguments = _arguments()
    with (
        tempfile.TemporaryDirectory() as folder,
        attacked(Path(folder), arguments.model, *_CACHE) as site,
    ):
        meet_every_length(site)
        text, holds = soak(site, Path(folder) / "policy.yaml", 60.0 * arguments.minutes)
    sys.stdout.write(text)
    if arguments.out is not None:
        arguments.out.write_text(text, encoding="utf-8")
    return 0 if holds else 1


def meet_every_length(site: Site) -> None:
    """One request of every length up to some hundred tokens.

    On a CPU oneDNN compiles matrix multiplications for every number of rows in a batch and keeps
    1,024 of them, so the worker grows until traffic has met as many; this is not what a soak is to
    find.
    """
    for length in range(_LENGTHS):
        # The number first, so that none finds the words of another in the prefix cache.
        content = f"{length}{' a' * length}"
        messages = [{"role": "user", "content": content}]
        site.post(json.dumps({"messages": messages, "max_tokens": 1}).encode())


def soak(site: Site, policy: Path, seconds: float) -> tuple[str, bool]:
    """Traffic for ``seconds``; Markdown tables, and whether every promise was kept."""
    assert site.process is not None
    asyncio.run(_traffic(site, policy, Tally(), min(_WARM_SECONDS, seconds / 4)))
    log, tally = Log(site.process.pid), Tally()
    with log.kept():
        asyncio.run(_traffic(site, policy, tally, seconds))
        time.sleep(_SETTLE_SECONDS)
    failed = sum(count for status, count in tally.statuses.items() if status >= 500)
    before, after = log.seen[0], log.seen[-1]
    rows = [
        ("minutes", f"{seconds / 60:.1f}"),
        ("answers", f"{sum(tally.statuses.values())}"),
        ("by kind", _told(tally.kinds)),
        ("by status", _told(tally.statuses)),
        ("5xx", f"{failed}"),
        ("promises broken", _told(tally.broken) or "0"),
        ("open files before and after", f"{before.files} and {after.files}"),
        ("requests left behind", f"{site.busy}"),
    ]
    lines = ["| what | seen |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]
    lines += ["", *_memory(log)]
    holds = not failed and not tally.broken and not site.busy and after.files <= before.files + 16
    return "\n".join(lines) + "\n", holds and not _growing(log)


def _memory(log: Log) -> list[str]:
    """Resident MiB of each kind of process by minute, and growth over the last two thirds."""
    roles = list(log.seen[-1].memory)
    lines = [f"| MiB after | {' | '.join(roles)} |", "|---" * (len(roles) + 1) + "|"]
    for place, seen in enumerate(log.seen):
        minute = f"{place} min" if seen is not log.seen[-1] else "the end"
        lines.append(
            f"| {minute} | {' | '.join(f'{seen.memory.get(role, 0):.0f}' for role in roles)} |"
        )
    growths = " | ".join(f"{100 * log.growth(role):+.1f} %" for role in roles)
    return [*lines, f"| growth since a third | {growths} |"]


def _growing(log: Log) -> list[str]:
    """Roles whose memory is not flat; of a short run nothing is said."""
    if len(log.seen) < _FEWEST:
        return []
    return [role for role in log.seen[-1].memory if log.growth(role) > _FLAT]


async def _traffic(site: Site, policy: Path, tally: Tally, seconds: float) -> None:
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    end = time.monotonic() + seconds
    async with httpx2.AsyncClient(base_url=site.url, headers=headers, timeout=120) as client:
        changes = asyncio.create_task(_change(policy))
        await asyncio.gather(*(_caller(client, tally, seed, end) for seed in range(CALLERS)))
        changes.cancel()


async def _change(policy: Path) -> None:
    """Another ceiling every few seconds: another version of the same policy."""
    for turn in range(10**6):
        rules = {**POLICY["policies"]["main"], "ceiling": 2.0 + (turn % 5) / 10}
        content = {**POLICY, "policies": {**POLICY["policies"], "main": rules}}
        policy.write_text(yaml.safe_dump(content))
        await asyncio.sleep(_CHANGE_SECONDS)


async def _caller(client: httpx2.AsyncClient, tally: Tally, seed: int, end: float) -> None:
    rng = random.Random(seed)
    items = [item for item in load_items() if item.split == "held"]
    kinds: tuple[Callable[..., Awaitable[None]], ...] = (_whole, _whole, _streamed, _left, _bad)
    while time.monotonic() < end:
        prompt = render(rng.choice(items), rng.choice(("plain", "list")), 0, rng.randrange(8))
        try:
            await rng.choice(kinds)(client, tally, rng, prompt)
        except httpx2.TransportError as error:
            tally.broken[f"no answer: {type(error).__name__}"] += 1


def _body(rng: random.Random, prompt: str, **more: Any) -> tuple[dict[str, Any], float]:
    strength = rng.choice(STRENGTHS)
    steering = {"strength": strength, "report": True}
    messages = [{"role": "user", "content": prompt}]
    body = {"messages": messages, "max_tokens": rng.randrange(4, 32), "temperature": 0}
    return {**body, "steering": steering, **more}, strength


async def _whole(client: httpx2.AsyncClient, tally: Tally, rng: random.Random, prompt: str) -> None:
    body, strength = _body(rng, prompt)
    answer = await client.post(CHAT, content=json.dumps(body))
    tally.kinds["whole"] += 1
    tally.statuses[answer.status_code] += 1
    if answer.status_code == 200:
        _judge(tally, answer.json()["steering"], strength, answer.headers)


async def _streamed(
    client: httpx2.AsyncClient, tally: Tally, rng: random.Random, prompt: str
) -> None:
    body, strength = _body(rng, prompt, stream=True)
    tally.kinds["streamed"] += 1
    async with client.stream("POST", CHAT, content=json.dumps(body)) as answer:
        tally.statuses[answer.status_code] += 1
        events = [line async for line in answer.aiter_lines() if line.startswith("data: {")]
    if answer.status_code == 200:
        report = json.loads(events[-1].removeprefix("data: ")).get("steering")
        if report is None:
            tally.broken["stream without a report"] += 1
        else:
            _judge(tally, report, strength, answer.headers)


async def _left(client: httpx2.AsyncClient, tally: Tally, rng: random.Random, prompt: str) -> None:
    """A caller that goes away while it is answered."""
    body, _ = _body(rng, prompt, stream=True)
    tally.kinds["left"] += 1
    async with client.stream("POST", CHAT, content=json.dumps(body)) as answer:
        tally.statuses[answer.status_code] += 1
        async for _ in answer.aiter_lines():
            break


async def _bad(client: httpx2.AsyncClient, tally: Tally, rng: random.Random, _: str) -> None:
    tally.kinds["bad"] += 1
    answer = await client.post(CHAT, content=rng.choice(list(BROKEN.values())))
    tally.statuses[answer.status_code] += 1


def _judge(tally: Tally, report: dict[str, Any], strength: float, headers: httpx2.Headers) -> None:
    if report["mode"] != "enforce" or not report["rows_verified"]:
        tally.broken["unsteered answer"] += 1
    if report["strength"] != strength:
        tally.broken["another request's strength"] += 1
    if f"version={report['version']}" not in headers["x-steering"]:
        tally.broken["header and report of two versions"] += 1


def _told(counts: Counter[Any]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in sorted(counts.items()))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", type=Path, required=True, help="folder of the demo model")
    parser.add_argument("--minutes", type=float, default=12.0, help="how long traffic lasts")
    parser.add_argument("--out", type=Path, default=None, help="where the table is written")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
