"""Panels on what the model says: requests, refusals, and the two sides of a traffic split."""

from __future__ import annotations

from deploy.grafana.panels import Panel, Query
from deploy.grafana.queries import EVERY, HOUR, JUDGED, LIVE, MODEL, POLICY, increase, refusals
from refusal_steering.detection.detector import LEXICAL, MINILM

GLANCE = (
    Panel(
        "Requests",
        "Chat requests a second that reached a policy, whatever became of them.",
        (Query(f"sum(rate(steering_requests_total{{{POLICY}}}{EVERY}))"),),
        "stat",
        "reqps",
        3,
    ),
    Panel(
        "Steered share",
        "Share of the last hour's answers that earned a coefficient under a policy that enforces. "
        "Adaptive strategies leave harmless requests alone.",
        (
            Query(
                f'(sum(increase(steering_responses_total{{{JUDGED}, steered="true"}}{HOUR})) '
                f"or vector(0)) / (sum(increase(steering_responses_total{{{JUDGED}}}{HOUR})) > 0)"
            ),
        ),
        "stat",
        "percentunit",
        3,
    ),
    Panel(
        "Refusals, enforced",
        "Share of refusals among the last hour's answers under mode enforce, by detector "
        f"{LEXICAL}, uncorrected.",
        (Query(refusals(f'{JUDGED}, mode="enforce"', "detector")),),
        "stat",
        "percentunit",
        3,
    ),
    Panel(
        "Refusals, baseline",
        "The same for answers that are never steered: modes off and shadow. What the model refuses "
        "by itself.",
        (Query(refusals(f'{JUDGED}, mode=~"off|shadow"', "detector")),),
        "stat",
        "percentunit",
        3,
    ),
    Panel(
        "Sent without proof",
        "Answers of steered requests that went out without proof, since the servers started. Must "
        "be 0.",
        (Query(f"sum(steering_fail_open_total{{{LIVE}}})"),),
        "stat",
        width=3,
        alarm="above_zero",
    ),
    Panel(
        "Failed for lack of proof",
        "Requests in the chosen time that ended with an error because their steering had no proof.",
        increase("steering_failures_total", POLICY),
        "stat",
        width=3,
        alarm="above_zero",
    ),
    Panel(
        "Canaries passed",
        "1 when the canary of every bundle in force has passed on every replica.",
        (Query(f"min(steering_canary_passed{{{LIVE}}})"),),
        "stat",
        width=3,
        alarm="below_one",
    ),
    Panel(
        "Policy loaded",
        "1 when every replica has taken the policy file as it lies on disk.",
        (Query(f"min(steering_policy_last_reload_successful{{{LIVE}}})"),),
        "stat",
        width=3,
        alarm="below_one",
    ),
)

REFUSALS = (
    Panel(
        "Refusal rate as detected",
        "Share of refusals among judged answers of the last hour by mode: enforce against off and "
        f"shadow. {LEXICAL} sees all answers, {MINILM} a sample.",
        (Query(refusals(POLICY, "mode, detector"), "{{mode}}, {{detector}}"),),
        unit="percentunit",
        most=1.0,
    ),
    Panel(
        "Refusal rate, corrected",
        "The same, corrected for each detector's measured errors: (p + specificity - 1) / "
        "(sensitivity + specificity - 1), Rogan and Gladen 1978. All policies together: the errors "
        "are known for the detector only.",
        (Query(f"model:steering_refusal_corrected:ratio1h{{{MODEL}}}", "{{mode}}, {{detector}}"),),
        unit="percentunit",
        most=1.0,
    ),
    Panel(
        "Steered and unsteered answers",
        "Share of refusals among answers that earned a coefficient under mode enforce (true), and "
        "among all others (false). Risky requests earn one, so that the two are not the same kind "
        "of requests.",
        (Query(refusals(JUDGED, "steered"), "steered: {{steered}}"),),
        unit="percentunit",
        width=8,
        most=1.0,
    ),
    Panel(
        "Refusal rate by modality",
        "Share of refusals among enforced answers of the last hour, by what the request brought.",
        (Query(refusals(f'{JUDGED}, mode="enforce"', "modality"), "{{modality}}"),),
        unit="percentunit",
        width=8,
        most=1.0,
    ),
    Panel(
        "Outcomes",
        "Requests a second by policy and what became of them, by detector "
        f"{LEXICAL}. Broken text repeats itself and is neither refusal nor answer.",
        (
            Query(
                f"sum by (policy, outcome) (rate(steering_requests_total{{{POLICY}}}{EVERY}))",
                "{{policy}}: {{outcome}}",
            ),
        ),
        unit="reqps",
        width=8,
    ),
)

SPLIT = (
    Panel(
        "Refusal rate, treatment against control",
        "Share of refusals among judged answers of the last hour on both sides of a split.",
        (Query(refusals(f'{JUDGED}, arm=~"treatment|control"', "arm"), "{{arm}}"),),
        unit="percentunit",
        most=1.0,
    ),
    Panel(
        "Distance in standard errors",
        "How far the treatment's refusal rate is from its control's. Beyond 4, and 5 points, "
        "an alert fires.",
        (Query(f"abs(policy:steering_arm_shift:zscore1h{{{MODEL}}})", "{{detector}}"),),
        width=6,
    ),
    Panel(
        "Requests by side",
        "Requests a second on both sides of a split.",
        (
            Query(
                "sum by (arm) (rate(steering_requests_total"
                f'{{{POLICY}, arm=~"treatment|control"}}{EVERY}))',
                "{{arm}}",
            ),
        ),
        unit="reqps",
        width=6,
    ),
)
