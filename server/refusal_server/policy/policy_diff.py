"""What a new policy text would change of the policy in force."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from refusal_server.policy.policy import Policy
from refusal_server.policy.policy_order import shortfall
from refusal_server.policy.policy_set import PolicySet

LineKind = Literal["added", "removed", "hunk", "same"]

_KINDS: dict[str, LineKind] = {"+": "added", "-": "removed", "@": "hunk", " ": "same"}
_HEADER = 2


@dataclass(frozen=True, slots=True)
class PolicyDiff:
    """``before`` beside ``text``; ``after`` is the set that ``text`` makes, ``None`` for none."""

    before: PolicySet
    text: str
    after: PolicySet | None

    @property
    def unified(self) -> str:
        """A unified diff of the texts, with the versions in its header; empty for equal texts."""
        return "\n".join(self._lines())

    @property
    def lines(self) -> list[tuple[LineKind, str]]:
        """The lines of the unified diff below its header, each with its kind."""
        return [(_KINDS[line[0]], line) for line in self._lines()[_HEADER:]]

    @property
    def bundles_added(self) -> list[str]:
        """Digests of bundles that would come into use."""
        return [] if self.after is None else sorted(self.after.digests - self.before.digests)

    @property
    def bundles_removed(self) -> list[str]:
        """Digests of bundles that would go out of use."""
        return [] if self.after is None else sorted(self.before.digests - self.after.digests)

    @property
    def weakens(self) -> list[str]:
        """A sentence for each thing that may refuse less; none where all is at least as strong."""
        if self.after is None:
            return []
        return [*_defaults(self.before, self.after), *_policies(self.before, self.after)]

    def _lines(self) -> list[str]:
        versions = (self.before.version, "" if self.after is None else self.after.version)
        return list(
            difflib.unified_diff(
                self.before.text.splitlines(), self.text.splitlines(), *versions, lineterm=""
            )
        )


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
