"""The control plane's ledger of one subworker: what it can run and what it holds.

Credit is capacity minus what is leased *by this ledger*. A subworker never
says how much it has free: such a number is stale when it arrives, and adding
it up from frames that may be lost, doubled or reordered leases too much.

Beyond its slots a lane gets work ahead only by *time*: tasks that are known
to be so short that the lane gets through all of them within PREFETCH_SECONDS.
So trivial tasks travel in hundreds per frame, while a task of higher priority
never waits much longer than that behind them.
"""

from __future__ import annotations

from typing import Final

import msgspec

from fastworker._core._messages import FunctionInfo, StopOrder
from fastworker._core._task_states import TaskRecord, TaskState

PREFETCH_SECONDS: Final = 0.010
# Handing over a task costs this much, whatever its function takes.
TASK_OVERHEAD_SECONDS: Final = 0.000_015
# Each measurement moves the estimate this far down towards it; up it jumps.
ESTIMATE_DECAY: Final = 0.05
# Anything as long as this is never sent ahead; how much longer is no matter.
LONGEST_ESTIMATE: Final = 1.0


class LaneLedger:
    """What one lane of one subworker may hold and holds."""

    __slots__ = ("backlog", "capacity", "is_blocked", "leased", "unknown")

    def __init__(self) -> None:
        self.capacity = 0
        self.leased: dict[str, TaskRecord] = {}  # in the order of leasing
        self.backlog = 0.0  # estimated seconds of everything leased
        self.unknown = 0  # how many of the leased have no estimate
        self.is_blocked = False  # handed work back; nothing ahead until something ends

    def has_credit(self, estimate: float | None) -> bool:
        """Whether one more task of this estimated length may be leased."""
        if len(self.leased) < self.capacity:
            return True
        if estimate is None or self.unknown or self.is_blocked or not self.capacity:
            return False
        return self.backlog + estimate <= PREFETCH_SECONDS * self.capacity

    def add(self, record: TaskRecord) -> None:
        self.leased[record.spec.id] = record
        if record.estimate is None:
            self.unknown += 1
        else:
            self.backlog += record.estimate

    def remove(self, record: TaskRecord) -> None:
        del self.leased[record.spec.id]
        if record.estimate is None:
            self.unknown -= 1
        elif self.leased:
            self.backlog -= record.estimate
        else:
            self.backlog = 0.0  # leaves no rounding error behind


class SubworkerStatus(msgspec.Struct, frozen=True):
    """A snapshot of one subworker."""

    label: str
    address: str
    is_draining: bool
    capacity: dict[str, int]
    leased: int
    started: int
    functions: list[str]


