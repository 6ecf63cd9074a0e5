"""Panels on what comes in: HTTP, tokens, tenants, denials, and how long answers take."""

from __future__ import annotations

from deploy.grafana.panels import Panel, Query
from deploy.grafana.queries import EVERY, LIVE, POLICY

TRAFFIC = (
    Panel(
        "HTTP requests by status",
        "HTTP requests a second on every port, by the status that was sent.",
        (
            Query(
                f"sum by (status) (rate(steering_http_requests_total{{{LIVE}}}{EVERY}))",
                "{{status}}",
            ),
        ),
        unit="reqps",
        width=8,
    ),
    Panel(
        "HTTP errors by route",
        "HTTP requests a minute that ended with a status of 400 and above.",
        (
            Query(
                "60 * sum by (route, status) (rate(steering_http_requests_total"
                f'{{{LIVE}, status=~"[45].."}}{EVERY}))',
                "{{route}} {{status}}",
            ),
        ),
        width=8,
    ),
    Panel(
        "Denied by reason",
        "Requests a minute that were denied: for rights (policy, model, report, steering), which "
        "looks like probing, or for a used-up budget or place.",
        (
            Query(
                f"60 * sum by (reason, tenant) (rate(steering_denied_total{{{LIVE}}}{EVERY}))",
                "{{reason}} {{tenant}}",
            ),
        ),
        width=8,
    ),
    Panel(
        "Tokens",
        "Tokens a second that the engine has read and written.",
        (
            Query(f"sum(rate(vllm:prompt_tokens_total{{{LIVE}}}{EVERY}))", "read"),
            Query(f"sum(rate(vllm:generation_tokens_total{{{LIVE}}}{EVERY}))", "written"),
        ),
        width=8,
    ),
    Panel(
        "Tokens by tenant",
        "Tokens a second by the tenant of the key; `none` are keys without one.",
        (
            Query(
                f"sum by (tenant, kind) (rate(steering_tenant_tokens_total{{{LIVE}}}{EVERY}))",
                "{{tenant}} {{kind}}",
            ),
        ),
        width=8,
    ),
    Panel(
        "Requests by tenant",
        "Chat requests a second by the tenant of the key and what became of them.",
        (
            Query(
                f"sum by (tenant, outcome) (rate(steering_tenant_requests_total{{{LIVE}}}{EVERY}))",
                "{{tenant}}: {{outcome}}",
            ),
        ),
        unit="reqps",
        width=8,
    ),
)

DURATIONS = (
    Panel(
        "Answers by policy and side",
        "95th percentile of the time from admission to the end of an answer.",
        (
            Query(
                "histogram_quantile(0.95, sum by (policy, arm, le) (rate("
                f"steering_request_seconds_bucket{{{POLICY}}}{EVERY})))",
                "{{policy}} {{arm}}",
            ),
        ),
        unit="s",
    ),
    Panel(
        "First tokens by policy and side",
        "95th percentile of the time from admission to the first event of a streamed answer.",
        (
            Query(
                "histogram_quantile(0.95, sum by (policy, arm, le) (rate("
                f"steering_first_token_seconds_bucket{{{POLICY}}}{EVERY})))",
                "{{policy}} {{arm}}",
            ),
        ),
        unit="s",
    ),
)
