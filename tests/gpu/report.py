"""The report of a run: one JSON file, rewritten after every step, and its tables as text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.gpu.agreement import Verdict

REHEARSAL = "Rehearsal on a CPU: the laws are checked on other code paths, figures mean nothing.\n"


class Report:
    """What was found so far; a run that is killed leaves what it had."""

    def __init__(self, path: Path, machine: dict[str, Any]):
        self.path = path
        self.content: dict[str, Any] = {"machine": machine, "laws": {}, "overhead": {}}
        self.save()

    def add_verdict(self, case: str, verdict: Verdict) -> None:
        """Keep one law's verdict."""
        figures = verdict.to_json()
        self.content["laws"].setdefault(case, {})[figures.pop("law")] = figures
        self.save()

    def set_overhead(self, overhead: dict[str, Any]) -> None:
        """Keep the overhead measured so far."""
        self.content["overhead"] = overhead
        self.save()

    def save(self) -> None:
        """Write the file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self.content, indent=2) + "\n")

    @property
    def broken(self) -> list[str]:
        """Laws that do not hold, as case and law."""
        return [
            f"{case}: {law}"
            for case, verdicts in self.content["laws"].items()
            for law, figures in verdicts.items()
            if not figures["holds"]
        ]


def line(case: str, verdict: Verdict) -> str:
    """One law on one line."""
    text = f"{case:12} {verdict.law:40} {'holds' if verdict.holds else 'BROKEN'}"
    if verdict.calls:
        text += (
            f"  {verdict.same_tokens}/{verdict.calls} equal, {verdict.bitwise} bitwise, "
            f"logprob {verdict.logprob:.1e}, strength {verdict.coefficient:.1e}"
        )
    return f"{text}  {verdict.note.splitlines()[-1][:200] if verdict.note else ''}".rstrip()


def overhead_table(overhead: dict[str, Any]) -> str:
    """Ratios to stock vLLM of the same round: median, smallest and largest."""
    lines = [f"{'variant':54} {'decode tokens/s':>16}  {'ratio (min - max)':24} TTFT ratio"]
    for name, values in overhead["variants"].items():
        speed, wait = values["decode_ratio"], values["ttft_ratio"]
        lines.append(
            f"{name:54} {values['decode']:16.1f}  {_spread(speed):24} {_spread(wait)}".rstrip()
        )
    return "\n".join(lines)


def _spread(ratio: dict[str, float]) -> str:
    return f"{ratio['median']:.3f} ({ratio['min']:.3f} - {ratio['max']:.3f})"
