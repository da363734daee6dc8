"""Spans by OpenTelemetry's SDK, to a collector over OTLP and HTTP: the only file that imports it, and only when the
operator turned it on (tracing.otlp_endpoint, or OTEL_EXPORTER_OTLP_ENDPOINT).

A trace belongs to a request id: its number, and that of the request's own span, are made of the id, so that the worker
finds the span that the API began from nothing but the job's row. What the model process did is told by whoever asked
it: that process opens no network connection of its own.
"""

import contextlib
import hashlib
import time
from collections.abc import Generator
from contextvars import ContextVar

from appliance.errors import Misconfigured
from appliance.tracing import REQUEST, Attribute, Span

try:
    from opentelemetry import trace
    from opentelemetry.context import Context
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
    from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, TraceFlags
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as error:
    raise Misconfigured(
        "Spans are asked for (tracing.otlp_endpoint) and OpenTelemetry is not installed; run: pip install "
        "'customhouse[otel]' in the environment of Customhouse, or leave the setting empty"
    ) from error

_NAMED: ContextVar[str] = ContextVar("named", default="")

_WAIT_MS = 2_000  # for what was not sent yet as a process ends


def opened(process: str, endpoint: str) -> "Otel":
    """Spans of this process go to `endpoint`; /v1/traces is added as the standard says."""
    path = endpoint if endpoint.rstrip("/").endswith("/v1/traces") else f"{endpoint.rstrip('/')}/v1/traces"
    return Otel(process, BatchSpanProcessor(OTLPSpanExporter(endpoint=path, timeout=5)))


class Otel:
    """Where spans go; see tracing.Spans."""

    def __init__(self, process: str, processor: SpanProcessor) -> None:
        self._processor = processor
        self._ids = _Ids()
        self._process = process
        self._providers: dict[str, TracerProvider] = {}

    @contextlib.contextmanager
    def span(self, name: str, request: str, attributes: dict[str, Attribute]) -> Generator[Span]:
        context = None
        if request and not trace.get_current_span().get_span_context().is_valid:
            there = SpanContext(trace_of(request), span_of(request), is_remote=True, trace_flags=_SAMPLED)
            context = trace.set_span_in_context(NonRecordingSpan(there))
        tracer = self._tracer(self._process)
        with tracer.start_as_current_span(name, context, attributes=_told(request, attributes)) as span:
            yield span

    @contextlib.contextmanager
    def door(self, name: str, request: str, parent: str, attributes: dict[str, Attribute]) -> Generator[Span]:
        carried = trace.get_current_span(_CALLERS.extract({"traceparent": parent})) if parent else None
        links = [Link(carried.get_span_context())] if carried and carried.get_span_context().is_valid else []
        tracer = self._tracer(self._process)
        token = _NAMED.set(request)
        span = tracer.start_span(
            name, Context(), kind=SpanKind.SERVER, attributes=_told(request, attributes), links=links
        )
        _NAMED.reset(token)
        with trace.use_span(span, end_on_exit=True, record_exception=False):
            yield span

    def elsewhere(self, process: str, name: str, ms: float, attributes: dict[str, Attribute]) -> None:
        end = time.time_ns()
        span = self._tracer(process).start_span(
            name, kind=SpanKind.SERVER, attributes=dict(attributes), start_time=end - int(ms * 1_000_000)
        )
        span.end(end)

    def close(self) -> None:
        """What waits is sent, for two seconds at most."""
        self._processor.force_flush(_WAIT_MS)
        self._processor.shutdown()

    def _tracer(self, process: str) -> trace.Tracer:
        provider = self._providers.get(process)
        if provider is None:
            resource = Resource({"service.name": f"customhouse-{process}", "service.namespace": "customhouse"})
            provider = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
            provider.add_span_processor(self._processor)
            self._providers[process] = provider
        return provider.get_tracer("customhouse")


class _Ids(IdGenerator):
    """Numbers of the request that is named in this context, while it is; else by chance."""

    def __init__(self) -> None:
        self._chance = RandomIdGenerator()

    def generate_trace_id(self) -> int:
        return trace_of(_NAMED.get()) if _NAMED.get() else self._chance.generate_trace_id()

    def generate_span_id(self) -> int:
        return span_of(_NAMED.get()) if _NAMED.get() else self._chance.generate_span_id()


_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_CALLERS = TraceContextTextMapPropagator()


def trace_of(request: str) -> int:
    """The number of the trace of this request id."""
    return int.from_bytes(_digest(request)[:16]) or 1


def span_of(request: str) -> int:
    """The number of the span that the API times the request by."""
    return int.from_bytes(_digest(request)[16:24]) or 1


def _digest(request: str) -> bytes:
    return hashlib.sha256(f"customhouse {request}".encode()).digest()


def _told(request: str, attributes: dict[str, Attribute]) -> dict[str, Attribute]:
    return {REQUEST: request, **attributes} if request else attributes
