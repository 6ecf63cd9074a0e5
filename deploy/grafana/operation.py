"""Panels on what the server measures of requests and of itself."""

from __future__ import annotations

from deploy.grafana.panels import Panel, Query
from deploy.grafana.queries import EVERY, LIVE, MODEL, POLICY, quantiles

READINGS = (
    Panel(
        "Risk: $modality",
        "Risk of prompts as measured by the bundle's probe or risk pass; darker is more frequent.",
        (
            Query(
                "sum by (le) (increase(steering_risk_bucket"
                f'{{{POLICY}, modality=~"$modality"}}{EVERY}))'
            ),
        ),
        "heatmap",
        width=24,
        each="modality",
    ),
    Panel(
        "Coefficient: $modality",
        "Largest coefficient over layers at the last prompt token, in residual-stream units.",
        (
            Query(
                "sum by (le) (increase(steering_coefficient_bucket"
                f'{{{POLICY}, modality=~"$modality"}}{EVERY}))'
            ),
        ),
        "heatmap",
        width=24,
        each="modality",
    ),
    Panel(
        "Dose",
        "95th percentile of the largest share of the residual stream's length that was added, by "
        "policy.",
        (
            Query(
                "histogram_quantile(0.95, sum by (policy, mode, le) (rate("
                f"steering_dose_bucket{{{POLICY}}}{EVERY})))",
                "{{policy}} {{mode}}",
            ),
        ),
        unit="percentunit",
        width=8,
    ),
    Panel(
        "Drift of risks",
        "Distance (Kolmogorov and Smirnov) between the risks of the last six hours and those of "
        "the same hours a week ago; needs two hundred requests in both.",
        (Query(f"model:steering_risk_drift:ks6h{{{MODEL}}}", "{{modality}}"),),
        width=8,
        most=1.0,
    ),
    Panel(
        "Rows steered",
        "Token rows a second that the device has verified, by policy and mode.",
        (
            Query(
                f"sum by (policy, mode) (rate(steering_rows_verified_total{{{POLICY}}}{EVERY}))",
                "{{policy}}, {{mode}}",
            ),
        ),
        width=8,
    ),
)

LATENCY = (
    Panel(
        "Our own work",
        "What this server's code costs a request, without vLLM, media checks and internal passes.",
        quantiles("steering_overhead_seconds", LIVE),
        unit="s",
        width=8,
    ),
    Panel(
        "Time to first token",
        "From vLLM's arrival to the first token, as vLLM measures it.",
        quantiles("vllm:time_to_first_token_seconds", LIVE),
        unit="s",
        width=8,
    ),
    Panel(
        "Between tokens",
        "Time between two tokens of a request, as vLLM measures it.",
        quantiles("vllm:inter_token_latency_seconds", LIVE),
        unit="s",
        width=8,
    ),
    Panel(
        "Risk passes",
        "Time before the answer in which a request's risk was assessed; only where the strategy "
        "needs it.",
        quantiles("steering_risk_pass_seconds", POLICY),
        unit="s",
        width=8,
    ),
    Panel(
        "Detectors",
        "Mean time to judge one answer, after it has been sent.",
        (
            Query(
                f"sum by (detector) (rate(steering_detector_seconds_sum{{{LIVE}}}{EVERY})) / "
                f"sum by (detector) (rate(steering_detector_seconds_count{{{LIVE}}}{EVERY}))",
                "{{detector}}",
            ),
        ),
        unit="s",
        width=8,
    ),
    Panel(
        "Queue",
        "Requests in vLLM that run and that wait.",
        (
            Query(f"sum(vllm:num_requests_running{{{LIVE}}})", "running"),
            Query(f"sum(vllm:num_requests_waiting{{{LIVE}}})", "waiting"),
        ),
        width=8,
    ),
    Panel(
        "KV cache in use",
        "Share of the engine's KV cache that holds blocks of running requests, by replica.",
        (Query(f"vllm:kv_cache_usage_perc{{{LIVE}}}", "{{instance}}"),),
        unit="percentunit",
        width=24,
        most=1.0,
    ),
)

