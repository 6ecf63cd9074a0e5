"""What a new policy text would change of the policy in force."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal

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

    def _lines(self) -> list[str]:
        versions = (self.before.version, "" if self.after is None else self.after.version)
        return list(
            difflib.unified_diff(
                self.before.text.splitlines(), self.text.splitlines(), *versions, lineterm=""
            )
        )
