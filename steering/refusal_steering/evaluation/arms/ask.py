"""One case asked in the way of one arm."""

from __future__ import annotations

from refusal_steering.evaluation.arms.arm import Arm
from refusal_steering.evaluation.arms.ecso import eyes_closed
from refusal_steering.evaluation.arms.self_reminder import reminded
from refusal_steering.evaluation.case import Case
from refusal_steering.evaluation.endpoint import Endpoint, Reply


async def ask(endpoint: Endpoint, arm: Arm, case: Case, max_tokens: int) -> Reply:
    """The arm's reply; a failed one where a step of it fails."""
    if arm.defence == "ecso":
        return await eyes_closed(endpoint, case, max_tokens, arm.policy)
    messages = case.with_system(arm.system)
    if arm.defence == "self-reminder":
        messages = [*reminded(messages)]
    return await endpoint.chat(messages, max_tokens, arm.policy)
