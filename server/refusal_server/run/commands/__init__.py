"""Commands beside serving; each takes its arguments and returns an exit code."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from refusal_server.run.commands import completion, doctor, fleet, keys, policy

COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "completion": completion.run,
    "doctor": doctor.run,
    "fleet": fleet.run,
    "keys": keys.run,
    "policy": policy.run,
}
