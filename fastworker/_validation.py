"""``FASTWORKER_VALIDATE=1``: the shells have their machines check themselves.

Off it costs nothing: the shells call the machine's own ``handle``.
"""

from __future__ import annotations

import os
from typing import Any, Protocol, TypeVar

E = TypeVar("E", contravariant=True)
C = TypeVar("C")


class Handle(Protocol[E, C]):
    """A machine's only mutator."""

    def __call__(self, event: E, *, now: float) -> list[C]: ...


class Machine(Protocol[E, C]):
    """What every machine of ``_core`` has."""

    def handle(self, event: E, *, now: float) -> list[C]: ...

    def check(self) -> None: ...


def validated(machine: Machine[E, C]) -> Handle[E, C]:
    """Return the machine's ``handle``; with FASTWORKER_VALIDATE=1, one that checks."""
    if os.environ.get("FASTWORKER_VALIDATE") != "1":
        return machine.handle

    def handle(event: Any, *, now: float) -> list[C]:
        commands = machine.handle(event, now=now)
        machine.check()
        return commands

    return handle
