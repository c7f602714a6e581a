"""Traces and metrics of tasks by OpenTelemetry: ``pip install 'fastworker[otel]'``.

``telemetry.instrument()`` in a process that submits tasks, or runs them, is all
that a program has to call; the commands have ``--otel``. How it looks, and what
goes where: docs/how-to/tracing.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastworker import _instruments
from fastworker._errors import ConfigurationError

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

__all__ = ["instrument", "instrument_from_environment", "uninstrument"]


def instrument(
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
) -> None:
    """From now on measure every submit and every attempt of this process.

    May be called again; the last call counts. A process that runs tasks passes
    this on to the processes of ``@task(isolation="process")``.

    Args:
      tracer_provider, meter_provider: where to; by default the global ones,
        also if they are set later.

    Raises:
      ConfigurationError: OpenTelemetry is not installed.
    """
    try:
        from fastworker.telemetry._observer import Observer
    except ModuleNotFoundError as error:
        raise _not_installed(error) from error
    _instruments.current = Observer(tracer_provider, meter_provider)


def instrument_from_environment() -> None:
    """Set up OpenTelemetry's SDK as the ``OTEL_…`` variables say, and measure.

    It is what ``--otel`` does: for programs that have no set-up of their own.

    Raises:
      ConfigurationError: the SDK, or the exporter that is asked for, is not
        installed, or cannot be set up.
    """
    if _instruments.current is not None and _instruments.current.is_from_environment:
        return  # there can be only one set-up in a process
    try:
        from fastworker.telemetry._observer import Observer
        from fastworker.telemetry._sdk import set_up_sdk
    except ModuleNotFoundError as error:
        raise _not_installed(error) from error
    providers = set_up_sdk()
    _instruments.current = Observer(*providers, is_from_environment=True)


def uninstrument() -> None:
    """Measure nothing from now on; what has begun is still ended."""
    _instruments.current = None


def _not_installed(error: ModuleNotFoundError) -> ConfigurationError:
    if (error.name or "").startswith("opentelemetry.sdk"):
        what = "opentelemetry-sdk opentelemetry-exporter-otlp-proto-http"
        return ConfigurationError(
            f"OpenTelemetry's SDK, or its exporter, is not installed: pip install {what}"
        )
    return ConfigurationError(
        f"OpenTelemetry is not installed ({error}): pip install 'fastworker[otel]'"
    )
