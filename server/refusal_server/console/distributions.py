"""A histogram of Prometheus' as a page draws it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def distribution(below: Mapping[float, float], total: float) -> dict[str, Any]:
    """Counts between the edges of cumulative buckets, their mean and two quantiles.

    ``edges`` are upper ones; the last bucket has none. ``total`` is the sum of all values.
    """
    edges = sorted(below)
    heights = [below[edge] for edge in edges]
    counts = [b - a for a, b in zip([0.0, *heights], heights, strict=False)]
    count = heights[-1] if heights else 0.0
    return {
        "count": count,
        "edges": [edge for edge in edges if math.isfinite(edge)],
        "counts": counts,
        "mean": total / count if count else None,
        "median": _quantile(edges, heights, 0.5),
        "p95": _quantile(edges, heights, 0.95),
    }


def _quantile(edges: list[float], heights: list[float], share: float) -> float | None:
    """By a straight line inside the bucket; the last edge for what lies beyond it."""
    count = heights[-1] if heights else 0.0
    if not count:
        return None
    place = next(n for n, height in enumerate(heights) if height >= share * count)
    upper, lower = edges[place], edges[place - 1] if place else 0.0
    if not math.isfinite(upper):
        return lower
    before = heights[place - 1] if place else 0.0
    inside = heights[place] - before
    return lower + (upper - lower) * (share * count - before) / inside if inside else upper
