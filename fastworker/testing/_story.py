"""A history, put in order: each task's story, each process's lives and troubles."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from fastworker.testing._history import Event, Kind

CONTROL = "control"
LISTENER = "l1"

TERMINAL = frozenset({"success", "failure", "cancelled", "expired"})


@dataclass
class Execution:
    """One run of a task's function; ``ended_at`` is inf while nobody knows an end."""

    start: Event
    end: Event | None = None
    ended_at: float = math.inf

    @property
    def fence(self) -> tuple[int, int]:
        return self.start.epoch, self.start.attempt

    @property
    def process(self) -> str:
        return self.start.process

    @property
    def value(self) -> str:
        """What it has returned, as far as that is known."""
        return "" if self.end is None else self.end.value

    @property
    def events(self) -> list[Event]:
        return [self.start] if self.end is None else [self.start, self.end]


@dataclass
class TaskStory:
    """All that is known of one task, in the order of time."""

    id: str
    submits: list[Event] = field(default_factory=list)
    acks: list[Event] = field(default_factory=list)
    rejects: list[Event] = field(default_factory=list)
    outcomes: list[Event] = field(default_factory=list)
    observed: list[Event] = field(default_factory=list)
    cancels: list[Event] = field(default_factory=list)
    kept: list[Event] = field(default_factory=list)
    terminals: list[Event] = field(default_factory=list)
    leases: set[tuple[int, int]] = field(default_factory=set)
    executions: list[Execution] = field(default_factory=list)
    queue: list[Event] = field(default_factory=list)
    items: list[Event] = field(default_factory=list)
    yields: list[Event] = field(default_factory=list)
    calls: list[Event] = field(default_factory=list)
    parked: list[Event] = field(default_factory=list)
    delivered: list[Event] = field(default_factory=list)

    @property
    def endings(self) -> list[Event]:
        """What was said of its end, by whomever."""
        said = [*self.outcomes, *self.observed]
        return [event for event in said if event.status in TERMINAL]

    @property
    def is_acked(self) -> bool:
        """Whether somebody was told that it is kept."""
        return bool(self.acks or self.endings)

    @property
    def has_key(self) -> bool:
        """Whether it was submitted under a key, as others may have done, too."""
        return any("key" in submit.what.split() for submit in self.submits)

    @property
    def name(self) -> str:
        return self.submits[0].name if self.submits else ""


@dataclass(frozen=True)
class Trouble:
    """A time during which something was wrong with a process or its link."""

    process: str
    since: float
    until: float
    event: Event

    def meets(self, since: float, until: float) -> bool:
        return self.since <= until and self.until >= since


@dataclass
class Life:
    """A process from its start to its end."""

    process: str
    pid: int
    since: float
    until: float = math.inf
    stops: list[tuple[float, float]] = field(default_factory=list)
    links: list[Event] = field(default_factory=list)

    def is_up(self, since: float, until: float) -> bool:
        """Whether it lived, ran and was connected all this time."""
        if self.since > since or self.until < until:
            return False
        if any(stop < until and cont > since for stop, cont in self.stops):
            return False
        index = bisect_right(self.links, since, key=lambda event: event.at)
        told = [*self.links[max(0, index - 1) : index], *self._links_in(since, until)]
        return bool(told) and all(event.what == "open" for event in told)

    def _links_in(self, since: float, until: float) -> list[Event]:
        return [event for event in self.links if since < event.at <= until]


