"""One short answer that the server asks for itself, to prove that it can answer."""

from __future__ import annotations

from refusal_server.chat.internal import InternalChat
from refusal_server.chat.steering_field import SteeringAsk, choose
from refusal_server.policy.policy_set import PolicySet

_ASKED = ({"role": "user", "content": "Hello!"},)


async def prove_answer(internal: InternalChat, policies: PolicySet) -> None:
    """Ask for one token under the default policy's reading; raises where no proven one comes."""
    directive = choose(SteeringAsk(), policies).probe
    await internal.ask(list(_ASKED), {}, tokens=1, directive=directive)
