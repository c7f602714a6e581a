"""Where the tasks of a simulated subworker run: in the loop, for as long as they would take.

``async def`` functions run as they are: their sleeping is virtual time. A ``def``
function is called in the midst of the time that it is said to take, or that it
sleeps with ``time.sleep``, and has its slot for all of it. As a thread it cannot be
stopped meanwhile; as a process it can, and it may die.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from random import Random
from typing import Any

import msgspec
import trio

from fastworker._lanes._abc import Attempt, AttemptKey
from fastworker._lanes._inline import InlineLane
from fastworker._models import SerializationFormat
from fastworker.testing._process import Process
from fastworker.testing._recording import RecordedSink
from fastworker.testing._virtual_time import current_process, slept


class ProcessDied(Exception):
    """The task's own process was killed, as the kernel does when memory runs out."""


class Nursery:
    """A nursery of a simulated process, for what starts with an empty context."""

    def __init__(self, nursery: trio.Nursery, process: Process) -> None:
        self._nursery = nursery
        self._process = process

    def start_soon(self, *args: Any) -> None:
        """As that of a nursery."""
        current_process.set(self._process)
        self._nursery.start_soon(*args)


class SimulatedLane(InlineLane):
    """See the module's first lines.

    Args:
      nursery: of the process.
      slots, sink, accepted, kind: as for ``InlineLane``.
      random: decides when in its time a function is called, and which die.
      seconds: says how long an attempt of a ``def`` function takes.
      deaths: the share of attempts with a process of their own that die.
      wall: the clock of the process.
    """

    def __init__(
        self,
        nursery: Nursery,
        slots: int,
        sink: RecordedSink,
        accepted: frozenset[SerializationFormat],
        *,
        kind: str,
        random: Random,
        seconds: Callable[[str], float],
        deaths: float,
        wall: Callable[[], float],
    ) -> None:
        super().__init__(
            nursery,  # type: ignore[arg-type]
            slots,
            sink,
            accepted,
            kind=kind,
            wall=wall,
        )
        self._recorded = sink
        self._random = random
        self._seconds = seconds
        self._deaths = deaths

    def submit(self, attempts: list[Attempt]) -> None:
        """Queue attempts and fill the free slots."""
        for attempt in attempts:
            self._recorded.expect(attempt)
        super().submit([self._modelled(attempt) for attempt in attempts])

    def take_back(self) -> list[AttemptKey]:
        """Remove what has not started and say which they were."""
        keys = super().take_back()
        self._recorded.forget(keys)
        return keys

    def _modelled(self, attempt: Attempt) -> Attempt:
        """The same attempt of a function that takes its time."""
        function = attempt.function
        if (
            inspect.iscoroutinefunction(function)
            or inspect.isgeneratorfunction(function)
            or inspect.isasyncgenfunction(function)
        ):
            return attempt
        seconds = self._seconds(attempt.name)
        first = self._random.random() * seconds
        dies = self.kind == "process" and self._random.random() < self._deaths
        is_shielded = self.kind == "thread"

        async def call(*args: Any, **kwargs: Any) -> Any:
            sleeping = [0.0]
            slept.set(sleeping)
            with trio.CancelScope(shield=is_shielded):
                await trio.sleep(first)
            result = function(*args, **kwargs)
            if inspect.isawaitable(result):
                result = await result
            with trio.CancelScope(shield=is_shielded):
                await trio.sleep(seconds - first + sleeping[0])
            if dies:
                raise ProcessDied("its process was killed by the simulation")
            return result

        return msgspec.structs.replace(attempt, function=call)
