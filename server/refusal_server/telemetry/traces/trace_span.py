"""One OpenTelemetry span for each chat request, where somebody records traces.

vLLM makes the exporter (``--otlp-traces-endpoint``). Its own span ``llm_request`` lies below ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from opentelemetry.propagate import extract, inject
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context

if TYPE_CHECKING:
    from refusal_server.telemetry.ending import Ending

_CARRIED = (b"traceparent", b"tracestate")
Headers = list[tuple[bytes, bytes]]


def begin(tracer: Tracer, headers: Iterable[tuple[bytes, bytes]]) -> Span:
    """The span of a request, below the caller's where its headers name one."""
    carrier = {
        name.decode(): value.decode("latin-1") for name, value in headers if name in _CARRIED
    }
    return tracer.start_span("chat", context=extract(carrier), kind=SpanKind.SERVER)


def below(span: Span, headers: Headers) -> Headers:
    """``headers`` that put what is asked with them below ``span``; as given if nobody records."""
    if not span.is_recording():
        return headers
    carrier: dict[str, str] = {}
    inject(carrier, set_span_in_context(span))
    kept = [pair for pair in headers if pair[0] not in _CARRIED]
    return [*kept, *((name.encode(), value.encode()) for name, value in carrier.items())]


def annotate(span: Span, ending: Ending) -> None:
    """Set what became of the request, as attributes ``steering.*`` and of OpenTelemetry's GenAI."""
    if not span.is_recording():
        return
    request, measured, labels = ending.request, ending.measured, ending.request.labels
    attributes: dict[str, str | int | float] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": request.origin.model or "",
        "steering.policy": labels.policy,
        "steering.version": request.version,
        "steering.mode": labels.mode,
        "steering.strategy": labels.strategy,
        "steering.request_id": request.origin.request_id,
        "steering.rows_verified": measured.rows_verified,
    }
    if ending.usage is not None:
        attributes["gen_ai.usage.input_tokens"] = ending.usage.prompt
        attributes["gen_ai.usage.output_tokens"] = ending.usage.completion
    numbers = {"coefficient": measured.coefficient, "dose": measured.dose, "risk": measured.risk}
    for name, value in numbers.items():
        if measured.proven and math.isfinite(value):
            attributes[f"steering.{name}"] = value
    span.set_attributes(attributes)
    if ending.failure is not None:
        span.set_attribute("error.type", ending.failure.code)
        span.set_status(Status(StatusCode.ERROR, ending.failure.code))
