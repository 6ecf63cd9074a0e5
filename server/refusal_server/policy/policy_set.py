"""Which policies there are, what they do, and what callers may choose."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from pydantic import ValidationError

from refusal_server.caller import ANYONE, Caller, Origin
from refusal_server.files.yaml_file import (
    FileError,
    parse_mapping,
    problems,
    read_text,
)
from refusal_server.policy.policy_file import (
    KNOWN_KEYS,
    PolicyFile,
    PolicyRule,
    TrafficSplit,
)
from refusal_steering.bundle import SteeringBundle, Window, load_bundle
from refusal_steering.errors import BundleError
from refusal_steering.terms import MEDIA

Arm = Literal["treatment", "control"]


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Policy:
    """One policy with its bundle in memory (``None`` in mode ``off``).

    Requests hold the one that they chose, and so tell the store that its bundle is needed.
    """

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

        A smaller dose limit is weaker, for text or for any medium. Mixed requests take the
        smallest of their limits, so that the order of the single ones is theirs too.
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

    def default_for(self, caller: Caller) -> str:
        """The policy that ``caller`` gets unasked: its key's, its tenant's, or the file's.

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
        """What a request gets whose policy is ``policy`` unasked, and its arm of the split."""
        split = policy.rule.split
        subject = None if split is None else _subject(split, origin)
        if split is None or subject is None:
            return policy, None
        place = "\0".join((split.salt, policy.name, split.policy, subject))
        drawn = int.from_bytes(hashlib.sha256(place.encode()).digest()[:8]) / 2**64
        if drawn < split.share:
            return self.policies[split.policy], "treatment"
        return policy, "control"


def load_policy_set(path: Path) -> PolicySet:
    """Read the file and its bundles; raises :class:`FileError` or ``BundleError``."""
    return parse_policy_set(read_text(path), path)


def parse_policy_set(text: str, path: Path) -> PolicySet:
    """What ``text`` would be as the policy file at ``path``; raises as :func:`load_policy_set`."""
    file = _validated(text, path)
    bundles = {
        rule.bundle: load_bundle((path.parent / rule.bundle).resolve())
        for rule in file.policies.values()
        if rule.bundle is not None
    }
    policies = {
        name: Policy(name, rule, bundles.get(rule.bundle) if rule.bundle else None)
        for name, rule in file.policies.items()
    }
    for problem in _contradictions(policies):
        raise _invalid(path, problem)
    return PolicySet(
        _version(file, bundles),
        file.default,
        MappingProxyType(policies),
        MappingProxyType(file.tenants),
        text,
    )


def policy_problems(path: Path) -> list[str]:
    """Everything that is wrong with the file and its bundles, a line each; empty when nothing."""
    try:
        file = PolicyFile.model_validate(parse_mapping(read_text(path), str(path)))
    except FileError as error:
        return [str(error)]
    except ValidationError as error:
        return problems(error, KNOWN_KEYS)
    policies, found = {}, []
    for name, rule in file.policies.items():
        try:
            bundle = load_bundle((path.parent / rule.bundle).resolve()) if rule.bundle else None
        except BundleError as error:
            found.append(f"policies.{name}.bundle: {error}")
        else:
            policies[name] = Policy(name, rule, bundle)
    return [*found, *_contradictions(policies)]


def _validated(text: str, path: Path) -> PolicyFile:
    try:
        return PolicyFile.model_validate(parse_mapping(text, str(path)))
    except ValidationError as error:
        raise _invalid(path, problems(error, KNOWN_KEYS)[0]) from error


def _invalid(path: Path, problem: str) -> FileError:
    return FileError(f"the policy file {path} is invalid: {problem}")


def _contradictions(policies: Mapping[str, Policy]) -> Iterator[str]:
    for policy in policies.values():
        yield from _meaningless_fields(policy)
        split = policy.rule.split
        if split is not None and split.policy in policies:
            yield from _unsafe_split(policy, split, policies[split.policy])


def _meaningless_fields(policy: Policy) -> Iterator[str]:
    """A blend has its prototypes' window, and adds nothing that a dose could measure."""
    rule = policy.rule
    given = {"window": rule.window, "dose_limit": rule.dose_limit, "caps": rule.caps or None}
    for field, value in given.items():
        if policy.blends and value is not None:
            yield (
                f"policies.{policy.name}.{field} has no meaning for strategy "
                f"{policy.strategy!r}, which blends logits; remove it"
            )


def _unsafe_split(control: Policy, split: TrafficSplit, other: Policy) -> Iterator[str]:
    where = f"policies.{control.name}.split"
    if other.rule.models != control.rule.models:
        yield f"{where}: {other.name!r} is for other models than {control.name!r}"
    # Callers choose their ids, and so their arm.
    may_be_named = other.rule.selectable or other.at_least_as_strong_as(control)
    if split.by != "key" and not may_be_named:
        yield (
            f"{where}: {other.name!r} is weaker than {control.name!r}, and callers could reach it "
            "by trying ids; split `by: key`, or make it selectable"
        )


def _subject(split: TrafficSplit, origin: Origin) -> str | None:
    if split.by == "key":
        return origin.caller.name
    if split.by == "user" and origin.user:
        return origin.user
    return origin.request_id


def _bound(limit: float | None) -> float:
    return math.inf if limit is None else limit


def _version(file: PolicyFile, bundles: Mapping[str, SteeringBundle]) -> str:
    content = {
        "file": file.model_dump(mode="json"),
        "bundles": {name: bundle.digest for name, bundle in bundles.items()},
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
