"""What each alert must do: for every alert a case that fires and one that is quiet."""

from __future__ import annotations

from dataclasses import dataclass

from refusal_steering.detection.detector import MINILM
from tests.deploy.alert_series import (
    FAILURES,
    MODEL,
    OVERHEAD,
    STEADY,
    buckets,
    denied,
    gauge,
    http,
    judged,
    requests,
    response,
    risks,
    rows,
    then,
)


@dataclass(frozen=True, slots=True)
class Case:
    """``fires`` are all alerts that fire at ``at``; ``about`` is the one that the case is about."""

    about: str
    says: str
    series: dict[str, str]
    at: str
    fires: tuple[str, ...] = ()
    step: str = "1m"


CASES = (
    Case(
        "SteeringFailedOpen",
        "one unproven answer is enough, at once",
        {gauge("steering_fail_open_total"): "0x5 1x5"},
        "7m",
        ("SteeringFailedOpen",),
    ),
    Case("SteeringFailedOpen", "zero", {gauge("steering_fail_open_total"): "0x10"}, "7m"),
    Case(
        "SteeringCanaryFailed",
        "one replica of two",
        {gauge("steering_canary_passed"): "1x10", gauge("steering_canary_passed", "b"): "0x10"},
        "15m",
        ("SteeringCanaryFailed",),
    ),
    Case(
        "SteeringCanaryFailed",
        "a short 0 at start",
        {gauge("steering_canary_passed"): "0 1x9"},
        "15m",
    ),
    Case(
        "SteeringDoesNothing",
        "enforced answers, the row counter stands still",
        {requests("enforce"): "0+2x60", rows("enforce"): "7x60"},
        "50m",
        ("SteeringDoesNothing",),
    ),
    Case(
        "SteeringDoesNothing",
        "enforced answers, there never was a row",
        {requests("enforce"): "0+2x60", rows("shadow"): "0+4x60"},
        "50m",
        ("SteeringDoesNothing",),
    ),
    Case("SteeringDoesNothing", "rows are steered", STEADY, "50m"),
    Case("SteeringDoesNothing", "shadow adds no rows", {requests("shadow"): "0+10x60"}, "50m"),
    Case(
        "SteeringDoesNothing",
        "risks so low that nothing is blended",
        {requests("enforce").replace("omnisteer", "ras"): "0+10x60"},
        "50m",
    ),
    Case(
        "SteeringBypassed",
        "all traffic has gone over to a policy that is off",
        {
            requests("enforce"): "0+10x60 600x60",
            rows("enforce"): "0+40x60 2400x60",
            requests("off", "off"): "0x60 0+10x60",
        },
        "110m",
        ("SteeringBypassed",),
    ),
    Case(
        "SteeringBypassed",
        "some traffic is not steered",
        {**STEADY, requests("off", "off"): "0+10x60"},
        "50m",
    ),
    Case("SteeringBypassed", "nobody ever enforced", {requests("shadow"): "0+10x60"}, "50m"),
    Case(
        "SteeringFailures",
        "one failure in ten requests",
        {**STEADY, FAILURES: "0x10 0+1x40"},
        "30m",
        ("SteeringFailures",),
    ),
    Case(
        "SteeringFailures",
        "the series is born with its failures",
        {**STEADY, FAILURES: "_x20 5x20"},
        "24m",
        ("SteeringFailures",),
    ),
    Case("SteeringFailures", "one failure", {**STEADY, FAILURES: "0x20 1x20"}, "24m"),
    Case(
        "SteeringTargetDown",
        "no scrape",
        {'up{job="refusal-server", instance="a"}': "1x5 0x10"},
        "10m",
        ("SteeringTargetDown",),
    ),
    Case(
        "SteeringTargetDown",
        "another job is down",
        {'up{job="refusal-server"}': "1x15", 'up{job="other"}': "0x15"},
        "10m",
    ),
    Case(
        "SteeringAbsent",
        "the job is gone",
        {'up{job="refusal-server"}': "1x5 _x20", 'up{job="other"}': "1x25"},
        "20m",
        ("SteeringAbsent",),
    ),
    Case(
        "SteeringAbsent",
        "one of two replicas is gone",
        {
            'up{job="refusal-server", instance="a"}': "1x5 _x20",
            'up{job="refusal-server", instance="b"}': "1x25",
        },
        "20m",
    ),
    Case(
        "SteeringReloadFailed",
        "a bad file stays",
        {gauge("steering_policy_last_reload_successful"): "1x5 0x15"},
        "15m",
        ("SteeringReloadFailed",),
    ),
    Case(
        "SteeringReloadFailed",
        "corrected within minutes",
        {gauge("steering_policy_last_reload_successful"): "1x5 0x3 1x15"},
        "15m",
    ),
    Case(
        "SteeringReloadFailed",
        "a source that is asked no more",
        {
            gauge("steering_policy_last_reload_successful"): "1x40",
            gauge("steering_policy_source_last_success_timestamp_seconds"): "60x40",
        },
        "30m",
        ("SteeringReloadFailed",),
    ),
    Case(
        "SteeringReloadFailed",
        "a source that is followed",
        {
            gauge("steering_policy_last_reload_successful"): "1x40",
            gauge("steering_policy_source_last_success_timestamp_seconds"): "1+60x40",
        },
        "30m",
    ),
    Case(
        "SteeringReloadFailed",
        "a server without a source",
        {
            gauge("steering_policy_last_reload_successful"): "1x40",
            gauge("steering_policy_source_last_success_timestamp_seconds"): "0x40",
        },
        "30m",
    ),
    Case(
        "SteeringKeysReloadFailed",
        "a bad key file stays",
        {gauge("steering_keys_last_reload_successful"): "1x5 0x15"},
        "15m",
        ("SteeringKeysReloadFailed",),
    ),
    Case(
        "SteeringKeysReloadFailed",
        "corrected within minutes",
        {gauge("steering_keys_last_reload_successful"): "1x5 0x3 1x15"},
        "15m",
    ),
    Case(
        "SteeringBundleMismatch",
        "one name, two contents",
        {
            gauge("steering_bundle_info", "a", bundle="x", strategy="static", digest="1"): "1x20",
            gauge("steering_bundle_info", "b", bundle="x", strategy="static", digest="2"): "1x20",
            gauge("steering_policy_info", "a", version="v"): "1x20",
            gauge("steering_policy_info", "b", version="v"): "1x20",
        },
        "15m",
        ("SteeringBundleMismatch",),
    ),
    Case(
        "SteeringBundleMismatch",
        "a replica lacks the bundle",
        {
            gauge("steering_bundle_info", "a", bundle="x", strategy="static", digest="1"): "1x20",
            gauge("steering_policy_info", "a", version="v"): "1x20",
            gauge("steering_policy_info", "b", version="v"): "1x20",
        },
        "15m",
        ("SteeringBundleMismatch",),
    ),
    Case(
        "SteeringBundleMismatch",
        "two bundles on two replicas alike",
        {
            gauge("steering_bundle_info", replica, bundle=name, strategy="s", digest=name): "1x20"
            for replica in ("a", "b")
            for name in ("x", "y")
        }
        | {gauge("steering_policy_info", replica, version="v"): "1x20" for replica in ("a", "b")},
        "15m",
    ),
    Case(
        "SteeringPolicyMismatch",
        "two versions for long",
        {
            gauge("steering_policy_info", "a", version="v1"): "1x20",
            gauge("steering_policy_info", "b", version="v2"): "1x20",
        },
        "15m",
        ("SteeringPolicyMismatch",),
    ),
    Case(
        "SteeringPolicyMismatch",
        "a roll-out that ends",
        {
            gauge("steering_policy_info", "a", version="v1"): "1x5 _x15",
            gauge("steering_policy_info", "a", version="v2"): "_x5 1x15",
            gauge("steering_policy_info", "b", version="v2"): "1x20",
        },
        "18m",
    ),
    Case(
        "SteeringRefusalsMoved",
        "steered requests refuse three times as often, unsteered ones do not",
        {
            **judged(then(20, 60), then(80, 40)),
            **judged(then(5, 5), then(95, 95), steered=False),
        },
        "172h",
        ("SteeringRefusalsMoved",),
        "15m",
    ),
    Case(
        "SteeringRefusalsMoved",
        "harmful requests come in waves: both refuse more",
        {
            **judged(then(20, 60), then(80, 40)),
            **judged(then(5, 45), then(95, 55), steered=False),
        },
        "172h",
        step="15m",
    ),
    Case(
        "SteeringSplitMoved",
        "twice the refusals of the control",
        {
            **judged("0+4x90", "0+6x90", arm="treatment"),
            **judged("0+2x90", "0+8x90", arm="control"),
        },
        "80m",
        ("SteeringSplitMoved",),
    ),
    Case(
        "SteeringSplitMoved",
        "as often as the control",
        {
            **judged("0+2x90", "0+8x90", arm="treatment"),
            **judged("0+20x90", "0+80x90", arm="control"),
        },
        "80m",
    ),
    Case(
        "SteeringSplitMoved",
        "six treatment answers say nothing",
        {
            **judged("0x60 3x30", "0x60 3x30", arm="treatment"),
            **judged("0+2x90", "0+8x90", arm="control"),
        },
        "80m",
    ),
    Case(
        "SteeringRiskDrift",
        "high risks rise from a fifth to a half",
        risks(5, 10),
        "175h",
        ("SteeringRiskDrift",),
        "15m",
    ),
    Case(
        "SteeringRiskDrift",
        "three times the traffic, same shape",
        risks(24, 30),
        "175h",
        step="15m",
    ),
    Case(
        "SteeringDetectorsDisagree",
        "minilm sees refusals that the lists do not know",
        {**judged("0+1x120", "0+9x120"), **judged("0+2x120", "0+2x120", by=MINILM)},
        "110m",
        ("SteeringDetectorsDisagree",),
    ),
    Case(
        "SteeringDetectorsDisagree",
        "the sample is smaller, the rate the same",
        {**judged("0+10x120", "0+90x120"), **judged("0+1x120", "0+9x120", by=MINILM)},
        "110m",
    ),
    Case(
        "SteeringTextBroken",
        "a tenth of the steered answers repeats itself",
        {**judged("0+1x120", "0+8x120"), response("broken"): "0+1x120"},
        "110m",
        ("SteeringTextBroken",),
    ),
    Case(
        "SteeringTextBroken",
        "one answer in a hundred does",
        {**judged("0+9x120", "0+90x120"), response("broken"): "0+1x120"},
        "110m",
    ),
    Case(
        "SteeringTextBroken",
        "only unsteered answers do",
        {
            **judged("0+1x120", "0+9x120"),
            **judged("0+1x120", "0+8x120", steered=False),
            response("broken", steered=False): "0+1x120",
        },
        "110m",
    ),
    Case(
        "SteeringDeniedBurst",
        "fifty in ten minutes",
        {denied("policy"): "0+5x30"},
        "20m",
        ("SteeringDeniedBurst",),
    ),
    Case("SteeringDeniedBurst", "now and then", {denied("policy"): "0+1x30"}, "20m"),
    Case(
        "SteeringBudgetsUsedUp",
        "a client that retries at once is no prober",
        {denied("budget"): "0+5x60", denied("concurrency"): "0+1x60"},
        "50m",
        ("SteeringBudgetsUsedUp",),
    ),
    Case(
        "SteeringBudgetsUsedUp",
        "a budget that is used up now and then",
        {denied("budget"): "0+1x60"},
        "50m",
    ),
    Case(
        "SteeringServerErrors",
        "a tenth of the answers",
        {http("200"): "0+36x30", http("503"): "0+4x30"},
        "20m",
        ("SteeringServerErrors",),
    ),
    Case(
        "SteeringServerErrors",
        "callers' own mistakes, and an error in a hundred",
        {http("200"): "0+99x30", http("400"): "0+50x30", http("500"): "0+1x30"},
        "20m",
    ),
    Case(
        "SteeringTargetDown",
        "under a job of another name, known by the metrics that it gave",
        {
            'up{job="chat", instance="a"}': "1x60 0x30",
            'steering_canary_passed{model_name="m", job="chat", instance="a"}': "1x60 _x30",
            'up{job="other", instance="b"}': "0x90",
            'up{job="refusal-server", instance="c"}': "1x90",
        },
        "80m",
        ("SteeringTargetDown",),
    ),
    Case(
        "SteeringAbsent",
        "a server under a job of another name",
        {
            'up{job="chat", instance="a"}': "1x60",
            'steering_canary_passed{model_name="m", job="chat", instance="a"}': "1x60",
        },
        "50m",
    ),
    Case(
        "SteeringAuditDropped",
        "a line is lost",
        {gauge("steering_audit_dropped_total"): "0x10 1x10"},
        "15m",
        ("SteeringAuditDropped",),
    ),
    Case(
        "SteeringAuditDropped",
        "what was lost long ago",
        {gauge("steering_audit_dropped_total"): "3x30"},
        "25m",
    ),
    Case(
        "SteeringOverheadHigh",
        "a tenth takes longer than 100 ms",
        buckets(
            "steering_overhead_seconds", OVERHEAD, le_0_1="0+9x40", le_1_0="0+10x40", inf="0+10x40"
        ),
        "30m",
        ("SteeringOverheadHigh",),
    ),
    Case(
        "SteeringOverheadHigh",
        "all are faster",
        buckets("steering_overhead_seconds", OVERHEAD, le_0_01="0+10x40", inf="0+10x40"),
        "30m",
    ),
    Case(
        "SteeringFirstTokenSlow",
        "a tenth waits for more than five seconds",
        buckets(
            "vllm:time_to_first_token_seconds",
            MODEL,
            le_2_5="0+9x40",
            le_5="0+9x40",
            le_10="0+10x40",
            inf="0+10x40",
        ),
        "30m",
        ("SteeringFirstTokenSlow",),
    ),
    Case(
        "SteeringFirstTokenSlow",
        "all come within half a second",
        buckets("vllm:time_to_first_token_seconds", MODEL, le_0_5="0+10x40", inf="0+10x40"),
        "30m",
    ),
)
