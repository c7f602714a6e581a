"""What a lane tells whoever measures of an attempt: see ``_instruments.py``."""

from __future__ import annotations

from fastworker._instruments import AttemptEnd, AttemptFacts
from fastworker._lanes._abc import Attempt, AttemptEnded


def facts_of(attempt: Attempt, lane: str) -> AttemptFacts:
    """What is known of an attempt when it starts."""
    return AttemptFacts(
        attempt.key,
        attempt.name,
        attempt.number,
        attempt.priority,
        attempt.worker_id,
        lane,
        attempt.created,
        len(attempt.payload),
        attempt.trace,
        attempt.earlier,
    )


def end_of(ended: AttemptEnded) -> AttemptEnd:
    """What is known of it when it has ended."""
    return AttemptEnd(
        ended.kind, ended.wall, ended.seconds, ended.error, ended.traceback, ended.signal
    )
