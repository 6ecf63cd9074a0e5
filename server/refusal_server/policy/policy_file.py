"""The policy file as operators write it: its fields, their bounds, and its JSON schema."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from refusal_steering.bundle import Medium, Window
from refusal_steering.terms import MAX_STRENGTH

Mode = Literal["off", "shadow", "enforce"]
ReportTo = Literal["everyone", "keys", "nobody"]
Strength = Annotated[FiniteFloat, Field(ge=0.0, le=MAX_STRENGTH, strict=True)]
Dose = Annotated[FiniteFloat, Field(gt=0.0, strict=True)]
Share = Annotated[FiniteFloat, Field(ge=0.0, le=1.0, strict=True)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TrafficSplit(_Frozen):
    """A share of the requests that name no policy gets ``policy`` in place of their default.

    A hash decides which: of ``salt`` and of what ``by`` names, the request's id, the caller's
    ``safety_identifier`` or ``user`` (the id where a request has neither), or the API key's name
    (no split for callers without one). A larger share keeps every request that a smaller one had.
    ``weaker`` says that ``policy`` may be weaker than what it stands in for, or was not compared.
    """

    policy: Name
    share: Share
    by: Literal["request", "user", "key"] = "request"
    salt: str = Field(default="", max_length=128)
    weaker: bool = Field(default=False, strict=True)


class PolicyRule(_Frozen):
    """One policy as the file states it.

    ``strength`` is for requests that ask for none; callers may ask for ``floor`` to ``ceiling``.
    Without a ``floor`` nobody can go below ``strength``. ``window`` overrides the
    bundle's. ``dose_limit`` bounds what steering adds to a token, as a share of the residual
    stream's length; ``caps`` does the same for requests that bring an image, audio or video. The
    smallest of the bundle's limit, ``dose_limit`` and the caps of all media of a request holds.
    ``selectable`` lets callers name it, whatever their default. ``models`` are
    the served names that it is for; without the field it is for all. ``report_to`` says who is
    told risks and coefficients: every caller, those whose key has the right, or nobody.
    ``system_prompts`` says whether a gate reads what stands before the first user turn, if the
    caller has put anything there; ``trusted`` is for callers whose system prompts are the
    operator's own.
    """

    mode: Mode
    bundle: str | None = None
    strength: Strength = 1.0
    floor: Strength | None = None
    ceiling: Strength = 2.0
    window: Window | None = None
    dose_limit: Dose | None = None
    caps: dict[Medium, Dose] = Field(default_factory=dict)
    selectable: bool = False
    models: tuple[str, ...] | None = Field(default=None, min_length=1)
    split: TrafficSplit | None = None
    report_to: ReportTo = "everyone"
    system_prompts: Literal["read", "trusted"] = "read"
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
        if self.mode == "off" and (self.dose_limit is not None or self.caps):
            raise ValueError("mode 'off' steers nothing: remove dose_limit and caps")
        if not self.lowest <= self.strength <= self.ceiling:
            raise ValueError(
                f"strength {self.strength:g} must lie between floor {self.lowest:g} and ceiling "
                f"{self.ceiling:g}"
            )
        return self


class PolicyFile(_Frozen):
    """The whole file: ``default`` is for everybody whose key or tenant names no other policy."""

    schema_url: str | None = Field(default=None, alias="$schema", exclude=True)
    version: Literal[1] = 1
    default: Name
    tenants: dict[Name, Name] = Field(default_factory=dict)
    policies: dict[Name, PolicyRule] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        self._require("default", self.default)
        for tenant, policy in self.tenants.items():
            self._require(f"tenants.{tenant}", policy)
        for name, rule in self.policies.items():
            if rule.split is None:
                continue
            where, other = f"policies.{name}.split", rule.split.policy
            self._require(where, other)
            if other == name or self.policies[other].split is not None:
                raise ValueError(f"{where}: {other!r} is {name!r} itself or has a split too")
        return self

    def _require(self, where: str, policy: str) -> None:
        if policy not in self.policies:
            raise ValueError(f"{where} {policy!r} is not one of {sorted(self.policies)}")


KNOWN_KEYS = (
    *(field.alias or name for name, field in PolicyFile.model_fields.items()),
    *PolicyRule.model_fields,
    *TrafficSplit.model_fields,
    *Window.model_fields,
)


def policy_schema() -> dict[str, Any]:
    """The JSON schema of a policy file, for editors and pipelines."""
    return {"$schema": _DIALECT, **PolicyFile.model_json_schema()}
