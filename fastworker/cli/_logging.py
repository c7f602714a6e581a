"""Logging of the commands: to stderr, so that stdout has results only."""

from __future__ import annotations

import logging
import os
import sys

FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


def set_up_logging(level: str | None, *, default: str = "INFO") -> str:
    """Log to stderr from a level on: the given one, FASTWORKER_LOG_LEVEL's, or the default.

    Returns:
      The level.

    Raises:
      ConfigurationError: there is no such level.
    """
    from fastworker._config import CommandConfig

    if level is None and not os.environ.get("FASTWORKER_LOG_LEVEL", "").strip():
        level = default
    level = CommandConfig.resolve(os.environ, log_level=level).log_level
    # A reader of our stderr that is gone is no reason to stop working.
    logging.raiseExceptions = False
    logging.basicConfig(level=level, format=FORMAT, stream=sys.stderr)
    return level
