"""Lanes: where user code runs. ``make_lane`` imports only the loop that is asked for."""

from __future__ import annotations

from fastworker._lanes._abc import Lane, LaneSink
from fastworker._models import SerializationFormat


def make_lane(
    kind: str,
    slots: int,
    sink: LaneSink,
    accepted_formats: frozenset[SerializationFormat],
) -> Lane:
    """Make a lane of the given kind: ``"thread"``, ``"trio"``, ``"asyncio"`` or ``"process"``.

    Args:
      kind: Which kind of lane.
      slots: How many attempts run at the same time, at least 1.
      sink: Where the events go.
      accepted_formats: Payloads of other formats are refused, undecoded.

    Raises:
      ValueError: there is no such kind, or ``slots`` is less than 1.
    """
    if slots < 1:
        raise ValueError(f"slots={slots!r}: a lane needs at least 1")
    match kind:
        case "thread":
            from fastworker._lanes._thread import ThreadLane

            return ThreadLane(slots, sink, accepted_formats)
        case "trio":
            from fastworker._lanes._trio import TrioLane

            return TrioLane(slots, sink, accepted_formats)
        case "asyncio":
            from fastworker._lanes._asyncio import AsyncioLane

            return AsyncioLane(slots, sink, accepted_formats)
        case "process":
            from fastworker._lanes._process import ProcessLane

            return ProcessLane(slots, sink, accepted_formats)
    raise ValueError(f"lane {kind!r}: use 'thread', 'trio', 'asyncio' or 'process'")
