"""Sets OpenTelemetry's SDK up from its standard variables, for the commands.

The SDK itself reads OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES,
OTEL_TRACES_SAMPLER, OTEL_BSP_… and the like; its exporters read
OTEL_EXPORTER_OTLP_…. What is left for us is which exporters there are:
OTEL_TRACES_EXPORTER, OTEL_METRICS_EXPORTER and OTEL_EXPORTER_OTLP_PROTOCOL.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any, Final

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    ConsoleMetricExporter,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

from fastworker._errors import ConfigurationError

# What the packages are called that bring the exporters of OTLP.
_PROTOCOLS: Final = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}
_PACKAGES: Final = {
    "otlp_proto_http": "opentelemetry-exporter-otlp-proto-http",
    "otlp_proto_grpc": "opentelemetry-exporter-otlp-proto-grpc",
    "prometheus": "opentelemetry-exporter-prometheus",
}

# For a collector that does not answer, nobody waits longer at the end.
SHUTDOWN_SECONDS: Final = 2.0

_is_ending: Final = threading.Event()
_closers: Final[list[threading.Thread]] = []


def set_up_sdk(
    environ: Mapping[str, str] = os.environ,
) -> tuple[TracerProvider | None, MeterProvider | None]:
    """Make providers as the variables say, and make them the global ones.

    Returns:
      Those for traces and for metrics; None if there are to be none.

    Raises:
      ConfigurationError: an exporter is not installed, or cannot be set up.
    """
    resource = None
    if not environ.get("OTEL_SERVICE_NAME") and "service.name=" not in environ.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    ):
        resource = Resource.create({"service.name": "fastworker"})
    tracers = _traces(environ, resource)
    meters = _metrics(environ, resource)
    for provider in (tracers, meters):
        if provider is not None:
            _close_at_end(provider)
    atexit.register(shut_down)
    # Set, so that what user code measures goes the same way.
    if tracers is not None:
        trace.set_tracer_provider(tracers)
    if meters is not None:
        metrics.set_meter_provider(meters)
    return tracers, meters


def shut_down() -> None:
    """Hand on what was measured, and end; a collector that is away costs some seconds."""
    _is_ending.set()
    until = time.monotonic() + SHUTDOWN_SECONDS
    for thread in _closers:
        thread.join(max(0.0, until - time.monotonic()))


def _close_at_end(provider: TracerProvider | MeterProvider) -> None:
    # Started now: when the interpreter ends, it starts no threads any more.
    def close() -> None:
        _is_ending.wait()
        provider.shutdown()

    thread = threading.Thread(target=close, name="fastworker-telemetry", daemon=True)
    thread.start()
    _closers.append(thread)


def _traces(environ: Mapping[str, str], resource: Resource | None) -> TracerProvider | None:
    exporters = _exporters(environ, "traces")
    if not exporters:
        return None
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    for exporter in exporters:
        provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def _metrics(environ: Mapping[str, str], resource: Resource | None) -> MeterProvider | None:
    exporters = _exporters(environ, "metrics")
    if not exporters:
        return None
    readers = [PeriodicExportingMetricReader(exporter) for exporter in exporters]
    if resource is None:
        return MeterProvider(readers, shutdown_on_exit=False)
    return MeterProvider(readers, resource, shutdown_on_exit=False)


def _exporters(environ: Mapping[str, str], signal: str) -> list[Any]:
    variable = f"OTEL_{signal.upper()}_EXPORTER"
    names = [name.strip() for name in (environ.get(variable) or "otlp").split(",")]
    return [_exporter(name, variable, signal, environ) for name in names if name != "none"]


def _exporter(name: str, variable: str, signal: str, environ: Mapping[str, str]) -> Any:
    if name == "console":
        return _to_console(signal)
    entry = name
    if name == "otlp":
        protocol = (
            environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL")
            or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
            or "http/protobuf"
        ).strip()
        if protocol not in _PROTOCOLS:
            raise ConfigurationError(
                f"OTEL_EXPORTER_OTLP_PROTOCOL={protocol!r}: use {' or '.join(_PROTOCOLS)}"
            )
        entry = _PROTOCOLS[protocol]
    found = list(entry_points(group=f"opentelemetry_{signal}_exporter", name=entry))
    if not found:
        package = _PACKAGES.get(entry)
        raise ConfigurationError(
            f"{variable}={name}: no exporter of this name is installed: "
            + (f"pip install {package}" if package else "install the package that has it")
        )
    try:
        return found[0].load()()
    except ImportError as error:
        raise ConfigurationError(
            f"{variable}={name}: it cannot be imported: {error}"
        ) from error
    except (TypeError, ValueError, OSError) as error:
        raise ConfigurationError(f"{variable}={name}: it cannot be set up: {error}") from error


def _to_console(signal: str) -> Any:
    # Not to stdout, which is for results; and a line each, as all else there.
    if signal == "traces":
        return ConsoleSpanExporter(
            out=sys.stderr, formatter=lambda span: f"{span.to_json(indent=None)}\n"
        )
    return ConsoleMetricExporter(
        out=sys.stderr, formatter=lambda data: f"{data.to_json(indent=None)}\n"
    )
