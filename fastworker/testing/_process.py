"""One life of a simulated process: held, cut off and ended from outside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import trio

from fastworker.testing._virtual_time import WALL_AT_START, Held, current_process

F = TypeVar("F", bound=Callable[..., Any])


class Process(Held):
    """See the module's first lines.

    Attributes:
      name: of the process, the same in all its lives.
      role: "control_plane", "subworker" or "client".
      pid: of this life; no two lives share one.
      skew: how far its wall clock is wrong, in seconds.
      is_dead: whether it was killed. Its Trio tasks are held from then on until the
        run is over, since Python cannot end them without running their cleanup.
      is_done: whether it has ended by itself; nothing happens to it any more.
      is_draining: whether it was asked to end, and to let end first what it has begun.
      drain: asks it to; None for processes that cannot be asked.
      simulation: that it is in.
      is_given_up: says of an attempt whether it has no lease any more.
      on_session: called when it has opened a session that is new.
      scope: ends it, once the run is over.
    """

    def __init__(self, name: str, role: str, pid: int, skew: float) -> None:
        super().__init__()
        self.name = name
        self.role = role
        self.pid = pid
        self.skew = skew
        self.is_dead = False
        self.is_done = False
        self.is_draining = False
        self.drain: Callable[[], None] | None = None
        self.simulation: Any = None
        self.is_given_up: Callable[[Any], bool] = lambda key: False
        self.on_session: list[Callable[[], None]] = []
        self.scope = trio.CancelScope()

    def __repr__(self) -> str:
        return f"<Process {self.name!r}, pid {self.pid}>"

    def wall_clock(self) -> float:
        """Seconds since 1970 as this process sees it."""
        return WALL_AT_START + self.skew + trio.current_time()


def this_process() -> Process:
    """The process that this task runs in, for tasks that do something to it."""
    process = current_process.get()
    assert isinstance(process, Process), "only in a task of a simulation"
    return process


def this_simulation() -> Any:
    """The simulation that this task runs in, for tasks that do something to it."""
    return this_process().simulation


def kills_its_worker(function: F) -> F:
    """Say that no attempt of this function ever ends: each takes its worker with it."""
    function.kills_its_worker = True  # type: ignore[attr-defined]
    return function
