"""A small run against a scripted server: its rows, its settings, and a server that steers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from refusal_steering.evaluation.endpoint import Access
from refusal_steering.evaluation.settings import Settings
from tests.steering.evaluation.fake_server import Ask, FakeServer
from tests.steering.evaluation.texts import ANSWER, REFUSAL

ROWS = [
    *({"id": f"bad{at}", "label": "harmful", "prompt": f"bad thing {at}"} for at in range(4)),
    *({"id": f"near{at}", "label": "borderline", "prompt": f"near thing {at}"} for at in range(2)),
    *({"id": f"good{at}", "label": "harmless", "prompt": f"good thing {at}"} for at in range(3)),
]


def steered(ask: Ask) -> str:
    """Policy ``steer`` refuses what is bad; otherwise everything is answered, in many words."""
    return REFUSAL if ask.policy == "steer" and "bad" in ask.text else f"{ANSWER} {ask.text[:40]}"


def settings(server: FakeServer, folder: Path, **changes: Any) -> Settings:
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    plain = Settings(
        Access(server.url, timeout=60.0, retries=0, concurrency=3),
        (f"file:{rows}?forms=plain,list",),
        folder / "results.json",
        policies=("steer",),
    )
    return replace(plain, **changes)
