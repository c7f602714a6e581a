"""A scheduler to talk with, for the tests that tell what becomes of single tasks."""

from __future__ import annotations

import random

from fastworker._core._messages import (
    CallOptions,
    EndedAttempt,
    Ending,
    FunctionInfo,
    HandedBack,
    Lease,
    Progress,
    Report,
    StartedAttempt,
    StopOrder,
    SubmitReply,
    TaskEvent,
    TaskSpec,
    WireStatus,
)
from fastworker._core._pipes import DeadlinePassed
from fastworker._core._results import Results
from fastworker._core._scheduler import Scheduler
from fastworker._core._scheduler_events import (
    Assign,
    AttemptsReported,
    CapacityStated,
    Dispatch,
    OwnerGone,
    SubmitDecided,
    SubworkerJoined,
    SubworkerLost,
    TaskChanged,
    TasksCancelled,
    TasksDescribed,
    TasksSubmitted,
    TasksWatched,
)

EPOCH = 3
CRITICAL, HIGH, NORMAL, LOW = range(4)


class Plane:
    """A scheduler to talk with; every answer is checked against the invariants."""

    def __init__(self) -> None:
        self.now = 50.0
        self.epoch = EPOCH
        results = Results(max_size=1000, ttl=60.0)
        self.scheduler = Scheduler(
            epoch=EPOCH, results=results, now=self.now, rng=random.Random(1)
        )
        self.news: list[TaskEvent] = []  # what clients were told, in order
        self.told: list[tuple[bytes | None, TaskEvent]] = []  # the same, with whom
        self.finals: dict[str, TaskEvent] = {}

    def handle(self, event: object) -> list[object]:
        commands = self.scheduler.handle(event, now=self.now)  # type: ignore[arg-type]
        self.scheduler.check()
        told = [c for c in commands if isinstance(c, TaskChanged)]
        self.news += [c.event for c in told]
        self.told += [(c.owner, c.event) for c in told]
        for command in told:
            if command.is_final:
                task_id = command.event.task_id
                assert task_id not in self.finals, "S2: it ended twice"
                self.finals[task_id] = command.event
        return list(commands)

    def join(self, key: str, *functions: FunctionInfo, slots: int = 1) -> None:
        infos = list(functions) or [FunctionInfo("work", "thread")]
        self.handle(SubworkerJoined(key.encode(), key, "", infos))
        self.capacity(key, {info.lane: slots for info in infos})

    def capacity(self, key: str, capacity: dict[str, int], *, draining: bool = False) -> None:
        self.handle(CapacityStated(key.encode(), Lease(0, capacity, draining)))

    def submit(
        self,
        *ids: str,
        name: str = "work",
        priority: int = NORMAL,
        owner: bytes = b"ann",
        attached: bool = False,
        options: CallOptions | None = None,
        expires: float | None = None,
        budget: float | None = None,
    ) -> SubmitReply:
        specs = [
            TaskSpec(i, name, priority, 1, b"()", 0.0, attached, None, options, expires, budget)
            for i in ids
        ]
        decided = self.handle(TasksSubmitted(owner, specs))[0]
        assert isinstance(decided, SubmitDecided)
        return decided.reply

    def give(self, *keys: str) -> dict[str, list[str]]:
        """Hand out work; what each subworker was given, in order."""
        given: dict[str, list[str]] = {key: [] for key in keys}
        for command in self.handle(Dispatch([key.encode() for key in keys])):
            assert isinstance(command, Assign)
            given[command.key.decode()] = [item.task_id for item in command.assignments]
        return given

    def stops(self, key: str) -> list[str]:
        """Hand out work; which attempts the subworker is to stop."""
        return [item.task_id for item in self.stop_orders(key)]

    def stop_orders(self, key: str) -> list[StopOrder]:
        """Hand out work; what the subworker is told to stop."""
        for command in self.handle(Dispatch([key.encode()])):
            assert isinstance(command, Assign)
            return command.cancels
        return []

    def fence(self, task_id: str) -> int:
        return self.scheduler.open_tasks.by_id[task_id].fence

    def start(self, key: str, *ids: str) -> None:
        started = [StartedAttempt(i, self.fence(i), 1.0) for i in ids]
        self.handle(AttemptsReported(key.encode(), Report(self.epoch, started=started)))

    def end(
        self,
        key: str,
        *ids: str,
        outcome: WireStatus = WireStatus.SUCCESS,
        seconds: float = 1.0,
        error: str = "",
        ending: Ending = Ending.COMPLETED,
        is_retryable: bool = True,
    ) -> None:
        ended = [
            EndedAttempt(
                i,
                self.fence(i),
                outcome,
                1.0,
                2.0,
                seconds,
                error=error,
                ending=ending,
                is_retryable=is_retryable,
            )
            for i in ids
        ]
        self.handle(AttemptsReported(key.encode(), Report(self.epoch, ended=ended)))

    def fail(self, key: str, *ids: str, error: str = "ValueError: bad") -> None:
        self.end(key, *ids, outcome=WireStatus.FAILURE, error=error)

    def interrupt(self, key: str, *ids: str) -> None:
        """Hand back what has started."""
        items = [HandedBack(i, self.fence(i), was_started=True) for i in ids]
        self.handle(AttemptsReported(key.encode(), Report(self.epoch, handed_back=items)))

    def progress(self, key: str, task_id: str, fraction: float, message: str = "") -> None:
        said = [Progress(task_id, self.fence(task_id), fraction, message)]
        self.handle(AttemptsReported(key.encode(), Report(self.epoch, progress=said)))

    def hand_back(self, key: str, *ids: str, **busy: float) -> None:
        items = [HandedBack(i, self.fence(i)) for i in ids]
        report = Report(self.epoch, handed_back=items, busy=busy)
        self.handle(AttemptsReported(key.encode(), report))

    def lose(self, key: str, *, is_clean: bool = False) -> None:
        self.handle(SubworkerLost(key.encode(), f"{key} lost its connection", is_clean))

    def cancel(
        self, *ids: str, grace: float | None = None, watcher: bytes | None = None
    ) -> list[WireStatus]:
        described = self.handle(TasksCancelled(list(ids), grace, watcher))[-1]
        assert isinstance(described, TasksDescribed)
        return [event.status for event in described.events]

    def watch(self, key: bytes, *ids: str, is_owner: bool = False) -> None:
        self.handle(TasksWatched(key, list(ids), is_owner))

    def owner_gone(self, owner: bytes) -> None:
        self.handle(OwnerGone(owner))

    def wait(self, seconds: float) -> None:
        self.now += seconds
        if self.scheduler.next_deadline() <= self.now:
            self.handle(DeadlinePassed())
            assert self.scheduler.next_deadline() > self.now, "the alarm would spin"

    def heard(self, key: bytes, task_id: str) -> list[WireStatus]:
        """What this client was told of a task, in order."""
        return [e.status for k, e in self.told if k == key and e.task_id == task_id]

    def nothing_is_left(self) -> None:
        """B2: once every task has ended, the machine keeps none of them."""
        open_tasks = self.scheduler.open_tasks
        assert not open_tasks.by_id
        assert not len(open_tasks.clients)
        assert not open_tasks.families.children
        assert len(open_tasks._alarms) == len(open_tasks.held._ends) == 0
        assert not open_tasks.retrying
        assert not open_tasks.waiting._suspects
        assert not open_tasks.held._by_name
        assert self.scheduler.next_deadline() == float("inf")

    def status(self, task_id: str) -> WireStatus:
        return self.scheduler.describe(task_id, now=self.now).status

    def run_all(self, key: str) -> list[str]:
        """Run everything on one subworker; the order in which tasks were given."""
        order: list[str] = []
        while given := self.give(key)[key]:
            order += given
            self.end(key, *given)
        return order

    def known_short(self, key: str, name: str = "short", seconds: float = 0.0) -> None:
        """Let the subworker run one task of this name, in no time."""
        self.submit(f"{name}-0", name=name)
        self.give(key)
        self.end(key, f"{name}-0", seconds=seconds)


SHORT = FunctionInfo("short", "thread")
WORK = FunctionInfo("work", "thread")
ASYNC = FunctionInfo("fetch", "loop")
ONCE = FunctionInfo("pay", "thread", on_lost="fail")