FLEET = (
    Panel(
        "Replicas that answer",
        "Replicas whose metrics were scraped.",
        (Query(f"count(steering_canary_passed{{{LIVE}}})"),),
        "stat",
        width=6,
    ),
    Panel(
        "Policy versions in force",
        "1 when all replicas have the same policy; more while a change is on its way, or stuck.",
        (Query(f"count(count by (version) (steering_policy_info{{{LIVE}}} == 1))"),),
        "stat",
        width=6,
        alarm="above_one",
    ),
    Panel(
        "Alerts",
        "Alerts that fire now; the runbook has a section for each.",
        (
            Query(
                'count by (alertname, severity) (ALERTS{alertname=~"Steering.*", '
                'alertstate="firing"})',
                "{{alertname}} ({{severity}})",
            ),
        ),
        "stat",
        width=12,
        alarm="above_zero",
    ),
)

HEALTH = (
    Panel(
        "Reload and canary by replica",
        "1 is good. A reload at 0 means that the last good policy, or keys, are in force, not the "
        "file's.",
        (
            Query(f"steering_policy_last_reload_successful{{{LIVE}}}", "reload {{instance}}"),
            Query(f"steering_keys_last_reload_successful{{{LIVE}}}", "keys {{instance}}"),
            Query(f"steering_canary_passed{{{LIVE}}}", "canary {{instance}}"),
        ),
        width=8,
        most=1.0,
    ),
    Panel(
        "Age of policy and keys",
        "Time since each replica has last loaded the policy file, and the key file, with success.",
        (
            Query(
                f"time() - steering_policy_last_reload_success_timestamp_seconds{{{LIVE}}}",
                "policy {{instance}}",
            ),
            Query(
                f"time() - steering_keys_last_reload_success_timestamp_seconds{{{LIVE}}}",
                "keys {{instance}}",
            ),
        ),
        unit="s",
        width=8,
    ),
    Panel(
        "Versions in force",
        "Replicas by policy version and bundle digest. More than one line of a kind: they differ.",
        (
            Query(
                f"count by (version) (steering_policy_info{{{LIVE}}} == 1)", "policy {{version}}"
            ),
            Query(
                f"count by (bundle, digest) (steering_bundle_info{{{LIVE}}} == 1)",
                "{{bundle}} {{digest}}",
            ),
        ),
        width=8,
    ),
    Panel(
        "Proof",
        "Requests a minute without proof: failed ones ended with an error as they must, open ones "
        "were sent and must stay 0.",
        (
            Query(f"60 * sum(rate(steering_failures_total{{{POLICY}}}{EVERY}))", "failed"),
            Query(f"60 * sum(rate(steering_fail_open_total{{{LIVE}}}{EVERY}))", "open"),
        ),
        width=8,
    ),
    Panel(
        "Audit log",
        "Lines a second that were written, and that were lost to a full queue or a failing disk.",
        (
            Query(f"sum(rate(steering_audit_written_total{{{LIVE}}}{EVERY}))", "written"),
            Query(f"sum(rate(steering_audit_dropped_total{{{LIVE}}}{EVERY}))", "dropped"),
        ),
        width=8,
    ),
    Panel(
        "Denied, moderated, not judged",
        "A minute: requests for a policy or strength that they cannot have, wrong keys, inputs of "
        "moderation calls, and sampled answers that a detector dropped or failed on.",
        (
            Query(f"60 * sum(rate(steering_denied_total{{{LIVE}}}{EVERY}))", "denied"),
            Query(
                f"60 * sum by (door) (rate(steering_wrong_keys_total{{{LIVE}}}{EVERY}))",
                "wrong keys: {{door}}",
            ),
            Query(
                f"60 * sum by (outcome) (rate(steering_moderations_total{{{LIVE}}}{EVERY}))",
                "moderation: {{outcome}}",
            ),
            Query(f"60 * sum(rate(steering_detector_dropped_total{{{LIVE}}}{EVERY}))", "dropped"),
            Query(f"60 * sum(rate(steering_detector_errors_total{{{LIVE}}}{EVERY}))", "errors"),
        ),
        width=8,
    ),
)
