"""What steering costs a caller: times to the first token and between tokens, over HTTP.

    python -m tests.bench.latency [--model PATH] [--rounds 5] [--out FILE]

One server with the demo's policies streams answers to the same requests, one at a time and eight
at once. A refusal ends early, so times between tokens are means over the tokens that came. Policies
take turns, in a new order each round; each ratio compares a request with the same request under
``off`` in the same round, and ``off, again`` shows the noise. Every request has a cache salt of its
own, so none finds another's prefix in the cache.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from openai import AsyncOpenAI

from refusal_steering.prompts.contrast_set import Label, load_items, render
from tests.bench.latency_table import BASELINE, Sample, rows, table
from tests.server.fixtures.live import KEY, ROOT, launched

TOKENS, EACH = 24, 4
# The shortest answer whose time between tokens says something.
SHORTEST = 6
CONCURRENCY = (1, 2 * EACH)
LABELS: tuple[Label, ...] = ("harmless", "harmful")
# The row of a table, and the policy that it asks for.
ARMS = {
    BASELINE: BASELINE,
    f"{BASELINE}, again": BASELINE,
    **{name: name for name in ("promptgate", "static", "omnisteer", "mars", "ras", "cascade")},
}


def main() -> None:
    """Run the benchmark and print its table."""
    arguments = _arguments()
    config = ROOT / "deploy" / "demo" / "server.yaml"
    options = ("--config", str(config), "--port", "0", "--model", str(arguments.model))
    with (
        tempfile.TemporaryDirectory() as folder,
        launched(Path(folder), *options) as (url, _),
    ):
        samples = asyncio.run(measure(f"{url}/v1", arguments.rounds))
    report = {
        "machine": f"{os.cpu_count()} x {platform.processor() or platform.machine()}",
        "tokens": TOKENS,
        "requests": len(LABELS) * EACH,
        "rounds": arguments.rounds,
        "rows": rows(samples, ARMS),
    }
    sys.stdout.write(table(report))
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=2) + "\n")


def _arguments() -> argparse.Namespace:
    from tests.engine.conftest import cache_folder

    demo = cache_folder().parent / "models" / "qwen2.5-coder-0.5b-instruct"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=demo)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error(f"--rounds is {arguments.rounds}; expected 1 or more")
    return arguments


async def measure(url: str, rounds: int) -> list[Sample]:
    """The samples of ``rounds`` rounds; one more before them warms up."""
    chance = random.Random(0)
    samples: list[Sample] = []
    async with AsyncOpenAI(base_url=url, api_key=KEY, max_retries=0, timeout=600.0) as client:
        caller = Caller(client, (await client.models.list()).data[0].id)
        for number, concurrency in product(range(rounds + 1), CONCURRENCY):
            arms = chance.sample([*ARMS], len(ARMS))
            played = [sample async for sample in caller.play(concurrency, number, arms)]
            if number:
                samples += played
            sys.stderr.write(f"round {number} of {rounds}, {concurrency} at once\n")
    return samples


def prompts() -> list[tuple[Label, str]]:
    """Lists to fill in, harmless and harmful in turn, from the contrast set's held-out part."""
    items = [item for item in load_items() if item.split == "held" and item.domain != "borderline"]
    columns = []
    for label in LABELS:
        column = [(label, render(item, "list", 0)) for item in items if item.label == label]
        # Spread over the file, and so over its domains.
        columns.append(column[:: len(column) // EACH][:EACH])
    return [pair for row in zip(*columns, strict=True) for pair in row]


class Caller:
    """Sends the requests of a round."""

    def __init__(self, client: AsyncOpenAI, model: str):
        self.client = client
        self.model = model
        self.prompts = prompts()

    async def play(
        self, concurrency: int, number: int, arms: Sequence[str]
    ) -> AsyncIterator[Sample]:
        """Every request under every arm; arms take turns with each group that is sent at once."""
        places = range(len(self.prompts))
        groups = [places[start : start + concurrency] for start in places[::concurrency]]
        for group, arm in product(groups, arms):
            asked = [self.ask(self.prompts[place][1], ARMS[arm]) for place in group]
            for place, times in zip(group, await asyncio.gather(*asked), strict=True):
                yield Sample(concurrency, number, place, self.prompts[place][0], arm, *times)

    async def ask(self, prompt: str, policy: str) -> tuple[float, float]:
        """TTFT and TPOT, in seconds, of one streamed answer of at most ``TOKENS`` tokens."""
        begin, tokens = time.perf_counter(), 0
        first = last = None
        stream: Any = await self.client.chat.completions.create(
            model=self.model,
            messages=[{"role": "user", "content": prompt}],
            max_tokens=TOKENS,
            temperature=0.0,
            stream=True,
            stream_options={"include_usage": True},
            extra_body={"steering": {"policy": policy}, "cache_salt": uuid.uuid4().hex},
        )
        async for chunk in stream:
            for choice in chunk.choices:
                last = time.perf_counter()
                first = last if first is None and choice.delta.content else first
            tokens = chunk.usage.completion_tokens if chunk.usage else tokens
        header = stream.response.headers.get("x-steering", "")
        if f"policy={policy}" not in header.split(";"):
            raise RuntimeError(f"policy {policy!r} was asked; the server's header is {header!r}")
        if first is None or last is None or tokens < SHORTEST:
            raise RuntimeError(
                f"an answer under {policy!r} has {tokens} tokens, and "
                f"{'no' if first is None else 'some'} text; expected {SHORTEST} with text at least"
            )
        return first - begin, (last - first) / (tokens - 1)


if __name__ == "__main__":
    main()
