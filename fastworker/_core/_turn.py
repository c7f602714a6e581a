"""One turn of the control plane's machine: the event that is being handled.

The parts of the machine share it, so that all of them have the same moment, and what
they want done comes out in the order in which they have decided it.
"""

from __future__ import annotations

from fastworker._core._control_plane_events import ControlPlaneCommand


class Turn:
    """When the event is, and what has to be done so far; ``handle`` begins and ends it."""

    __slots__ = ("commands", "now")

    def __init__(self) -> None:
        self.now = 0.0
        self.commands: list[ControlPlaneCommand] = []
