"""The ``steering`` field of a request, and what it resolves to under the policy in force."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from refusal_server.caller import UNKNOWN, Origin
from refusal_server.chat.risk.assessment import RiskAssessment
from refusal_server.errors import ApiError, bad_request
from refusal_server.files.yaml_file import nearest
from refusal_server.policy.policy import Policy
from refusal_server.policy.policy_set import Arm, PolicySet
from refusal_steering.directive import MAX_TOKEN_RISKS, Directive
from refusal_steering.errors import SteeringUnavailableError
from refusal_steering.spec import SteeringSpec
from refusal_steering.terms import MEDIA

_KEYS = ("policy", "strength", "report", "token_risks")


@dataclass(frozen=True, slots=True)
class SteeringAsk:
    """What the caller wrote; ``None`` where it left the choice to the policy file.

    ``token_risks`` is how many numbers of the risk along the prompt the report may have.
    """

    policy: str | None = None
    strength: float | None = None
    report: bool = False
    token_risks: int = 0


@dataclass(frozen=True, slots=True)
class SteeringChoice:
    """One request's policy, at one version, with its strength.

    ``media`` are those that the request brings, one for each item. ``assessment`` is its risk, for
    strategies that must know it before the answer. ``arm`` is set where a split has drawn the
    policy. ``told`` says whether the caller may read what is measured; ``token_risks`` how many
    numbers along the prompt it has asked for. ``from_start`` is whether the caller has put
    something before the first user turn, which a gate must read too.
    """

    policy: Policy
    version: str
    strength: float
    report: bool
    media: tuple[str, ...] = ()
    assessment: RiskAssessment | None = None
    arm: Arm | None = None
    told: bool = True
    token_risks: int = 0
    from_start: bool = False

    def bringing(self, media: Collection[str], *, from_start: bool = False) -> SteeringChoice:
        """The same choice for a request with ``media``, one for each item.

        ``from_start`` says that words stand before its first turn.
        """
        items = tuple(sorted(media, key=MEDIA.index))
        read = from_start and self.policy.rule.system_prompts == "read"
        return replace(self, media=items, from_start=read)

    def assessed(self, assessment: RiskAssessment) -> SteeringChoice:
        """The same choice for a request whose risk is known."""
        return replace(self, assessment=assessment)

    @property
    def steers(self) -> bool:
        """Whether there is anything to tell the workers: not in mode ``off``."""
        return self.policy.bundle is not None

    @property
    def dose_limit(self) -> float | None:
        """The limit that holds for this request's media."""
        return self.policy.dose_limit(self.media)

    @property
    def awaits_risk(self) -> bool:
        """Whether its strategy needs the request's risk before the answer, and it is not known."""
        bundle = self.policy.bundle
        return bundle is not None and bundle.prototypes is not None and self.assessment is None

    @property
    def blend(self) -> float | None:
        """The share of the refusal prototypes by the request's risk; ``None`` for no blend.

        Raises :class:`SteeringUnavailableError` while the risk is not known.
        """
        bundle = self.policy.bundle
        if bundle is None or bundle.manifest.risk_pass is None:
            return None
        if self.assessment is None:
            raise SteeringUnavailableError("the risk of the request was never assessed")
        return bundle.manifest.risk_pass.share(self.assessment.risk, self.strength)

    @property
    def directive(self) -> Directive | None:
        """What the workers are told; ``None`` in mode ``off``."""
        return self._directive(self.blend)

    @property
    def opening(self) -> Directive | None:
        """What an answer may begin under while its risk is not known; ``None`` where it may not.

        The device sets the share outside the bundle's grey zone. Inside it no token is given out.
        """
        bundle = self.policy.bundle
        if bundle is None:
            return None
        zone, risk_pass = bundle.manifest.grey_zone, bundle.manifest.risk_pass
        if zone is None or risk_pass is None:
            return None
        directive = self._directive(risk_pass.share(risk_pass.cap, self.strength))
        return None if directive is None else replace(directive, grey_zone=(zone.low, zone.high))

    @property
    def probe(self) -> Directive | None:
        """What measures the prompt under this policy's bundle and adds nothing."""
        found = self._directive(0.0 if self.policy.blends else None)
        return None if found is None else replace(found, strength=0.0, shadow=True, token_risks=0)

    def _directive(self, blend: float | None) -> Directive | None:
        bundle, window = self.policy.bundle, self.policy.window
        if bundle is None or window is None:
            return None
        spec = SteeringSpec.of(
            bundle,
            strength=self.strength,
            window=window,
            shadow=self.policy.rule.mode == "shadow",
            media=self.media,
            dose_limit=self.dose_limit,
            blend=blend,
        )
        directive = spec.directive(bundle.digest, self.policy.name, self.version)
        if bundle.gate is None:
            return directive
        risks = self.token_risks if self.told else 0
        return replace(
            directive, token_risks=risks, count_from=0 if self.from_start else directive.count_from
        )


