"""Spans for an OpenTelemetry collector; where none is named, nobody is told and nothing is loaded.

A span's context crosses the bus as W3C trace context (`traceparent`), in `Task.trace`.
"""

import asyncio
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # an extra: `pip install 'troupe[otel]'`
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

HEADER = "traceparent"
_CONTEXT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
CLOSE_S = 2.0
"""How long the last spans may take to be sent; seconds."""
Values = Mapping[str, str | int | float | tuple[str, ...]]
Role = Literal["server", "inside"]


class TracingUnusable(Exception):
    """Spans were asked for and cannot be sent; says why."""


class Tracing:
    """Takes spans; times are Unix seconds."""

    def __init__(self, provider: "TracerProvider | None" = None) -> None:
        self._provider = provider

    @classmethod
    def towards(cls, endpoint: str, service: str, node: str) -> "Tracing":
        """The collector at `endpoint` (OTLP over HTTP); empty: nobody. Raises `TracingUnusable`."""
        if not endpoint:
            return cls()
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ModuleNotFoundError as missing:
            raise TracingUnusable(
                f"spans are to go to {endpoint}, but {missing.name} is not installed: "
                "pip install 'troupe[otel]', or leave otlp_endpoint out"
            ) from missing
        resource = Resource.create({"service.name": service, "service.instance.id": node})
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
        provider.add_span_processor(BatchSpanProcessor(exporter))
        return cls(provider)

    def begin(self, name: str, parent: str, at: float, role: Role = "inside") -> "Span | None":
        """An open span, beneath the one that `parent` names; None when nobody is told."""
        if self._provider is None:
            return None
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        context = TraceContextTextMapPropagator().extract({HEADER: parent})
        kind = SpanKind.SERVER if role == "server" else SpanKind.INTERNAL
        tracer = self._provider.get_tracer("troupe")
        return tracer.start_span(name, context, kind, start_time=_ns(at))

    def tell(self, name: str, parent: str, began: float, ended: float, values: Values | None = None) -> str:
        """A span that is over; returns its context."""
        span = self.begin(name, parent, began)
        end(span, ended, values or {})
        return context_of(span)

    async def close(self) -> None:
        """Send what waits."""
        if self._provider is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.to_thread(self._provider.shutdown), CLOSE_S)


def end(span: "Span | None", at: float, values: Values, error: str = "") -> None:
    """`error`: why it failed."""
    if span is None:
        return
    from opentelemetry.trace import StatusCode

    span.set_attributes(dict(values))
    if error:
        span.set_status(StatusCode.ERROR, error)
    span.end(_ns(at))


def context_of(span: "Span | None") -> str:
    """As `traceparent`; empty when there is none."""
    if span is None:
        return ""
    from opentelemetry.trace import set_span_in_context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier, set_span_in_context(span))
    return carrier.get(HEADER, "")


def traceparent(headers: Mapping[str, str]) -> str:
    """The trace context in `headers`; empty when there is none, or none that W3C knows."""
    said = headers.get(HEADER, "")
    return said if _CONTEXT.fullmatch(said) else ""


def _ns(at: float) -> int:
    return int(at * 1e9)
