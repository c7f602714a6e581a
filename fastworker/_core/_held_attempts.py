"""The attempts that a subworker's lanes hold, lane by lane, and what each may take.

An *orphan* is an attempt whose lease is gone, or that was given up, and whose
user code still runs. Its outcome is nobody's any more, but it takes up a slot
until it ends. An attempt that *waits* for tasks of its own lends its slot to
another until it goes on; then both run, until one of them ends.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator
from typing import Final

import msgspec

from fastworker._core._attempts import AttemptKey
from fastworker._core._messages import CallOptions, FunctionInfo

# A lane that neither starts nor ends anything for this long is busy: what
# has not started goes back, so that no task waits here behind a long one.
BUSY_SECONDS: Final = 0.010
# So many slots a lane lends at most: each costs a thread.
MAX_LENT_SLOTS: Final = 1000


class Why(enum.Enum):
    """Why an attempt was asked to stop."""

    CANCELLED = "somebody cancelled its task"
    TIMED_OUT = "it ran longer than it may"
    DEADLINE = "its task's deadline passed"
    INTERRUPTED = "this subworker ends"


class Held(msgspec.Struct, eq=False):
    """An attempt that a lane holds. Moments are ``inf`` where there is none."""

    lane: str
    name: str
    timeout: float
    grace: float
    deadline_at: float
    retries_timeout: bool
    is_stream: bool
    started_at: float | None = None
    why: Why | None = None
    give_up_at: float = math.inf
    is_orphan: bool = False
    is_waiting: bool = False
    has_waited: bool = False
    span: str = ""

    @property
    def next_alarm(self) -> float:
        """When it is asked to stop, or given up."""
        if self.is_orphan:
            return math.inf
        if self.why is not None:
            return self.give_up_at
        if self.started_at is None:
            return math.inf
        return min(self.started_at + self.timeout, self.deadline_at)


def held_attempt(
    info: FunctionInfo,
    options: CallOptions | None,
    deadline_at: float,
    *,
    retries_timeout: bool,
) -> Held:
    """What is held of an attempt of this function, called with these options."""
    timeout, grace, is_stream = info.timeout or math.inf, info.grace, False
    if options is not None:
        if options.timeout is not None:
            timeout = options.timeout
        if options.grace is not None:
            grace = options.grace
        is_stream = options.stream > 0
    return Held(info.lane, info.name, timeout, grace, deadline_at, retries_timeout, is_stream)


class LaneView:
    """What the machine knows of one lane."""

    __slots__ = ("held", "is_stuck", "progress_at", "slots", "unstarted", "waiting")

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.held = 0
        self.unstarted = 0
        self.waiting = 0
        self.progress_at = 0.0
        self.is_stuck = False  # has free slots, and starts nothing

    @property
    def open_slots(self) -> int:
        """How many attempts may run, those included that wait."""
        return self.slots + min(self.waiting, MAX_LENT_SLOTS)

    @property
    def has_free_slots(self) -> bool:
        return self.held - self.unstarted < self.open_slots

    def busy_at(self) -> float:
        return self.progress_at + BUSY_SECONDS if self.unstarted else math.inf


class HeldAttempts:
    """All of them.

    Args:
      slots: how many attempts each lane runs at the same time.
    """

    def __init__(self, slots: dict[str, int]) -> None:
        self.lanes = {lane: LaneView(count) for lane, count in slots.items()}
        self._held: dict[AttemptKey, Held] = {}

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[tuple[AttemptKey, Held]]:
        return iter(list(self._held.items()))

    def get(self, key: AttemptKey) -> Held | None:
        return self._held.get(key)

    def lane_of(self, held: Held) -> LaneView:
        return self.lanes[held.lane]

    def add(self, key: AttemptKey, held: Held, now: float) -> None:
        lane = self.lanes[held.lane]
        if not lane.held:
            lane.progress_at = now
        lane.held += 1
        lane.unstarted += 1
        self._held[key] = held

    def start(self, held: Held, now: float) -> None:
        held.started_at = now
        self.lanes[held.lane].unstarted -= 1

    def remove(self, key: AttemptKey, held: Held) -> None:
        del self._held[key]
        lane = self.lanes[held.lane]
        lane.held -= 1
        if held.started_at is None:
            lane.unstarted -= 1
        if held.is_waiting:
            lane.waiting -= 1

    def pause(self, held: Held, *, is_waiting: bool) -> None:
        if held.is_waiting is not is_waiting:
            held.is_waiting = is_waiting
            held.has_waited = True
            self.lanes[held.lane].waiting += 1 if is_waiting else -1

    def orphans(self, lane: str) -> int:
        """How many orphans this lane holds."""
        return sum(1 for held in self._held.values() if held.is_orphan and held.lane == lane)

    def capacity(self) -> dict[str, int]:
        """How many attempts each lane may hold in all."""
        capacity: dict[str, int] = {}
        for name, lane in self.lanes.items():
            orphans = self.orphans(name)
            capacity[name] = max(0, lane.open_slots - orphans)
            if lane.is_stuck:
                # A coroutine blocks the loop of its lane: what comes would go
                # back at once, again and again. One attempt tells when it is free.
                started = lane.held - lane.unstarted - orphans
                capacity[name] = min(capacity[name], max(0, started) + 1)
        return capacity

    def check(self) -> None:
        """Assert every invariant."""
        for name, lane in self.lanes.items():
            here = [held for held in self._held.values() if held.lane == name]
            assert lane.held == len(here)
            unstarted = waiting = running = 0  # in one loop: this is called often
            has_waited = False
            for held in here:
                unstarted += held.started_at is None
                waiting += held.is_waiting
                running += held.started_at is not None and not held.has_waited
                has_waited |= held.has_waited
            assert lane.unstarted == unstarted
            assert lane.waiting == waiting
            assert running <= lane.slots + MAX_LENT_SLOTS
            if not has_waited:
                assert running <= lane.open_slots, f"{running} run in {lane.open_slots} slots"