def parse_ask(value: Any, token_risks: int = MAX_TOKEN_RISKS) -> SteeringAsk:
    """Check the field's shape; raises a 400 that names what is wrong.

    ``token_risks`` is the most of them that may be asked for.
    """
    if value is None:
        return SteeringAsk()
    if not isinstance(value, dict):
        raise _invalid("must be an object", "steering")
    for key in value:
        if key not in _KEYS:
            allowed = ", ".join(_KEYS)
            raise _invalid(f"has an unknown key; it takes {allowed}.{nearest(key, _KEYS)}")
    policy = value.get("policy")
    if policy is not None and not isinstance(policy, str):
        raise _invalid("policy must be the name of a policy", "steering.policy")
    report = value.get("report", False)
    if not isinstance(report, bool):
        raise _invalid("report must be true or false", "steering.report")
    risks = _token_risks(value.get("token_risks"), token_risks, report=report)
    return SteeringAsk(policy, _strength(value.get("strength")), report, risks)


def choose(ask: SteeringAsk, policies: PolicySet, origin: Origin = UNKNOWN) -> SteeringChoice:
    """Resolve the ask; nothing is clamped, what is not allowed is refused.

    A split draws among the requests that name neither a policy nor a strength.
    """
    policy = _named(_wanted(ask, policies, origin), policies, ask)
    if not policies.allows(policy, origin.caller):
        raise ApiError(
            403,
            f"The steering policy {policy.name!r} is not open to this caller: it is not known to "
            "be as strong as the caller's default. The operator can make it `selectable`, or list "
            "it in `policies` of the API key.",
            code="policy_not_allowed",
            param="steering.policy",
        )
    arm: Arm | None = None
    if ask.policy is None and ask.strength is None:
        policy, arm = policies.split(policy, origin)
    if policy.rule.models is not None and origin.model not in policy.rule.models:
        raise ApiError(
            403,
            f"The steering policy {policy.name!r} is not for this model.",
            code="policy_not_allowed",
            param="model" if ask.policy is None else "steering.policy",
        )
    strength = _bounded(ask.strength, policy)
    told = policy.tells(origin.caller)
    return SteeringChoice(
        policy,
        policies.version,
        strength,
        ask.report,
        arm=arm,
        told=told,
        token_risks=ask.token_risks,
    )


def _wanted(ask: SteeringAsk, policies: PolicySet, origin: Origin) -> str:
    return policies.default_for(origin.caller) if ask.policy is None else ask.policy


def _named(name: str, policies: PolicySet, ask: SteeringAsk) -> Policy:
    policy = policies.policies.get(name)
    if policy is not None:
        return policy
    if ask.policy is None:
        raise ApiError(
            503,
            f"The API key's policy {name!r} is not in force; the operator must name another.",
            code="policy_unavailable",
        )
    known = ", ".join(sorted(policies.policies))
    raise _invalid(f"policy is unknown; this server has {known}", "steering.policy")


def _strength(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _invalid("strength must be a number", "steering.strength")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or number < 0:
        raise _invalid("strength must be a finite number, 0 or more", "steering.strength")
    return number


def _token_risks(value: Any, most: int, *, report: bool) -> int:
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise _invalid(
            f"token_risks must be an integer from 1 to {most}, how many numbers the report may "
            "tell of the risk along the prompt",
            "steering.token_risks",
        )
    if not report:
        raise _invalid(
            "token_risks is told in the report; set report to true", "steering.token_risks"
        )
    return value


def _bounded(strength: float | None, policy: Policy) -> float:
    if policy.bundle is None:
        if strength is not None:
            raise _invalid(
                f"strength has no meaning: policy {policy.name!r} does not steer",
                "steering.strength",
            )
        return 0.0
    if strength is None:
        return policy.rule.strength
    lowest, highest = policy.rule.lowest, policy.rule.ceiling
    if not lowest <= strength <= highest:
        raise _invalid(
            f"strength is outside {lowest:g} to {highest:g}, the bounds of policy {policy.name!r}",
            "steering.strength",
        )
    return strength


def _invalid(problem: str, param: str = "steering") -> ApiError:
    return bad_request(
        f"steering {problem}".rstrip(".") + ".", code="invalid_steering", param=param
    )
