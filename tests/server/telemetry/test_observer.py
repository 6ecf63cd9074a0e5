"""What else is told of a request that has ended: recent requests."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from refusal_server.telemetry.recent import RecentRequests
from tests.server.fixtures.scripted import Rig, Script

REFUSAL = "I'm sorry, but I can't help with that."


def test_the_last_requests_are_remembered(tmp_path: Path) -> None:
    rig = Rig(tmp_path, Script(says={"answer": REFUSAL}))
    recent = RecentRequests(2)
    rig.use(recent=recent)
    for policy in ("static", "off", "omnisteer"):
        rig.ask(policy)
    newest, before = recent.newest(9)
    assert (newest.policy, newest.outcome, newest.coefficient, newest.rows_verified) == (
        "omnisteer",
        "refusal",
        2.0,
        1,
    )
    assert (before.policy, before.coefficient, before.risk) == ("off", None, None)
    assert newest.seconds > 0


@pytest.mark.parametrize(("events", "outcome"), [(1, "aborted"), (2, "refusal")])
def test_a_client_that_leaves_at_the_last_event_has_had_its_answer(
    tmp_path: Path, events: int, outcome: str
) -> None:
    rig = Rig(tmp_path, Script(says={"answer": REFUSAL}))

    async def leave() -> None:
        response = await rig.answer("static", stream=True, steering={"report": False})
        for _ in range(events):
            await anext(response.body_iterator)
        await response.body_iterator.aclose()

    asyncio.run(leave())
    assert rig.count("steering_requests_total") == 1
    assert rig.count("steering_requests_total", outcome=outcome) == 1
    assert rig.count("steering_responses_total") == (outcome != "aborted")
