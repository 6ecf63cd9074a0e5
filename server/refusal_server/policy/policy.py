"""One policy of the file, with its bundle."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from refusal_server.caller import Caller, Sight
from refusal_server.policy.policy_file import PolicyRule, ReportTo
from refusal_steering.bundle import SteeringBundle, Window

_SIGHTS: Mapping[ReportTo, tuple[Sight, ...]] = {
    "everyone": ("open", "granted", "all"),
    "keys": ("granted", "all"),
    "nobody": ("all",),
}


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

    def tells(self, caller: Caller) -> bool:
        """Whether ``caller`` is told what was measured for its requests."""
        return caller.sight in _SIGHTS[self.rule.report_to]

    def dose_limit(self, media: Collection[str]) -> float | None:
        """The smallest limit that holds for a request with ``media``; ``None`` for no limit."""
        limits = [cap for medium, cap in self.rule.caps.items() if medium in media]
        bundle_limit = self.bundle.manifest.dose_limit if self.bundle else None
        limits += [limit for limit in (self.rule.dose_limit, bundle_limit) if limit is not None]
        return min(limits, default=None)
