"""Expressions that several panels share."""

from __future__ import annotations

from deploy.grafana.panels import Query
from refusal_steering.detection.detector import LEXICAL

# Recorded series have no instance: rules sum over replicas.
MODEL = 'model_name=~"$model"'
LIVE = f'{MODEL}, instance=~"$instance"'
POLICY = f'{LIVE}, policy=~"$policy"'
JUDGED = f'{POLICY}, detector="{LEXICAL}"'
EVERY = "[$__rate_interval]"
HOUR = "[1h]"


def refusals(where: str, by: str) -> str:
    """Share of refusals among judged answers of the last hour, by labels."""
    refused = (
        f'sum by ({by}) (increase(steering_responses_total{{{where}, outcome="refusal"}}{HOUR}))'
    )
    judged = (
        f"sum by ({by}) "
        f'(increase(steering_responses_total{{{where}, outcome=~"refusal|answer"}}{HOUR}))'
    )
    return f"({refused} or 0 * {judged}) / ({judged} > 0)"


def quantiles(metric: str, where: str) -> tuple[Query, ...]:
    """Median, 95th and 99th percentile of a histogram."""
    rates = f"sum by (le) (rate({metric}_bucket{{{where}}}{EVERY}))"
    return tuple(
        Query(f"histogram_quantile({quantile}, {rates})", f"p{quantile * 100:.0f}")
        for quantile in (0.5, 0.95, 0.99)
    )


def increase(metric: str, where: str = LIVE) -> tuple[Query, ...]:
    """How much a counter has grown in the time that the page shows."""
    return (Query(f"sum(increase({metric}{{{where}}}[$__range]))"),)