class Story:
    """The history as the rules want it.

    Args:
      events: in the order of time.
    """

    def __init__(self, events: list[Event]) -> None:
        self.events = events
        self.tasks: dict[str, TaskStory] = {}
        self.lives: list[Life] = []
        self._troubles: defaultdict[str, list[Trouble]] = defaultdict(list)
        self.last_at = events[-1].at if events else 0.0
        self._tell_lives()
        self._tell_tasks()
        self.workers = {
            execution.process for task in self.tasks.values() for execution in task.executions
        }
        self.is_settled = bool(events) and any(event.kind is Kind.SETTLED for event in events)

    def calms(self) -> Iterator[tuple[float, float, bool]]:
        """Times without faults: since, until, and whether everything was settled then."""
        since: float | None = None
        for event in self.events:
            if event.kind is Kind.CALM:
                since = event.at
            elif event.kind in (Kind.SETTLED, Kind.STORM) and since is not None:
                yield since, event.at, event.kind is Kind.SETTLED
                since = None
        if since is not None:
            yield since, self.last_at, False

    def troubles(self, process: str, since: float, until: float) -> list[Trouble]:
        """What was wrong with this process, or with the control plane, in this time."""
        names = {process, CONTROL}
        return [
            trouble
            for name in sorted(names)
            for trouble in self._troubles[name]
            if trouble.meets(since, until)
        ]

    def all_troubles(self, since: float, until: float) -> list[Trouble]:
        """What was wrong anywhere in this time."""
        return [
            trouble
            for name, troubles in self._troubles.items()
            if name != LISTENER  # it is no part of the cluster
            for trouble in troubles
            if trouble.meets(since, until)
        ]

    def life_of(self, process: str, at: float) -> Life | None:
        """The life that this process had then."""
        for life in self.lives:
            if life.process == process and life.since <= at <= life.until:
                return life
        return None

    def stopped(self, process: str, since: float, until: float) -> float:
        """For how long of this time the process was stopped."""
        return sum(
            max(0.0, min(cont, until) - max(stop, since))
            for life in self.lives
            if life.process == process
            for stop, cont in life.stops
        )

    # --- building ---

    def _tell_lives(self) -> None:
        living: dict[str, Life] = {}
        stops: dict[str, Event] = {}
        # Several at a time, told apart by their numbers.
        faults: defaultdict[str, dict[str, Event]] = defaultdict(dict)
        for event in self.events:
            name = event.process
            match event.kind:
                case Kind.SPAWN:
                    living[name] = Life(name, event.pid, event.at)
                    self.lives.append(living[name])
                case Kind.EXIT:
                    self._end_stop(living.get(name), stops.pop(name, None), event.at)
                    if name in living:
                        living.pop(name).until = event.at
                    self._trouble(name, event.at, event.at, event)
                case Kind.STOP:
                    stops[name] = event
                case Kind.CONT:
                    self._end_stop(living.get(name), stops.pop(name, None), event.at)
                case Kind.LINK if name in living:
                    living[name].links.append(event)
                case Kind.FAULT:
                    faults[name].setdefault(event.run, event)
                case Kind.HEAL:
                    ended = [event.run] if event.run else list(faults[name])
                    for fault in [faults[name].pop(run, None) for run in ended]:
                        if fault is not None:
                            self._trouble(name, fault.at, event.at, fault)
                case _:
                    pass
        for name, event in stops.items():
            self._end_stop(living.get(name), event, math.inf)
        for name, left in faults.items():
            for event in left.values():
                self._trouble(name, event.at, math.inf, event)

    def _end_stop(self, life: Life | None, stop: Event | None, at: float) -> None:
        if stop is not None:
            self._trouble(stop.process, stop.at, at, stop)
            if life is not None:
                life.stops.append((stop.at, at))

    def _trouble(self, process: str, since: float, until: float, event: Event) -> None:
        self._troubles[process].append(Trouble(process, since, until, event))

    def _tell_tasks(self) -> None:
        by_run: dict[str, Execution] = {}
        for event in self.events:
            if not event.task:
                continue
            story = self.tasks.setdefault(event.task, TaskStory(event.task))
            match event.kind:
                case Kind.SUBMIT:
                    story.submits.append(event)
                case Kind.ACK:
                    story.acks.append(event)
                case Kind.REJECT:
                    story.rejects.append(event)
                case Kind.OUTCOME:
                    story.outcomes.append(event)
                case Kind.OBSERVE:
                    story.observed.append(event)
                case Kind.CANCEL:
                    story.cancels.append(event)
                case Kind.KEPT:
                    story.kept.append(event)
                case Kind.LEASED:
                    story.leases.add((event.epoch, event.attempt))
                case Kind.TERMINAL:
                    story.terminals.append(event)
                case Kind.READY | Kind.UNREADY | Kind.GIVEN:
                    story.queue.append(event)
                case Kind.ITEM:
                    story.items.append(event)
                case Kind.YIELD:
                    story.yields.append(event)
                case Kind.CALLED:
                    story.calls.append(event)
                case Kind.DELIVERED:
                    story.delivered.append(event)
                case Kind.PARKED:
                    story.parked.append(event)
                case Kind.START:
                    by_run[event.run] = Execution(event)
                    story.executions.append(by_run[event.run])
                case Kind.END:
                    by_run[event.run].end = event
                    by_run[event.run].ended_at = event.at
                case _:
                    pass
        for execution in by_run.values():
            if execution.end is None:
                life = self.life_of(execution.process, execution.start.at)
                if life is not None:
                    execution.ended_at = life.until
