"""What of a new policy file may refuse less than the one in force, before it is applied."""

from __future__ import annotations

from collections.abc import Iterator

from refusal_server.policy.policy import Policy
from refusal_server.policy.policy_order import shortfall
from refusal_server.policy.policy_set import PolicySet


def weakened(before: PolicySet, after: PolicySet) -> list[str]:
    """A sentence for each thing that may be weaker; none where everything is at least as strong."""
    return [*_defaults(before, after), *_policies(before, after)]


def _defaults(before: PolicySet, after: PolicySet) -> Iterator[str]:
    """Who gets another policy without asking, and may be steered less under it."""
    whose = {"Requests that name no policy": (before.default, after.default)}
    for tenant in sorted(before.tenants):
        new = after.tenants.get(tenant, after.default)
        whose[f"Requests of tenant {tenant}"] = before.tenants[tenant], new
    for who, (old, new) in whose.items():
        # A policy that keeps its name and changes is told of once, below.
        if old == new:
            continue
        reason = _less(before.policies[old], after.policies[new])
        if reason is not None:
            yield f"{who} get {new} in place of {old}: {reason}."


def _policies(before: PolicySet, after: PolicySet) -> Iterator[str]:
    for name, old in before.policies.items():
        new = after.policies.get(name)
        if new is None:
            continue
        reason = _less(old, new)
        if reason is not None:
            yield f"{name}: {reason}."
        if new.rule.selectable and not old.rule.selectable:
            yield f"{name}: every caller may name it now."
        split, was = new.rule.split, old.rule.split
        if split is not None and (was is None or split.share > was.share):
            reason = _less(new, after.policies[split.policy])
            if reason is not None:
                yield f"{name}: {split.share:.0%} of its requests go to {split.policy}: {reason}."


def _less(old: Policy, new: Policy) -> str | None:
    """Why requests that were under ``old`` may be steered less under ``new``."""
    if old.rule.mode != "enforce":
        return None
    if new.rule.mode != "enforce":
        return f"nothing is steered in mode {new.rule.mode}"
    if new.rule.strength < old.rule.strength:
        return f"its strength is {new.rule.strength:g}, before {old.rule.strength:g}"
    return shortfall(new, old)
