"""Which policies there are, what they do, and what callers may choose."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from refusal_server.caller import ANYONE, Caller, Origin
from refusal_server.policy.policy import Policy
from refusal_server.policy.policy_file import TrafficSplit
from refusal_server.policy.policy_order import shortfall
from refusal_steering.bundle import SteeringBundle

Arm = Literal["treatment", "control"]


@dataclass(frozen=True, slots=True)
class PolicySet:
    """An immutable snapshot of the policy file; ``version`` digests its content and its bundles.

    ``tenants`` maps tenants to their default policies; ``text`` is the file as it was written.
    """

    version: str
    default: str
    policies: Mapping[str, Policy]
    tenants: Mapping[str, str]
    text: str

    @property
    def bundles(self) -> tuple[SteeringBundle, ...]:
        """Every bundle that some policy uses, once."""
        found = {p.bundle.digest: p.bundle for p in self.policies.values() if p.bundle}
        return tuple(found.values())

    @property
    def digests(self) -> frozenset[str]:
        """The digests of :attr:`bundles`."""
        return frozenset(bundle.digest for bundle in self.bundles)

    def default_for(self, caller: Caller) -> str:
        """The policy of a caller that names none: its key's, its tenant's, or the file's default.

        A key may name a policy that the file does not have.
        """
        return caller.policy or self.tenants.get(caller.tenant or "", self.default)

    def allows(self, policy: Policy, caller: Caller = ANYONE) -> bool:
        """Whether ``caller`` may name ``policy``.

        It is the caller's default, a right of its key, ``selectable``, or measurably at least as
        strong as the default.
        """
        default = self.default_for(caller)
        if policy.name == default:
            return True
        if caller.policies is not None:
            return policy.name in caller.policies
        own = self.policies.get(default)
        return policy.rule.selectable or (own is not None and shortfall(policy, own) is None)

    def split(self, policy: Policy, origin: Origin) -> tuple[Policy, Arm | None]:
        """What a request that names no policy gets for ``policy``, and its arm of the split."""
        split = policy.rule.split
        subject = None if split is None else _subject(split, origin)
        if split is None or subject is None:
            return policy, None
        place = "\0".join((split.salt, policy.name, split.policy, subject))
        drawn = int.from_bytes(hashlib.sha256(place.encode()).digest()[:8]) / 2**64
        if drawn < split.share:
            return self.policies[split.policy], "treatment"
        return policy, "control"


def _subject(split: TrafficSplit, origin: Origin) -> str | None:
    if split.by == "key":
        return origin.caller.name
    if split.by == "user" and origin.user:
        return origin.user
    return origin.request_id
