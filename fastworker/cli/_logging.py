"""Logging of the commands: to stderr, so that stdout has results only."""

from __future__ import annotations

import os

import click

from fastworker.cli import _errors

# Where --log-format is kept in click's context until logging is set up.
FORMAT_KEY = "fastworker.log_format"


def set_up_logging(level: str | None, *, default: str = "INFO") -> str:
    """Log to stderr from a level on: the given one, FASTWORKER_LOG_LEVEL's, or the default.

    As text, or in the format of ``--log-format`` or FASTWORKER_LOG_FORMAT.

    Returns:
      The level.

    Raises:
      ConfigurationError: there is no such level, or format.
    """
    from fastworker import _logs
    from fastworker._config import CommandConfig

    if level is None and not os.environ.get("FASTWORKER_LOG_LEVEL", "").strip():
        level = default
    context = click.get_current_context(silent=True)
    config = CommandConfig.resolve(
        os.environ,
        log_level=level,
        log_format=None if context is None else context.meta.get(FORMAT_KEY),
    )
    _logs.set_up(config.log_level, config.log_format)
    _errors.say_in_json = _logs.say if _logs.is_json() else None
    return config.log_level
