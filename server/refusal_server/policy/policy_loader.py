"""Loads a policy file and its bundles, and reports everything that is wrong with them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from refusal_server.errors import ApiError
from refusal_server.files.yaml_file import FileError, Problem, parse_model, read_text
from refusal_server.files.yaml_place import Place, YamlPlaces
from refusal_server.policy.policy import Policy
from refusal_server.policy.policy_file import KNOWN_KEYS, PolicyFile, TrafficSplit
from refusal_server.policy.policy_order import shortfall
from refusal_server.policy.policy_set import PolicySet
from refusal_steering.bundle import SteeringBundle, load_bundle
from refusal_steering.errors import SteeringError

BundleCheck = Callable[[SteeringBundle], None]
"""Raises a ``SteeringError`` for a bundle that the served model cannot use."""

_Mistake = tuple[Place, str]


def any_model(_: SteeringBundle) -> None:
    """The check for callers that know no model: every bundle passes."""


def load_policy_set(path: Path, fits: BundleCheck = any_model) -> PolicySet:
    """Read the file at ``path`` and its bundles; raises :class:`FileError` with all problems."""
    return parse_policy_set(read_text(path), path, fits)


def parse_policy_set(
    text: str, path: Path, fits: BundleCheck = any_model, source: str | None = None
) -> PolicySet:
    """What ``text`` would be as the policy file at ``path``; raises as :func:`load_policy_set`.

    Errors call it ``source``.
    """
    source = source or f"the policy file {path}"
    file = parse_model(text, PolicyFile, source, KNOWN_KEYS)
    bundles, mistakes = _bundles(file, path.parent, fits)
    policies = {
        name: Policy(name, rule, bundles.get(rule.bundle) if rule.bundle else None)
        for name, rule in file.policies.items()
        if rule.bundle is None or rule.bundle in bundles
    }
    mistakes += _contradictions(policies)
    if mistakes:
        places = YamlPlaces(text)
        found = [Problem(message, places.line(place)) for place, message in mistakes]
        raise FileError.of(source, found)
    return PolicySet(
        _version(file, bundles),
        file.default,
        MappingProxyType(policies),
        MappingProxyType(file.tenants),
        text,
    )


def not_a_policy(error: FileError) -> ApiError:
    """The 400 for a text that is no policy, with as many of its problems as a message holds."""
    problems = "; ".join(str(problem) for problem in error.problems)
    return ApiError(400, f"The policy is invalid: {problems}", code="invalid_policy")


def _bundles(
    file: PolicyFile, folder: Path, fits: BundleCheck
) -> tuple[dict[str, SteeringBundle], list[_Mistake]]:
    """The usable bundles by the names that the file gives them, and what is wrong with others."""
    bundles: dict[str, SteeringBundle] = {}
    mistakes: dict[str, _Mistake] = {}
    for policy, rule in file.policies.items():
        name = rule.bundle
        if name is None or name in bundles or name in mistakes:
            continue
        try:
            bundles[name] = _servable((folder / name).resolve(), fits)
        except SteeringError as error:
            mistakes[name] = _at("policies", policy, "bundle", message=str(error))
    return bundles, list(mistakes.values())


def _servable(path: Path, fits: BundleCheck) -> SteeringBundle:
    bundle = load_bundle(path)
    bundle.require_canary()
    fits(bundle)
    return bundle


def _contradictions(policies: Mapping[str, Policy]) -> Iterator[_Mistake]:
    for policy in policies.values():
        yield from _meaningless_fields(policy)
        split = policy.rule.split
        if split is not None and split.policy in policies:
            yield from _unsafe_split(policy, split, policies[split.policy])


def _meaningless_fields(policy: Policy) -> Iterator[_Mistake]:
    """A blend has the window of its prototypes, and adds nothing that a dose limit could bound."""
    rule = policy.rule
    given = {"window": rule.window, "dose_limit": rule.dose_limit, "caps": rule.caps or None}
    for field, value in given.items():
        if policy.blends and value is not None:
            message = (
                f"it has no meaning for strategy {policy.strategy!r}, which blends logits; remove "
                "it"
            )
            yield _at("policies", policy.name, field, message=message)


def _unsafe_split(control: Policy, split: TrafficSplit, other: Policy) -> Iterator[_Mistake]:
    place = ("policies", control.name, "split")
    if other.rule.models != control.rule.models:
        message = f"{other.name!r} is for other models than {control.name!r}"
        yield _at(*place, message=message)
    less = _falls_short(other, control)
    if less is None:
        return
    if not split.weaker:
        message = (
            f"{other.name!r} may be weaker than {control.name!r}: {less}; write `weaker: true` to "
            "split into it all the same"
        )
        yield _at(*place, message=message)
    # Callers choose their ids, and so their arm.
    elif split.by != "key" and not other.rule.selectable:
        message = (
            f"{other.name!r} may be weaker than {control.name!r}, and callers could reach it by "
            "trying ids; split `by: key`, or make it selectable"
        )
        yield _at(*place, message=message)


def _falls_short(other: Policy, control: Policy) -> str | None:
    """As :func:`shortfall`; where the control steers nothing, steering takes nothing away."""
    if control.rule.mode != "enforce" and other.rule.mode != "off":
        return None
    return shortfall(other, control)


def _at(*place: str, message: str) -> _Mistake:
    return place, f"{'.'.join(place)}: {message}"


def _version(file: PolicyFile, bundles: Mapping[str, SteeringBundle]) -> str:
    content = {
        "file": file.model_dump(mode="json"),
        "bundles": {name: bundle.digest for name, bundle in bundles.items()},
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
