"""Contexts of media: written once for each, kept apart, and reported."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.server.fixtures.bundles import CONTEXT_PROMPT, RISK_PASS, write_bundle
from tests.server.fixtures.media import (
    image_part,
    message,
    png,
    video_part,
)
from tests.server.fixtures.scripted import Call, Rig, Script

TWO_PICTURES = message(image_part(png(32, 32)), image_part(png(48, 48)), text="How?")


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path, Script())


def test_a_prompt_without_a_place_for_contexts_writes_none(tmp_path: Path) -> None:
    risk_pass = {**RISK_PASS, "risk_prompt": "Asked: {question}"}
    write_bundle(tmp_path / "blind", strategy="ras", hidden=8, risk_pass=risk_pass)
    rig = Rig(tmp_path, Script(), {"blind": {"mode": "enforce", "bundle": "blind"}})
    rig.ask("blind", messages=TWO_PICTURES)
    assert rig.script.kinds == ["risk", "answer"]


def test_contexts_are_written_once_and_reported(rig: Rig) -> None:
    first = rig.ask("ras", messages=TWO_PICTURES)["steering"]["risk_pass"]
    again = rig.ask("ras", messages=TWO_PICTURES)["steering"]["risk_pass"]
    other = rig.ask("ras", messages=message(video_part()))["steering"]["risk_pass"]
    assert (first["passes"], first["cached_contexts"]) == (4, 0)
    assert (again["passes"], again["cached_contexts"]) == (2, 2)
    assert (other["passes"], other["cached_contexts"]) == (3, 0)
    assert len(rig.script.of("context")) == 3


def test_contexts_are_not_shared_between_prompts_or_salts(tmp_path: Path) -> None:
    variants: dict[str, dict[str, Any]] = {
        "worded": {"context_prompt": f"Please! {CONTEXT_PROMPT}"},
        "longer": {"context_tokens": 33},
        "judged": {"base": 0.6},
    }
    for name, changes in variants.items():
        risk_pass = {**RISK_PASS, **changes}
        write_bundle(tmp_path / name, strategy="ras", hidden=8, risk_pass=risk_pass)
    rules: dict[str, dict[str, Any]] = {
        name: {"mode": "enforce", "bundle": name} for name in variants
    }
    rig = Rig(tmp_path, Script(), rules)
    for written, policy in [(1, "ras"), (2, "worded"), (3, "longer"), (3, "judged"), (3, "ras")]:
        rig.ask(policy, messages=message(image_part()))
        assert len(rig.script.of("context")) == written
    rig.ask("ras", messages=message(image_part()), cache_salt="mine")
    assert len(rig.script.of("context")) == 4


def test_many_requests_for_one_picture_wait_for_one_pass(rig: Rig) -> None:
    async def run() -> None:
        door = asyncio.Event()

        async def wait(call: Call) -> None:
            if call.kind == "context":
                await door.wait()

        rig.script.before = wait
        asking = [
            asyncio.create_task(rig.answer("ras", messages=message(image_part()))) for _ in range(5)
        ]
        while not rig.script.calls:
            await asyncio.sleep(0.001)
        # The first to come may leave: the others still get what it began.
        await asyncio.sleep(0.05)
        asking[0].cancel()
        await asyncio.sleep(0.01)
        door.set()
        with pytest.raises(asyncio.CancelledError):
            await asking[0]
        answers = await asyncio.gather(*asking[1:])
        assert all(answer.status_code == 200 for answer in answers)

    asyncio.run(run())
    assert len(rig.script.of("context")) == 1
    assert len(rig.script.of("answer")) == 4
