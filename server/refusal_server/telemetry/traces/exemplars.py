"""What leads from a series of a metric to one request behind it."""

from __future__ import annotations

from opentelemetry.trace import get_current_span

# OpenMetrics allows so many characters in an exemplar's names and values together.
_MOST = 128


def exemplar(request_id: str) -> dict[str, str] | None:
    """Labels of an exemplar: the current trace, where one is recorded, and the request's id."""
    labels = {}
    span = get_current_span()
    if span.is_recording():
        labels["trace_id"] = f"{span.get_span_context().trace_id:032x}"
    left = _MOST - sum(len(name) + len(value) for name, value in labels.items())
    if request_id and len("request_id") + len(request_id) <= left:
        labels["request_id"] = request_id
    return labels or None
