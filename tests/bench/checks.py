"""What the checks of a request cost: microseconds of processor time, next to reading it plainly.

    python -m tests.bench.checks [--rounds 400] [--out FILE]

Each round reads one body plainly and then takes it through every check, so that both see the same
machine; the table gives medians. Nothing else of the server runs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

from refusal_server.chat.body.nulls import without_nulls
from refusal_server.chat.fields import check_fields
from refusal_server.chat.grammar.limits import check_grammar
from refusal_server.chat.guard.coaxing import coaxed
from refusal_server.chat.guard.retry import retried
from refusal_server.chat.guard.shaping import shapes_answer
from refusal_server.chat.rules import check_messages
from refusal_server.http.json_body import parse_object
from refusal_server.settings import Limits, Passes

_WORDS = "The quarterly report is due on Friday and needs a summary of the last three meetings. "
_SYSTEM = {"role": "system", "content": "You are a helpful assistant. " + _WORDS * 2}
_ASK = {"role": "user", "content": _WORDS * 2 + "Please write it."}
_ANSWER = {"role": "assistant", "content": _WORDS * 4}
_FIELDS = {"model": "m", "temperature": 0.7, "max_tokens": 256, "user": "someone"}
BODIES: dict[str, dict[str, Any]] = {
    "one turn": {**_FIELDS, "messages": [_SYSTEM, _ASK]},
    "three turns": {**_FIELDS, "messages": [_SYSTEM, *[_ASK, _ANSWER] * 2, _ASK]},
    "twenty turns": {**_FIELDS, "messages": [_SYSTEM, *[_ASK, _ANSWER] * 19, _ASK]},
}


def main() -> None:
    """Measure and print the table."""
    arguments = _arguments()
    text = table({name: cost(body, arguments.rounds) for name, body in BODIES.items()})
    sys.stdout.write(text)
    if arguments.out is not None:
        arguments.out.write_text(text, encoding="utf-8")


def cost(body: dict[str, Any], rounds: int) -> dict[str, float]:
    """Median microseconds by step; ``plain`` is ``json.loads``, ``read`` our reading of it."""
    raw = json.dumps(body).encode()
    request = ChatCompletionRequest.model_validate(body)
    limits, refusal = Limits(), Passes().refusal
    steps: dict[str, Callable[[dict[str, Any]], object]] = {
        "plain": lambda _: json.loads(raw),
        "read": lambda _: parse_object(raw),
        "nulls": without_nulls,
        "fields": lambda fresh: check_fields(fresh, limits, enforced=True),
        "grammar": lambda fresh: check_grammar(fresh, limits),
        "messages": lambda fresh: check_messages(fresh["messages"]),
        "form": lambda _: shapes_answer(request, refusal),
        "coaxing": lambda fresh: coaxed(fresh["messages"]),
        "retry": lambda fresh: retried(fresh["messages"], refusal),
    }
    seen: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        fresh = json.loads(raw)
        for name, step in steps.items():
            started = time.thread_time_ns()
            step(fresh)
            seen[name].append((time.thread_time_ns() - started) / 1000)
    return {name: statistics.median(values) for name, values in seen.items()}


def table(costs: dict[str, dict[str, float]]) -> str:
    """The figures as Markdown; the last column is what the checks add to a plain reading."""
    steps = list(next(iter(costs.values())))
    lines = [f"| body | {' | '.join(steps)} | added |", "|---" * (len(steps) + 2) + "|"]
    for name, figures in costs.items():
        added = sum(figures.values()) - 2 * figures["plain"]
        row = " | ".join(f"{figures[step]:.0f}" for step in steps)
        lines.append(f"| {name} | {row} | {added:+.0f} us |")
    return "\n".join(lines) + "\n"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=400, help="how often each step is timed")
    parser.add_argument("--out", type=Path, default=None, help="where the table is written")
    return parser.parse_args()


if __name__ == "__main__":
    main()
