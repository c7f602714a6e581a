"""One life of a simulated process: held, cut off and ended from outside."""

from __future__ import annotations

from collections.abc import Callable

import trio

from fastworker.testing._virtual_time import WALL_AT_START, Held


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
      drain: tells it to end once what it runs has ended; nothing unless it is a subworker.
      leftovers: says what it has still to do, by its name.
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
        self.leftovers: Callable[[], dict[str, int]] = dict
        self.drain: Callable[[], None] = lambda: None
        self.on_session: list[Callable[[], None]] = []
        self.scope = trio.CancelScope()

    def __repr__(self) -> str:
        return f"<Process {self.name!r}, pid {self.pid}>"

    def wall_clock(self) -> float:
        """Seconds since 1970 as this process sees it."""
        return WALL_AT_START + self.skew + trio.current_time()
