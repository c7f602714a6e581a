"""What OpenTelemetry's SDK makes of a test, in memory."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON


class Recorder:
    """Providers, and what came out of them."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.tracers = TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.meters = MeterProvider([self._reader], shutdown_on_exit=False)
        self.tracer = self.tracers.get_tracer("test")

    def close(self) -> None:
        self.tracers.shutdown()
        self.meters.shutdown()

    def spans(self, name: str = "") -> list[ReadableSpan]:
        """Those of this name, or all, in the order of their ends."""
        spans = self._exporter.get_finished_spans()
        return [span for span in spans if not name or span.name == name]

    def span(self, name: str) -> ReadableSpan:
        """The only one of this name."""
        found = self.spans(name)
        assert len(found) == 1, [span.name for span in self.spans()]
        return found[0]

    def points(self, name: str) -> list[Any]:
        """The data points of a metric."""
        data = self._reader.get_metrics_data()
        return [
            point
            for resource in (data.resource_metrics if data is not None else [])
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]


def is_child(span: ReadableSpan, of: ReadableSpan) -> bool:
    """Whether one span is right below another."""
    assert span.context is not None
    assert of.context is not None
    return (
        span.parent is not None
        and span.parent.span_id == of.context.span_id
        and span.context.trace_id == of.context.trace_id
    )


def attributes_of(span: ReadableSpan) -> dict[str, Any]:
    """A copy of its attributes."""
    return dict(span.attributes or {})
