"""Which policies there are, what they do, and what callers may choose."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from refusal_server.caller import ANYONE, Caller, Origin
from refusal_server.policy.policy_file import PolicyRule, TrafficSplit
from refusal_steering.bundle import SteeringBundle, Window
from refusal_steering.terms import MEDIA

Arm = Literal["treatment", "control"]


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy with its bundle in memory (``None`` in mode ``off``)."""

    name: str
    rule: PolicyRule
    bundle: SteeringBundle | None

    @property
    def strategy(self) -> str:
        """The strategy of its bundle, ``none`` in mode ``off``."""
        return "none" if self.bundle is None else self.bundle.manifest.strategy

    @property
    def window(self) -> Window | None:
        """Which decode tokens are steered; ``None`` in mode ``off``."""
        if self.bundle is None:
            return None
        return self.rule.window or self.bundle.manifest.window

    @property
    def blends(self) -> bool:
        """Whether it acts on logits, by a risk that is known before the answer."""
        return self.bundle is not None and self.bundle.manifest.blends

    def dose_limit(self, media: Collection[str]) -> float | None:
        """The smallest limit that holds for a request with ``media``; ``None`` for no limit."""
        limits = [cap for medium, cap in self.rule.caps.items() if medium in media]
        bundle_limit = self.bundle.manifest.dose_limit if self.bundle else None
        limits += [limit for limit in (self.rule.dose_limit, bundle_limit) if limit is not None]
        return min(limits, default=None)

    def at_least_as_strong_as(self, other: Policy) -> bool:
        """Whether a caller who may use ``other`` loses no protection by choosing this one.

        A smaller dose limit is weaker, for text or for any medium. A request with several media
        gets the smallest of their limits, so comparing them one by one is enough.
        """
        if other.rule.mode != "enforce":
            return self.rule.mode != "off" or other.rule.mode == "off"
        return (
            self.rule.mode == "enforce"
            and self.rule.lowest >= other.rule.lowest
            and all(
                _bound(self.dose_limit(media)) >= _bound(other.dose_limit(media))
                for media in ((), *((medium,) for medium in MEDIA))
            )
        )


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
        """Whether ``caller`` may name ``policy``."""
        default = self.default_for(caller)
        if policy.name == default:
            return True
        if caller.policies is not None:
            return policy.name in caller.policies
        own = self.policies.get(default)
        return policy.rule.selectable or (own is not None and policy.at_least_as_strong_as(own))

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


def _bound(limit: float | None) -> float:
    return math.inf if limit is None else limit