class SubworkerRecord:
    """One subworker, for as long as its session lives.

    Args:
      key: the session id, a secret.
      label: the worker id, made unique for people to read.
      functions: what it announced.
      holder: names its session in the store, and tells nobody the key.
      is_inside: whether its lanes are in the control plane's own process.
      joined_at: when it came, by the machine's clock.
    """

    def __init__(
        self,
        key: bytes,
        label: str,
        address: str,
        functions: list[FunctionInfo],
        order: int,
        *,
        holder: bytes = b"",
        is_inside: bool = False,
        joined_at: float = 0.0,
    ) -> None:
        self.key = key
        self.holder = holder
        self.is_inside = is_inside
        self.label = label
        self.address = address
        self.order = order
        self.joined_at = joined_at
        self.leased_count = 0  # how many attempts it holds
        self.capacity = 0  # of all lanes together
        self.functions = {function.name: function for function in functions}
        self.lanes: dict[str, LaneLedger] = {
            function.lane: LaneLedger() for function in functions
        }
        self.is_draining = False
        self.estimates: dict[str, float] = {}
        # Two for each task at most, however often it is cancelled; see stop().
        self.cancels: dict[tuple[str, bool], StopOrder] = {}
        self.solo: TaskRecord | None = None  # runs alone here
        self.reserved_for: TaskRecord | None = None  # will, once everything else is done
        self._has_room: bool | None = None  # as was found last; None if that may be old

    def __repr__(self) -> str:
        return f"<SubworkerRecord {self.label} leased={self.leased_count}>"

    @property
    def load(self) -> float:
        """Attempts held, relative to what may run at once."""
        return self.leased_count / self.capacity if self.capacity else 1.0

    def lane_of(self, name: str) -> LaneLedger:
        """The lane that runs this task function."""
        return self.lanes[self.functions[name].lane]

    def state_capacity(self, capacity: dict[str, int]) -> None:
        """Note how many attempts each lane may hold; none if it is not named."""
        for name, lane in self.lanes.items():
            lane.capacity = capacity.get(name, 0)
        self.capacity = sum(lane.capacity for lane in self.lanes.values())
        self._has_room = None

    def block(self, name: str, *, is_blocked: bool) -> None:
        """Note that the lane of this function has handed work back, or does no longer."""
        self.lane_of(name).is_blocked = is_blocked
        self._has_room = None

    def is_careful(self, name: str) -> bool:
        """Whether this function, if it has it, runs at most once."""
        function = self.functions.get(name)
        return function is not None and function.on_lost == "fail"

    def estimate_of(self, record: TaskRecord) -> float | None:
        """How long it will run, None if that is unknown or not to be relied on."""
        if record.is_wary or self.functions[record.spec.name].on_lost == "fail":
            # Sent ahead it could not be told from what was running when the
            # process died: it might hide there, or run a second time.
            return None
        return self.estimates.get(record.spec.name)

    def can_take(self, record: TaskRecord) -> bool:
        """Whether this task may be leased to it now, beside others."""
        function = self.functions.get(record.spec.name)
        if function is None or self.is_draining or self.solo or self.reserved_for:
            return False
        lane = self.lanes[function.lane]
        if len(lane.leased) < lane.capacity:
            return True
        return lane.has_credit(self.estimate_of(record))

    @property
    def wants_round(self) -> bool:
        """Whether there may be something to give to it; asked for each of a hundred."""
        has_room = self._has_room
        if has_room is None:
            has_room = self._has_room = self._find_room()
        return (
            has_room
            or bool(self.cancels)
            or self.solo is not None
            or self.reserved_for is not None
        )

    def _find_room(self) -> bool:
        """Whether any of its lanes may be leased one more attempt, if that is short."""
        return any(lane.has_credit(0.0) for lane in self.lanes.values())

    @property
    def is_kept(self) -> bool:
        """Whether it is kept for a task that has to run alone."""
        return self.solo is not None or self.reserved_for is not None

    def can_take_beside(self, record: TaskRecord) -> bool:
        """Whether a task that is waited for may be leased to it although it is kept."""
        function = self.functions.get(record.spec.name)
        if function is None or self.is_draining:
            return False
        lane = self.lanes[function.lane]
        return len(lane.leased) < lane.capacity

    def families(self) -> list[TaskRecord]:
        """What those here wait for, and for what that waits, in no special order.

        Only what was submitted by a task that runs alone, if one does.
        """
        found: list[TaskRecord] = []
        above = [r for lane in self.lanes.values() for r in lane.leased.values()]
        if self.solo is not None:
            above = [self.solo]
        while above:
            children = above.pop().children
            if children:
                found += children.values()
                above += children.values()
        return found

    def can_run_alone(self, record: TaskRecord) -> bool:
        """Whether this task could run here once nothing else does."""
        function = self.functions.get(record.spec.name)
        if function is None or self.is_draining:
            return False
        if self.reserved_for is not None and not record.is_waited_for:
            return False
        if self.solo is not None and not record.is_below(self.solo):
            return False
        return self.lanes[function.lane].capacity > 0

    def is_idle_for(self, record: TaskRecord) -> bool:
        """Whether nothing runs here that this task may have to be told from.

        Where somebody waits for it, who waits for tasks of its own does not count.
        """
        if not self.leased_count or not record.is_waited_for:
            return not self.leased_count
        lane = self.lane_of(record.spec.name)
        if len(lane.leased) >= lane.capacity:
            return False  # their slots are not lent yet
        return all(one.children for lane in self.lanes.values() for one in lane.leased.values())

    def lease(self, record: TaskRecord) -> None:
        """Enter a record into the ledger."""
        record.estimate = self.estimate_of(record)
        record.worker = self
        self.lane_of(record.spec.name).add(record)
        self.leased_count += 1
        self._has_room = None

    def release(self, record: TaskRecord) -> None:
        """Take a record out of the ledger."""
        self.lane_of(record.spec.name).remove(record)
        self.leased_count -= 1
        self._has_room = None
        record.worker = None
        if self.solo is record:
            # Who had the subworker before it, and has waited for it, has it again.
            above = record.parent
            while above is not None and not (above.worker is self and above.is_solo):
                above = above.parent
            self.solo = above

    def stop(self, order: StopOrder) -> None:
        """Have an attempt stopped with the next work; the shortest grace counts.

        An order without a grace has the function's, which is not known here: so
        it stands beside one that has.
        """
        key = (order.task_id, order.grace is None)
        known = self.cancels.get(key)
        if known is None or known.attempt != order.attempt:
            self.cancels[key] = order
        elif order.grace is not None and known.grace is not None:
            self.cancels[key] = order if order.grace < known.grace else known

    def take_cancels(self) -> list[StopOrder]:
        """Return what is to be stopped, once."""
        cancels, self.cancels = list(self.cancels.values()), {}
        return cancels

    def measure(self, name: str, seconds: float) -> None:
        """Note how long a task of this name has run: the recent maximum counts."""
        # So nan becomes 0: a subworker may say anything.
        cost = TASK_OVERHEAD_SECONDS
        if seconds > 0.0:
            cost = seconds + cost if seconds < LONGEST_ESTIMATE else LONGEST_ESTIMATE
        estimate = self.estimates.get(name)
        if estimate is None or cost >= estimate:
            self.estimates[name] = cost
        else:
            self.estimates[name] = estimate + (cost - estimate) * ESTIMATE_DECAY

    def presumed_started(self) -> list[TaskRecord]:
        """The attempts that may have been running if the process died just now.

        Lanes start attempts in the order of leasing, so these are the first
        ones up to the lane's slots. A "started" report is no condition: a
        task that kills its process at once never lets one out.
        """
        suspects: list[TaskRecord] = []
        for lane in self.lanes.values():
            for position, record in enumerate(lane.leased.values()):
                if position < max(lane.capacity, 1) or record.state is TaskState.STARTED:
                    suspects.append(record)
        return suspects

    def status(self) -> SubworkerStatus:
        """Return a snapshot."""
        held = [record for lane in self.lanes.values() for record in lane.leased.values()]
        started = [record for record in held if record.state is TaskState.STARTED]
        return SubworkerStatus(
            label=self.label,
            address=self.address,
            is_draining=self.is_draining,
            capacity={name: lane.capacity for name, lane in self.lanes.items()},
            leased=len(held),
            started=len(started),
            functions=list(self.functions),
        )

    def check(self) -> None:
        """Assert every invariant."""
        leased = 0  # all added up in one loop: this is called often
        for lane in self.lanes.values():
            leased += len(lane.leased)
            unknown = 0
            backlog = 0.0
            for record in lane.leased.values():
                if record.estimate is None:
                    unknown += 1
                else:
                    backlog += record.estimate
                assert record.worker is self, f"{record!r} is in the wrong ledger"
                state = record.state
                assert state is TaskState.LEASED or state is TaskState.STARTED
            assert lane.unknown == unknown
            assert abs(lane.backlog - backlog) < 1e-6
        assert self.leased_count == leased
        assert self._has_room is None or self._has_room == self._find_room()
        if self.solo is not None:
            others = [r for lane in self.lanes.values() for r in lane.leased.values()]
            others.remove(self.solo)
            assert all(r.has_family for r in others), "a task that must run alone does not"
