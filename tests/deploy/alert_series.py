"""The time series that alerts look at, by name and in promtool's notation for values.

``a+bxn`` is ``a`` and ``n`` steps of ``b``, ``_`` no sample.
"""

from __future__ import annotations

from refusal_steering.detection.detector import LEXICAL

MODEL = 'model_name="m"'
REQUEST = f'{MODEL}, policy="p", strategy="omnisteer"'
OVERHEAD = f'{MODEL}, strategy="omnisteer", mode="enforce", modality="text"'
WEEK = 7 * 24 * 4  # steps of a quarter of an hour


def response(outcome: str, *, steered: bool = True, arm: str = "none", by: str = LEXICAL) -> str:
    mode = "enforce" if steered else "shadow"
    return (
        f'steering_responses_total{{{REQUEST}, mode="{mode}", modality="text", arm="{arm}", '
        f'steered="{str(steered).lower()}", outcome="{outcome}", detector="{by}"}}'
    )


def requests(mode: str, policy: str = "p") -> str:
    return (
        f'steering_requests_total{{{MODEL}, policy="{policy}", strategy="omnisteer", '
        f'mode="{mode}", modality="text", arm="none", outcome="answer"}}'
    )


def rows(mode: str) -> str:
    return f'steering_rows_verified_total{{{REQUEST}, mode="{mode}"}}'


def gauge(name: str, instance: str = "a", **labels: str) -> str:
    more = "".join(f', {key}="{value}"' for key, value in labels.items())
    return f'{name}{{{MODEL}, instance="{instance}"{more}}}'


def denied(reason: str, tenant: str = "acme") -> str:
    return gauge("steering_denied_total", reason=reason, tenant=tenant)


def http(status: str) -> str:
    route = "/v1/chat/completions"
    return gauge("steering_http_requests_total", route=route, method="POST", status=status)


def buckets(name: str, labels: str, **values: str) -> dict[str, str]:
    """Cumulative buckets; ``le_0_5`` is ``le="0.5"``, and ``inf`` is the count too."""
    found = {}
    for key, value in values.items():
        bound = "+Inf" if key == "inf" else key.removeprefix("le_").replace("_", ".")
        found[f'{name}_bucket{{{labels}, le="{bound}"}}'] = value
    found[f"{name}_count{{{labels}}}"] = values["inf"]
    return found


FAILURES = f'steering_failures_total{{{REQUEST}, mode="enforce"}}'
STEADY = {requests("enforce"): "0+10x60", rows("enforce"): "0+40x60"}


def judged(refusals: str, answers: str, **who: object) -> dict[str, str]:
    return {
        response("refusal", **who): refusals,  # type: ignore[arg-type]
        response("answer", **who): answers,  # type: ignore[arg-type]
    }


def then(before: int, after: int, steps: int = 24) -> str:
    """A week of ``before`` a step, then ``after`` a step."""
    return f"0+{before}x{WEEK} {before * WEEK + after}+{after}x{steps}"


def risks(low_after: int, all_after: int) -> dict[str, str]:
    labels = f'{REQUEST}, mode="enforce", modality="text", arm="none"'
    return buckets(
        "steering_risk", labels, le_0_5=then(8, low_after, 32), inf=then(10, all_after, 32)
    )
