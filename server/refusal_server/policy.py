"""The policy file: which policies there are, what they do, and what callers may choose."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from refusal_server.yaml_file import FileError, first_problem, read_mapping
from refusal_steering.bundle import SteeringBundle, Window, load_bundle
from refusal_steering.directive import MAX_GAIN

Mode = Literal["off", "shadow", "enforce"]
Gain = Annotated[FiniteFloat, Field(ge=0.0, le=MAX_GAIN, strict=True)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PolicyRule(_Frozen):
    """One policy as the file states it.

    ``strength`` is what a request gets that asks for none; callers may ask for ``floor`` to
    ``ceiling``. Without a ``floor`` nobody can go below ``strength``. ``window`` overrides the
    bundle's. ``selectable`` lets callers name a policy that is weaker than the default.
    """

    mode: Mode
    bundle: str | None = None
    strength: Gain = 1.0
    floor: Gain | None = None
    ceiling: Gain = 2.0
    window: Window | None = None
    selectable: bool = False
    description: str = ""

    @property
    def lowest(self) -> float:
        """The smallest strength that a caller may ask for."""
        return self.strength if self.floor is None else self.floor

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if (self.mode == "off") != (self.bundle is None):
            needs = "no bundle" if self.mode == "off" else "a bundle"
            raise ValueError(f"mode {self.mode!r} needs {needs}")
        if not self.lowest <= self.strength <= self.ceiling:
            raise ValueError(
                f"strength {self.strength:g} must lie between floor {self.lowest:g} and ceiling "
                f"{self.ceiling:g}"
            )
        return self


class PolicyFile(_Frozen):
    """The whole file."""

    default: Name
    policies: dict[Name, PolicyRule] = Field(min_length=1)

    @model_validator(mode="after")
    def _default_exists(self) -> Self:
        if self.default not in self.policies:
            raise ValueError(f"default {self.default!r} is not one of {sorted(self.policies)}")
        return self


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

    def at_least_as_strong_as(self, other: Policy) -> bool:
        """Whether a caller who may use ``other`` loses no protection by choosing this one."""
        if other.rule.mode != "enforce":
            return self.rule.mode != "off" or other.rule.mode == "off"
        return self.rule.mode == "enforce" and self.rule.lowest >= other.rule.lowest


@dataclass(frozen=True, slots=True)
class PolicySet:
    """An immutable snapshot of the policy file; ``version`` digests its text and its bundles."""

    version: str
    default: str
    policies: Mapping[str, Policy]

    @property
    def bundles(self) -> tuple[SteeringBundle, ...]:
        """Every bundle that some policy uses, once."""
        found = {p.bundle.digest: p.bundle for p in self.policies.values() if p.bundle}
        return tuple(found.values())

    def allows(self, policy: Policy) -> bool:
        """Whether a caller may name ``policy``."""
        default = self.policies[self.default]
        return (
            policy.name == self.default
            or policy.rule.selectable
            or policy.at_least_as_strong_as(default)
        )


def load_policy_set(path: Path) -> PolicySet:
    """Read the file and its bundles; raises :class:`FileError` or ``BundleError``."""
    try:
        file = PolicyFile.model_validate(read_mapping(path))
    except ValidationError as error:
        known = (*PolicyFile.model_fields, *PolicyRule.model_fields, *Window.model_fields)
        raise FileError(f"the policy file {path} is invalid: {first_problem(error, known)}") from (
            error
        )
    bundles = {
        rule.bundle: load_bundle((path.parent / rule.bundle).resolve())
        for rule in file.policies.values()
        if rule.bundle is not None
    }
    policies = {
        name: Policy(name, rule, bundles.get(rule.bundle) if rule.bundle else None)
        for name, rule in file.policies.items()
    }
    return PolicySet(_version(file, bundles), file.default, MappingProxyType(policies))


def _version(file: PolicyFile, bundles: Mapping[str, SteeringBundle]) -> str:
    content = {
        "file": file.model_dump(mode="json"),
        "bundles": {name: bundle.digest for name, bundle in bundles.items()},
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
