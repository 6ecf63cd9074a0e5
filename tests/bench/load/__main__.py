"""Load on this server and on stock vLLM, in turns, never both at once.

    python -m tests.bench.load [--rounds 3] [--demo PATH] [--streams 500] [--waves 6] [--skip PART]

Three parts. ``bench``: ``vllm bench serve`` on the demo model, and guidellm where that is found (in
PATH, or by the variable ``GUIDELLM``), ratios to stock vLLM of the same round. ``cpu``: what the
process that speaks HTTP spends for a request and for a streamed event, on the tiny model, whose
engine is fast. ``streams``: many streams at once on the tiny model, how many came whole, and the
memory of that process after each wave.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench.load import guide
from tests.bench.load.clients import AT_ONCE, OUTPUT, bench, prompts, streams, whole_answers
from tests.bench.load.figures import STOCK, Benched, Cpu, Wave, bench_lines, cpu_lines, wave_lines
from tests.bench.load.process import cpu_seconds, resident_mib
from tests.bench.load.servers import Server, Site, Who
from tests.server.fixtures.live import ROOT

Client = Callable[[Server, str | None, Path], dict[str, float]]
PARTS = ("bench", "cpu", "streams")
# The arm of a table, and the policy that it asks for.
DEMO = {"off": "off", "promptgate": "promptgate"}
TINY = {"off": "off", "static": "static", "omnisteer": None}
WHO: tuple[Who, ...] = ("stock", "ours")
REQUESTS, EVENT_STREAMS, EVENT_TOKENS, WAVE_TOKENS = 400, 8, 1000, 16
# Of one arm one turn differs from the next by a third.
TURNS = 5


def main() -> None:
    """Run the parts that are wanted and print their tables."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "bench" not in arguments.skip:
            for client, rounds in _benched(arguments, folder).items():
                _say(client, bench_lines(rounds))
        site = Site.tiny(folder / "tiny")
        if "cpu" not in arguments.skip:
            _say("process that speaks HTTP", cpu_lines([*_cpu(site, arguments.rounds, folder)]))
        if "streams" not in arguments.skip:
            with site.serving("ours", folder) as server:
                waves = asyncio.run(_waves(server, arguments.streams, arguments.waves))
            _say("streams at once", wave_lines(waves))


def _benched(arguments: argparse.Namespace, folder: Path) -> dict[str, list[Benched]]:
    """Rounds by client, every arm once a round; servers change places from round to round."""
    config = ROOT / "deploy" / "demo" / "server.yaml"
    site = Site.of(config, model=str(arguments.demo), served_model_name=[arguments.demo.name])
    clients = _clients()
    rounds: dict[str, list[Benched]] = {client: [] for client in clients}
    for number in range(arguments.rounds):
        found: dict[str, dict[str, dict[str, float]]] = {client: {} for client in clients}
        for who in WHO[:: 1 - 2 * (number % 2)]:
            with site.serving(who, folder) as server:
                for arm, policy in ({STOCK: None} if who == "stock" else DEMO).items():
                    for client, measured in clients.items():
                        found[client][arm] = measured(server, policy, folder)
        for client, arms in found.items():
            _note(f"{client}, round {number + 1} of {arguments.rounds}: {arms}")
            rounds[client].append({arm: arms[arm] for arm in (STOCK, *DEMO)})
    return rounds


def _clients() -> dict[str, Client]:
    if guide.program() is None:
        _note("guidellm is missing: install it into an environment of its own; left out")
        return {"vllm bench serve": bench}
    return {"vllm bench serve": bench, "guidellm": _guided}


def _guided(server: Server, policy: str | None, folder: Path) -> dict[str, float]:
    return guide.guided(server, policy, folder, prompts(), tokens=OUTPUT, at_once=AT_ONCE)


def _cpu(site: Site, rounds: int, folder: Path) -> Iterator[dict[str, Cpu]]:
    for number in range(rounds):
        found: dict[str, Cpu] = {}
        for who in WHO[:: 1 - 2 * (number % 2)]:
            with site.serving(who, folder) as server:
                arms = {STOCK: None} if who == "stock" else TINY
                for arm, policy in arms.items():
                    found[arm] = asyncio.run(_spent(server, policy))
        _note(f"cpu, round {number + 1} of {rounds}: {found}")
        yield {arm: found[arm] for arm in (STOCK, *TINY)}


async def _spent(server: Server, policy: str | None) -> Cpu:
    """What one arm costs, after a warm-up of both kinds: medians of several turns."""
    await whole_answers(server, policy, 32, 8)
    await streams(server, policy, EVENT_STREAMS, 32)
    requests = [await _request_seconds(server, policy) for _ in range(TURNS)]
    request = statistics.median(requests)
    events = [await _event_seconds(server, policy, request) for _ in range(TURNS)]
    return Cpu(1e6 * request, 1e6 * statistics.median(events))


async def _request_seconds(server: Server, policy: str | None) -> float:
    before = cpu_seconds(server.pid)
    await whole_answers(server, policy, REQUESTS, 8)
    return (cpu_seconds(server.pid) - before) / REQUESTS


async def _event_seconds(server: Server, policy: str | None, request: float) -> float:
    before = cpu_seconds(server.pid)
    arrived = await streams(server, policy, EVENT_STREAMS, EVENT_TOKENS)
    return (cpu_seconds(server.pid) - before - EVENT_STREAMS * request) / arrived.events


async def _waves(server: Server, count: int, waves: int) -> list[Wave]:
    found = []
    for number in range(waves):
        arrived = await streams(server, None, count, WAVE_TOKENS)
        found.append(Wave(count, arrived.whole, resident_mib(server.pid)))
        _note(f"wave {number + 1} of {waves}: {found[-1]}")
    return found


def _arguments() -> argparse.Namespace:
    from tests.engine.conftest import cache_folder

    demo = cache_folder().parent / "models" / "qwen2.5-coder-0.5b-instruct-omni"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--demo", type=Path, default=demo)
    parser.add_argument("--streams", type=int, default=500)
    parser.add_argument("--waves", type=int, default=6)
    parser.add_argument("--skip", action="append", choices=PARTS, default=[])
    arguments = parser.parse_args()
    for name in ("rounds", "streams", "waves"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name} is {getattr(arguments, name)}; expected 1 or more")
    return arguments


def _say(title: str, lines: Iterator[str]) -> None:
    sys.stdout.write("\n".join((f"\n{title}", "", *lines)) + "\n")
    sys.stdout.flush()


def _note(line: str) -> None:
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    main()
