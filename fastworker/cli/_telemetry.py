"""``--otel``: traces and metrics by OpenTelemetry, as its own variables say."""

from __future__ import annotations

import os

import click

from fastworker.cli import _errors

# Where --otel is kept in click's context until telemetry is set up.
OTEL_KEY = "fastworker.otel"


def set_up_telemetry() -> bool:
    """Measure, if ``--otel`` or FASTWORKER_OTEL says so.

    Returns:
      Whether it does.

    Raises:
      ConfigurationError: it should, and what it needs is not installed.
    """
    from fastworker._config import CommandConfig

    context = click.get_current_context(silent=True)
    config = CommandConfig.resolve(
        os.environ, otel=None if context is None else context.meta.get(OTEL_KEY)
    )
    if config.otel:
        from fastworker.telemetry import instrument_from_environment

        instrument_from_environment()
        from fastworker.telemetry._sdk import shut_down

        _errors.before_leaving.append(shut_down)
    return config.otel
