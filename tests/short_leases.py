"""Leases, and everything that depends on them, short enough for a test."""

from __future__ import annotations

from fastworker._core import (
    _answers,
    _link_requester,
    _reception,
    _restart,
    _session_table,
    _subworker,
)


def shorten_leases(seconds: float) -> None:
    """Make a lease last this long in this process, and beats and the like as much shorter."""
    factor = seconds / _session_table.LEASE_SECONDS
    for module, names in (
        (_session_table, ["LEASE_SECONDS"]),
        (_reception, ["LEASE_SECONDS", "BEAT_SECONDS"]),
        (_answers, ["BEAT_DELAY"]),
        (_restart, ["LEASE_SECONDS"]),
        (_link_requester, ["REPEAT_INTERVAL", "BEAT_DELAY", "SILENCE_LIMIT"]),
        (_subworker, ["FENCE_MARGIN"]),
    ):
        for name in names:
            setattr(module, name, getattr(module, name) * factor)
