"""The history of a run: what happened, in order, as lines of JSON.

Simulations keep it in memory, in virtual time. Real processes append to files of
the run's folder, each event by one write of one line, so lines do not mix and what
was written outlives any kill; they are on one machine, where CLOCK_MONOTONIC is the
same for all of them.
"""

from __future__ import annotations

import enum
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SUFFIX = ".jsonl"


class Kind(enum.StrEnum):
    """What can happen.

    Of clients: SUBMIT is about to be said, ACK came back, REJECT was raised,
    OUTCOME is what an await gave, and ITEM one value of a stream. OBSERVE is what a
    later look at the task gave, and CANCEL is about to be asked for. CALLED: a listener
    was told of an end. Of tasks: START and END of one execution, YIELD of a value
    between them. Of the control plane: READY when a task may be leased, UNREADY when
    it may not any more, GIVEN when it is leased, DELIVERED when it takes its callback
    for told, PARKED when it gives that up, and HOLDS what a process still has when all is quiet. Of the store: KEPT when a task, LEASED when a lease of it, and TERMINAL
    when its end became durable. Of processes: SPAWN, EXIT, STOP, CONT, the LINK of one as it changes,
    and BROKEN when its own code has failed. Of the network: FAULT and HEAL of one
    process's link. Of the run: CALM when all faults have ended, SETTLED when all
    tasks have, and STORM when faults begin (again).
    """

    SUBMIT = "submit"
    ACK = "ack"
    REJECT = "reject"
    CANCEL = "cancel"
    OUTCOME = "outcome"
    ITEM = "item"
    OBSERVE = "observe"
    CALLED = "called"
    START = "start"
    END = "end"
    YIELD = "yield"
    READY = "ready"
    UNREADY = "unready"
    GIVEN = "given"
    DELIVERED = "delivered"
    PARKED = "parked"
    HOLDS = "holds"
    KEPT = "kept"
    LEASED = "leased"
    TERMINAL = "terminal"
    SPAWN = "spawn"
    EXIT = "exit"
    STOP = "stop"
    CONT = "cont"
    LINK = "link"
    BROKEN = "broken"
    FAULT = "fault"
    HEAL = "heal"
    STORM = "storm"
    CALM = "calm"
    SETTLED = "settled"


@dataclass(frozen=True, slots=True)
class Event:
    """One line. ``at`` is in seconds, of one clock; an absent field is its default.

    ``process`` is the label of a process and ``pid`` one life of it. ``run``
    names one execution, (``epoch``, ``attempt``) its fence. ``digest`` is that
    of the arguments, as a client had them or as a task got them; ``value`` that of what
    the execution returned. ``order`` is a place in an order, or a count; ``parent`` the
    task that has submitted this one, and ``callback`` the id of its callback's event.
    """

    kind: Kind
    at: float
    process: str = ""
    pid: int = 0
    task: str = ""
    name: str = ""
    mode: str = ""
    run: str = ""
    epoch: int = 0
    attempt: int = 0
    digest: str = ""
    value: str = ""
    status: str = ""
    error: str = ""
    what: str = ""
    order: int = 0
    parent: str = ""
    callback: str = ""
    wall: float = 0.0

    def __str__(self) -> str:
        fields = {
            name: getattr(self, name)
            for name in self.__slots__
            if name not in {"kind", "at", "wall"} and getattr(self, name)
        }
        texts = " ".join(f"{name}={value}" for name, value in fields.items())
        return f"{self.at:.3f} {self.kind} {texts}"

    def as_line(self) -> str:
        """The event as JSON, without what is absent."""
        fields = {
            name: value
            for name in self.__slots__
            if (value := getattr(self, name)) not in ("", 0) or name in {"kind", "at"}
        }
        return json.dumps(fields)


class History:
    """The events of a simulation.

    Args:
      clock: in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.events: list[Event] = []

    def write(self, kind: Kind, **fields: Any) -> None:
        """Append an event that happens now."""
        self.events.append(Event(kind, self._clock(), **fields))

    def as_text(self) -> str:
        """All events, a line of JSON each."""
        return "".join(event.as_line() + "\n" for event in self.events)


class Journal:
    """Writes the events of one process.

    Args:
      folder: the run's.
      name: of the file; several processes may share one.
    """

    def __init__(self, folder: str | Path, name: str) -> None:
        path = Path(folder) / (name + SUFFIX)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC)

    def write(self, kind: Kind, **fields: Any) -> None:
        """Append an event that happens now."""
        line = {"kind": kind, "at": time.monotonic(), "wall": time.time(), **fields}
        os.write(self._descriptor, json.dumps(line).encode() + b"\n")

    def close(self) -> None:
        """Release the file."""
        os.close(self._descriptor)


def read_history(folder: Path) -> list[Event]:
    """All events of a run, in the order in which they happened."""
    events: list[Event] = []
    for path in folder.glob("*" + SUFFIX):
        for line in path.read_text().splitlines():
            fields = json.loads(line)
            events.append(Event(**{**fields, "kind": Kind(fields["kind"])}))
    return sorted(events, key=lambda event: event.at)
