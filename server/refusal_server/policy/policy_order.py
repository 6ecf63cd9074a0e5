"""Whether one policy is measurably at least as strong as another."""

from __future__ import annotations

import math
from itertools import combinations

from refusal_server.policy.policy import Policy
from refusal_steering.bundle import Manifest, Window
from refusal_steering.gate.prompt_gate import PromptGate
from refusal_steering.terms import MEDIA, media_set

_KINDS = ((), *((medium,) for medium in MEDIA))


def shortfall(named: Policy, default: Policy) -> str | None:
    """Why ``named`` may be weaker than ``default``, for operators; ``None`` where it is not.

    Both must enforce, with bundles of one model. With one bundle its terms are compared: nothing
    that callers can reach may be less. With two, the shares of harmful requests that they have
    refused when they were measured; what was not measured, or not alike, may be weaker. Where
    callers may lower the strength, the lowest one counts.
    """
    if named.rule.mode != "enforce" or default.rule.mode != "enforce":
        return "only policies that both enforce can be compared"
    assert named.bundle is not None
    assert default.bundle is not None
    if named.bundle.manifest.model != default.bundle.manifest.model:
        return "their bundles are for different models"
    if named.bundle.digest == default.bundle.digest:
        return _less(named, default)
    return _refuses_less(named, default, named.bundle.manifest, default.bundle.manifest)


def _less(named: Policy, default: Policy) -> str | None:
    """What of the same bundle's terms is less; a request with several media has the least limit."""
    if named.rule.lowest < default.rule.lowest:
        return f"its strength may be {named.rule.lowest:g}, below {default.rule.lowest:g}"
    if not _covers(named.window, default.window):
        return "its window steers other tokens"
    for media in _KINDS:
        if _bound(named.dose_limit(media)) < _bound(default.dose_limit(media)):
            return f"its dose limit for {media[0] if media else 'text'} is smaller"
    return None


def _covers(window: Window | None, other: Window | None) -> bool:
    """Whether every token that ``other`` steers is steered as much; ``hold`` needs a token."""
    assert window is not None
    assert other is not None
    alike = window.hold == other.hold or other.decode_tokens == 0
    return alike and _bound(window.decode_tokens) >= _bound(other.decode_tokens)


def _refuses_less(
    named: Policy, default: Policy, manifest: Manifest, other: Manifest
) -> str | None:
    for policy in (named, default):
        if _differs_from_its_trial(policy):
            return "a window, dose limit or cap of its own makes it another than was measured"
    if not set(manifest.media) >= set(other.media):
        return "its bundle is not re-centred for as many media"
    assert named.bundle is not None
    assert default.bundle is not None
    if later := _opens_later(named.bundle.gate, default.bundle.gate):
        return later
    found, at_least = (
        manifest.measured_at(named.rule.lowest),
        other.measured_at(default.rule.lowest),
    )
    for share, policy, whose in ((found, named, manifest), (at_least, default, other)):
        if share is None:
            return (
                f"bundle {whose.name!r} was not measured at strength {policy.rule.lowest:g} "
                "(`refusal-steering measure` does it)"
            )
    assert found is not None
    assert at_least is not None
    if found.terms != at_least.terms:
        return "their bundles were measured with different requests or detectors"
    if found.refused < at_least.refused:
        return f"it has refused {found.share:.1%} of harmful requests, below {at_least.share:.1%}"
    return None


def _opens_later(gate: PromptGate | None, other: PromptGate | None) -> str | None:
    """Why a gate may stay shut for media where a trial in text would not show it."""
    if gate is None:
        return None
    same = other is not None and other.digest == gate.digest
    for count in range(1, len(MEDIA) + 1):
        for media in combinations(MEDIA, count):
            mine, name = gate.threshold_of(media), media_set(media)
            if same and other is not None and mine > other.threshold_of(media):
                return f"its gate opens later for {name}"
            if not same and mine > gate.threshold_of(()):
                return f"its gate opens later for {name} than for text, where it was measured"
    return None


def _differs_from_its_trial(policy: Policy) -> bool:
    """Whether the policy file changes what the trial of the bundle had."""
    assert policy.bundle is not None
    own = policy.bundle.manifest.dose_limit
    return policy.window != policy.bundle.manifest.window or any(
        policy.dose_limit(media) != own for media in _KINDS
    )


def _bound(limit: float | None) -> float:
    return math.inf if limit is None else limit
