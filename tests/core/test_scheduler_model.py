"""The scheduler as a model: whatever subworkers and clients may say, in any order.

No frames, no sessions: events go straight into the machine, and ``World``
keeps a book of its own that the machine must agree with after every step. It
names the promise that was broken: S2 one terminal state, S3 no invention, S4
idempotent submits, S5 one lease and growing fences, S8 fencing, S9 bounded
attempts, S10 cancel is final, S14 priority, S15 order, S16 credit, S20
numbers agree, L1 everything ends.

The last tests prove that the model can fail.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from fastworker._core import _waiting
from fastworker._core._cancelling import Cancelling
from fastworker._core._deadlines import Deadlines
from fastworker._core._losses import Losses
from fastworker._core._messages import (
    CallOptions,
    Ending,
    HandedBack,
    StartedAttempt,
    TaskSpec,
    WireStatus,
)
from fastworker._core._open_tasks import OpenTasks
from fastworker._core._owners import Owners
from fastworker._core._placement import Round
from fastworker._core._ready_queue import ReadyQueue
from fastworker._core._reports import Reports
from fastworker._core._retry import RetryOverride
from fastworker._core._submitting import Submitting
from fastworker._core._subworkers import SubworkerRecord
from fastworker._core._task_states import Step, TaskRecord
from fastworker._core._tasks_by_client import TasksByClient
from fastworker._core._waiting import WaitingTasks
from tests.core.scheduler_world import (
    EPOCH,
    FINAL,
    FUNCTIONS,
    LANES,
    LEASED,
    Entry,
    Worker,
    World,
    an_end,
)

small = st.integers(0, 11)
names = st.sampled_from([*FUNCTIONS, "work", "trivial", "flaky", "ghost"])
priorities = st.integers(0, 3)
durations = st.sampled_from([0.0, 0.0001, 0.002, 0.02, 3.0])
capacities = st.fixed_dictionaries({lane: st.integers(0, 3) for lane in LANES})
function_sets = st.sets(st.sampled_from(list(FUNCTIONS)), min_size=1).map(sorted)
OWNERS = (b"ann", b"bob")
limits = st.none() | st.sampled_from([0.0, 0.5, 1.0, 5.0])
graces = st.none() | st.sampled_from([0.0, 1.0, 5.0])
# How far back the parent of a task was submitted; 0 is the task itself.
parents = st.none() | st.integers(-1, 4)
overrides = st.none() | st.builds(
    RetryOverride, st.integers(0, 2), st.sampled_from([0.0, 1.0]), jitter=st.just(0.0)
)


class SchedulerModel(RuleBasedStateMachine):
    @initialize(wait=st.booleans())
    def begin(self, wait: bool) -> None:
        self.world = World()
        self.count = 0
        if wait:
            self.world.pass_time(6.0)

    def worker(self, which: int) -> Worker | None:
        workers = list(self.world.workers.values())
        return workers[which % len(workers)] if workers else None

    def spec(
        self,
        name: str,
        priority: int,
        attached: bool = False,
        retry: RetryOverride | None = None,
        parent: int | None = None,
        expires: float | None = None,
        budget: float | None = None,
    ) -> TaskSpec:
        self.count += 1
        options = None
        if retry is not None or parent is not None:
            claimed = "" if parent is None else f"t{self.count - parent}"
            options = CallOptions(retry=retry, parent=claimed)
        task_id = f"t{self.count}"
        return TaskSpec(
            task_id, name, priority, 1, b"()", 0.0, attached, None, options, expires, budget
        )

    # --- clients ---

    @rule(
        owner=st.sampled_from(OWNERS),
        tasks=st.lists(st.tuples(names, priorities, st.booleans()), min_size=1, max_size=5),
    )
    def submit(self, owner: bytes, tasks: list[tuple[str, int, bool]]) -> None:
        self.world.submit(owner, [self.spec(*task) for task in tasks])

    @rule(
        owner=st.sampled_from(OWNERS),
        tasks=st.lists(
            st.tuples(names, priorities, st.booleans(), overrides, parents, limits, limits),
            min_size=1,
            max_size=3,
        ),
    )
    def submit_with_options(self, owner: bytes, tasks: list[Any]) -> None:
        self.world.submit(owner, [self.spec(*task) for task in tasks])

    @precondition(lambda self: self.world.entries)
    @rule(owner=st.sampled_from(OWNERS), which=small, is_same=st.booleans())
    def submit_again(self, owner: bytes, which: int, is_same: bool) -> None:
        entries = list(self.world.entries.values())
        spec = entries[-1 - which % len(entries)].spec
        other = TaskSpec(spec.id, spec.name, spec.priority, 1, b"(1,)", 0.0)
        self.world.submit(owner, [spec if is_same else other])

    @rule(
        tasks=st.lists(small, min_size=1, max_size=3),
        grace=graces,
        watcher=st.none() | st.sampled_from([*OWNERS, b"eve"]),
    )
    def cancel(self, tasks: list[int], grace: float | None, watcher: bytes | None) -> None:
        ids = [f"t{max(1, self.count - task)}" for task in tasks]
        self.world.cancel(ids, grace, watcher)

    @rule(owner=st.sampled_from([*OWNERS, b"eve"]), task=small, is_owner=st.booleans())
    def watch(self, owner: bytes, task: int, is_owner: bool) -> None:
        self.world.watch(owner, [f"t{max(1, self.count - task)}"], is_owner=is_owner)

    @rule(owner=st.sampled_from(OWNERS))
    def owner_gone(self, owner: bytes) -> None:
        self.world.owner_gone(owner)

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0]), is_late=st.booleans())
    def pass_time(self, seconds: float, is_late: bool) -> None:
        if is_late:  # nobody looks at the clock meanwhile
            self.world.now += seconds
            seconds = 0.0
        self.world.pass_time(seconds)

    # --- subworkers come and go ---

    @precondition(lambda self: len(self.world.workers) < 3)
    @rule(functions=function_sets, capacity=capacities, label=st.sampled_from(["w", "v"]))
    def join(self, functions: list[str], capacity: dict[str, int], label: str) -> None:
        self.world.capacity(self.world.join(functions, label), capacity)

    @precondition(lambda self: self.world.workers)
    @rule(which=small, capacity=capacities, draining=st.booleans())
    def state_capacity(self, which: int, capacity: dict[str, int], draining: bool) -> None:
        worker = self.worker(which)
        assert worker is not None
        self.world.capacity(worker, capacity, draining=draining and which > 8)

    @precondition(lambda self: self.world.workers)
    @rule(which=small, is_clean=st.booleans())
    def lose(self, which: int, is_clean: bool) -> None:
        worker = self.worker(which)
        assert worker is not None
        self.world.lose(worker, is_clean=is_clean)

    @precondition(lambda self: self.world.workers)
    @rule(which=st.lists(st.booleans(), min_size=3, max_size=3))
    def dispatch(self, which: list[bool]) -> None:
        workers = list(self.world.workers.values())
        chosen = [w for w, is_in in zip(workers, which, strict=False) if is_in]
        self.world.dispatch(chosen or workers)

    # --- reports ---

    @precondition(lambda self: self.world.workers)
    @rule(which=small, count=st.integers(1, 3))
    def start(self, which: int, count: int) -> None:
        worker = self.worker(which)
        assert worker is not None
        held = [entry for entry in worker.all_held if entry.place == LEASED][:count]
        started = [StartedAttempt(entry.spec.id, entry.fence, 1.0) for entry in held]
        self.world.report(worker.key, started=started)

    @precondition(lambda self: self.world.workers)
    @rule(
        which=small,
        count=st.integers(1, 4),
        outcome=st.sampled_from(FINAL),
        seconds=durations,
        ending=st.sampled_from(Ending),
        is_retryable=st.booleans(),
    )
    def end(
        self,
        which: int,
        count: int,
        outcome: WireStatus,
        seconds: float,
        ending: Ending,
        is_retryable: bool,
    ) -> None:
        worker = self.worker(which)
        assert worker is not None
        ended = [
            an_end(e.spec.id, e.fence, outcome, seconds, ending, is_retryable)
            for e in worker.all_held[:count]
        ]
        self.world.report(worker.key, ended=ended)

    @precondition(lambda self: self.world.workers)
    @rule(
        which=small, count=st.integers(1, 4), is_retryable=st.sampled_from([True, True, False])
    )
    def fail(self, which: int, count: int, is_retryable: bool) -> None:
        worker = self.worker(which)
        assert worker is not None
        failed = WireStatus.FAILURE
        ended = [
            an_end(e.spec.id, e.fence, failed, is_retryable=is_retryable)
            for e in worker.all_held[:count]
        ]
        self.world.report(worker.key, ended=ended)

    @precondition(lambda self: self.world.workers)
    @rule(which=small, count=st.integers(1, 4), is_told=st.booleans())
    def interrupt(self, which: int, count: int, is_told: bool) -> None:
        """Started attempts go back, whether or not their start was told."""
        worker = self.worker(which)
        assert worker is not None
        held = worker.all_held[:count]
        started = [StartedAttempt(e.spec.id, e.fence, 1.0) for e in held if e.place == LEASED]
        items = [HandedBack(e.spec.id, e.fence, was_started=True) for e in held]
        self.world.report(worker.key, started=started if is_told else [], handed_back=items)

    @precondition(lambda self: self.world.workers)
    @rule(which=small, count=st.integers(1, 9))
    def hand_back(self, which: int, count: int) -> None:
        worker = self.worker(which)
        assert worker is not None
        items = [
            HandedBack(entry.spec.id, entry.fence)
            for entry in worker.all_held[-count:]
            if entry.place == LEASED
        ]
        self.world.report(worker.key, handed_back=items, busy={"trivial": 0.02})

    @precondition(lambda self: self.world.leases)
    @rule(
        lease=st.integers(0, 30),
        what=st.sampled_from(["started", "ended", "handed_back", "all"]),
        twist=st.sampled_from(["", "", "key", "attempt", "epoch", "twice", "unknown"]),
        outcome=st.sampled_from([*FINAL, WireStatus.EVICTED]),
    )
    def report_anything(self, lease: int, what: str, twist: str, outcome: WireStatus) -> None:
        """Of any lease that ever was: late, doubled, by another, of another time."""
        leases = self.world.leases
        key, task_id, attempt = leases[-1 - lease % len(leases)]
        key = leases[0][0] if twist == "key" else key
        attempt += twist == "attempt"
        task_id = "t-unknown" if twist == "unknown" else task_id
        times = 2 if twist == "twice" else 1
        started = [StartedAttempt(task_id, attempt, 1.0)] * times
        ended = [an_end(task_id, attempt, outcome, 0.0001)] * times
        back = [HandedBack(task_id, attempt)] * times
        self.world.report(
            key,
            EPOCH - 1 if twist == "epoch" else EPOCH,
            started=started if what in ("started", "all") else [],
            ended=ended if what in ("ended", "all") else [],
            handed_back=back if what in ("handed_back", "all") else [],
        )

    # --- stories: moves that seldom meet by chance ---

    def fresh_worker(self, capacity: int) -> Worker:
        worker = self.world.join(FUNCTIONS)
        self.world.capacity(worker, dict.fromkeys(LANES, capacity))
        return worker

    @rule(name=st.sampled_from(["work", "once", "trivial"]), priority=priorities)
    def a_task_kills_whoever_runs_it(self, name: str, priority: int) -> None:
        self.world.join(FUNCTIONS)
        self.world.submit(b"ann", [self.spec(name, priority)])
        entry = list(self.world.entries.values())[-1]
        for _ in range(6):
            worker = self.fresh_worker(2)
            self.world.dispatch([worker])
            if entry.worker is worker:
                self.world.lose(worker, is_clean=False)
            else:
                self.world.lose(worker, is_clean=True)

    @rule(extra=st.lists(st.tuples(names, priorities), max_size=6), back=small)
    def short_tasks_are_sent_ahead(self, extra: list[tuple[str, int]], back: int) -> None:
        worker = self.fresh_worker(1)
        specs = [self.spec("trivial", 1) for _ in range(14)]
        self.world.submit(b"bob", [*specs, *(self.spec(*task) for task in extra)])
        for _ in range(3):
            self.world.dispatch([worker])
            held = worker.held["thread"]
            ended = [an_end(e.spec.id, e.fence, seconds=0.0001) for e in held[:2]]
            self.world.report(worker.key, ended=ended)
        self.world.dispatch([worker])
        last = worker.held["thread"][-1 - back :]
        items = [HandedBack(e.spec.id, e.fence) for e in last if e.place == LEASED]
        self.world.report(worker.key, handed_back=items, busy={"trivial": 0.02})

    @rule(
        delays=st.lists(st.sampled_from([0.5, 1.0, 2.0]), min_size=1, max_size=4),
        budget=limits,
        retry=overrides,
        name=st.sampled_from(["flaky", "flaky", "once"]),
        is_cancelled=st.booleans(),
    )
    def a_task_fails_again_and_again(
        self,
        delays: list[float],
        budget: float | None,
        retry: RetryOverride | None,
        name: str,
        is_cancelled: bool,
    ) -> None:
        worker = self.fresh_worker(2)
        self.world.submit(b"ann", [self.spec(name, 0, False, retry, None, budget, budget)])
        entry = list(self.world.entries.values())[-1]
        for delay in delays:
            self.world.dispatch([worker])
            if entry.worker is not None:
                if is_cancelled and delay > 1.0:
                    self.world.cancel([entry.spec.id])
                end = an_end(entry.spec.id, entry.fence, WireStatus.FAILURE)
                self.world.report(entry.worker.key, ended=[end])
            self.world.pass_time(delay)

    @rule(
        depth=st.integers(1, 4),
        outcome=st.sampled_from(FINAL),
        ending=st.sampled_from(Ending),
        grace=graces,
        is_cancelled=st.booleans(),
    )
    def a_family_and_its_end(
        self,
        depth: int,
        outcome: WireStatus,
        ending: Ending,
        grace: float | None,
        is_cancelled: bool,
    ) -> None:
        worker = self.fresh_worker(2)
        self.world.submit(b"ann", [self.spec("async", 0)])
        eldest = list(self.world.entries.values())[-1]
        self.world.dispatch([worker])
        for _ in range(depth):
            self.world.submit(b"bob", [self.spec("async", 0, parent=1)])
            self.world.dispatch([worker])
        if is_cancelled:
            self.world.cancel([eldest.spec.id], 2.0, b"eve")
            self.world.cancel([eldest.spec.id], grace)
            if depth > 2:
                self.world.watch(b"eve", [eldest.spec.id])  # from now on it is hers
            self.world.submit(b"bob", [self.spec("async", 0, parent=depth + 1)])
        if eldest.worker is not None:
            end = an_end(eldest.spec.id, eldest.fence, outcome, 1.0, ending)
            self.world.report(eldest.worker.key, ended=[end])
        self.world.submit(b"bob", [self.spec("late", 0, parent=self.count - depth)])

    @rule(which=small, name=names)
    def a_suspect_waits_while_work_goes_on(self, which: int, name: str) -> None:
        worker = self.worker(which)
        if worker is not None:
            self.world.dispatch([worker])
            self.world.lose(worker, is_clean=False)
        self.world.submit(b"ann", [self.spec(name, which % 4) for _ in range(2)])
        for worker in list(self.world.workers.values()):
            self.world.dispatch([worker])
            held: list[Entry] = worker.all_held[:1]
            ended = [an_end(entry.spec.id, entry.fence) for entry in held]
            self.world.report(worker.key, ended=ended)

    @rule(capacity=st.integers(1, 3), outcome=st.sampled_from(FINAL))
    def the_dead_report_late(self, capacity: int, outcome: WireStatus) -> None:
        """A subworker that was given up comes back with its news."""
        self.world.submit(b"ann", [self.spec("work", 0) for _ in range(capacity)])
        dead = self.fresh_worker(capacity)
        self.world.dispatch([dead])
        fences = [(entry.spec.id, entry.fence) for entry in dead.all_held]
        self.world.lose(dead, is_clean=False)
        self.world.dispatch([self.fresh_worker(capacity)])
        self.world.report(dead.key, ended=[an_end(*fence, outcome) for fence in fences])

    # --- what must hold ---

    @invariant()
    def the_book_agrees(self) -> None:
        self.world.check()

    def teardown(self) -> None:
        if hasattr(self, "world") and self.world.is_sound:
            self.world.finish()


BUDGET = settings(
    max_examples=200,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
SchedulerModel.TestCase.settings = BUDGET
TestSchedulerModel = SchedulerModel.TestCase


# --- the model can fail -----------------------------------------------------


def a_lost_task_is_not_queued_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def requeue(self: OpenTasks, record: TaskRecord, step: Step, commands: Any) -> None:
        record.step(step)

    monkeypatch.setattr(OpenTasks, "requeue", requeue)


def a_late_report_is_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    def current(self: Reports, task_id: str, attempt: int, key: bytes, epoch: int) -> Any:
        record = self._open.by_id.get(task_id)
        return record if record is not None and record.worker is not None else None

    monkeypatch.setattr(Reports, "current", current)


def one_more_than_the_capacity(monkeypatch: pytest.MonkeyPatch) -> None:
    original: Callable[..., bool] = SubworkerRecord.can_take

    def can_take(self: SubworkerRecord, record: TaskRecord) -> bool:
        function = self.functions.get(record.spec.name)
        if function and not (self.is_draining or self.solo or self.reserved_for):
            lane = self.lanes[function.lane]
            if lane.capacity and len(lane.leased) == lane.capacity:
                return True
        return original(self, record)

    monkeypatch.setattr(SubworkerRecord, "can_take", can_take)


def a_deadline_stays_when_it_has_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    def pop_due(self: Deadlines[Any], now: float) -> list[Any]:
        return [key for key, at in self._times.items() if at <= now]

    monkeypatch.setattr(Deadlines, "pop_due", pop_due)


def the_newest_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    original: Callable[..., None] = ReadyQueue.push

    def push(self: ReadyQueue, record: TaskRecord) -> None:
        original(self, record)
        fresh = self._lines[record.spec.priority][record.spec.name].fresh
        if fresh and fresh[-1] is record:
            fresh.appendleft(fresh.pop())

    monkeypatch.setattr(ReadyQueue, "push", push)
    monkeypatch.setattr(ReadyQueue, "check", lambda self: None)


def priorities_are_served_backwards(monkeypatch: pytest.MonkeyPatch) -> None:
    original: Callable[..., None] = WaitingTasks._place_ready

    def place(self: WaitingTasks, priority: int, *rest: Any) -> None:
        original(self, 3 - priority, *rest)

    monkeypatch.setattr(WaitingTasks, "_place_ready", place)


def short_tasks_may_overtake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Round, "close_lane", lambda self, name: None)


def the_fence_does_not_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    original: Callable[..., None] = Round.lease

    def lease(self: Round, record: TaskRecord) -> None:
        record.fence = 0
        original(self, record)

    monkeypatch.setattr(Round, "lease", lease)


def a_suspect_runs_beside_others(monkeypatch: pytest.MonkeyPatch) -> None:
    original: Callable[..., bool] = SubworkerRecord.can_take

    def can_take(self: SubworkerRecord, record: TaskRecord) -> bool:
        solo, self.solo = self.solo, None
        answer = original(self, record)
        self.solo = solo
        return answer

    monkeypatch.setattr(SubworkerRecord, "can_take", can_take)


def solo_losses_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    original: Callable[..., None] = Losses.lose_all

    def lose_all(self: Losses, worker: SubworkerRecord, *args: Any) -> None:
        for lane in worker.lanes.values():
            for record in lane.leased.values():
                record.losses = ()
        original(self, worker, *args)

    monkeypatch.setattr(Losses, "lose_all", lose_all)


def other_content_under_a_used_id_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TaskRecord, "has_content", lambda self, spec: True)


def a_cancelled_task_is_still_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def discard(self: ReadyQueue, record: TaskRecord) -> None:
        self._dead += 1

    monkeypatch.setattr(ReadyQueue, "discard", discard)


def a_cancel_is_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    original: Callable[..., None] = Cancelling.cancel

    def cancel(self: Cancelling, record: TaskRecord, *args: Any) -> None:
        original(self, record, *args)
        if record.worker is not None:
            record.worker.cancels.clear()

    monkeypatch.setattr(Cancelling, "cancel", cancel)


def a_reservation_outlives_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_waiting, "_take_reservations", lambda workers: {})
    monkeypatch.setattr(_waiting, "_drop_reservation", lambda record, workers: None)


def a_task_is_retried_once_too_often(monkeypatch: pytest.MonkeyPatch) -> None:
    original: Callable[..., None] = TaskRecord.fail

    def fail(self: TaskRecord, *args: Any) -> None:
        original(self, *args)
        self.failures -= self.failures == 2

    monkeypatch.setattr(TaskRecord, "fail", fail)


def a_cancelled_task_is_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    original: Callable[..., bool] = Reports._retry

    def retry(self: Reports, record: TaskRecord, *args: Any) -> bool:
        record.is_cancel_requested = False
        return original(self, record, *args)

    monkeypatch.setattr(Reports, "_retry", retry)


def what_comes_back_has_no_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    original: Callable[..., None] = OpenTasks.requeue

    def requeue(self: OpenTasks, record: TaskRecord, *args: Any) -> None:
        original(self, record, *args)
        self._alarms.clear(record.spec.id)

    monkeypatch.setattr(OpenTasks, "requeue", requeue)


def what_was_started_in_time_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    original: Callable[..., None] = TaskRecord.note_started

    def note_started(self: TaskRecord) -> None:
        expires_at = self.expires_at
        original(self)
        self.expires_at = expires_at

    monkeypatch.setattr(TaskRecord, "note_started", note_started)


def an_interrupted_attempt_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    original: Callable[..., None] = TaskRecord.note_started

    def note_started(self: TaskRecord) -> None:
        original(self)
        self.last_ending = Ending.NEVER_STARTED

    monkeypatch.setattr(TaskRecord, "note_started", note_started)


def children_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    def forget(self: Cancelling, *args: Any) -> None:
        self._open.families.doomed.clear()

    monkeypatch.setattr(Cancelling, "cancel_doomed", forget)


def orphans_are_taken_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Submitting, "_is_orphan", lambda self, *args: False)


def the_owner_watches_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def note_owner(self: Owners, record: TaskRecord, key: bytes) -> None:
        self._open.clients.add(key, record)

    def remove(self: TasksByClient, key: bytes, task_id: str) -> None:
        tasks = self._of.get(key, {})
        tasks.pop(task_id, None)  # it is there once, and goes twice
        if not tasks:
            self._of.pop(key, None)

    monkeypatch.setattr(Owners, "_note_owner", note_owner)
    monkeypatch.setattr(TasksByClient, "remove", remove)
    monkeypatch.setattr(TasksByClient, "check", lambda *_: None)


def a_shorter_grace_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    original: Callable[..., None] = SubworkerRecord.stop

    def stop(self: SubworkerRecord, order: Any) -> None:
        if (order.task_id, order.grace is None) not in self.cancels:
            original(self, order)

    monkeypatch.setattr(SubworkerRecord, "stop", stop)


@pytest.mark.parametrize(
    ("mutate", "complaint"),
    [
        (a_lost_task_is_not_queued_again, "S20: counted"),
        (a_late_report_is_applied, "S8: .* ended, and nothing live said so|S20"),
        (one_more_than_the_capacity, "S16: "),
        (a_deadline_stays_when_it_has_passed, "the alarm would spin"),
        (the_newest_comes_first, "S14/S15: |S15: given out of order"),
        (priorities_are_served_backwards, "S15: given out of order|S14/S15: "),
        (short_tasks_may_overtake, "S14/S15: "),
        (the_fence_does_not_grow, "S5: the fence"),
        (a_suspect_runs_beside_others, "S9: a suspect does not run alone|attempts miscounted"),
        (solo_losses_are_forgotten, "should have ended"),
        (other_content_under_a_used_id_is_taken, "S4: refused"),
        (a_cancelled_task_is_still_counted, "S20: counted"),
        (a_cancel_is_not_passed_on, "S10: a cancel got lost"),
        (a_reservation_outlives_its_reason, "L1: "),
        (a_task_is_retried_once_too_often, "S9: |should have ended"),
        (a_cancelled_task_is_retried, "should have ended"),
        (what_comes_back_has_no_alarm, "past their time|should have ended"),
        (what_was_started_in_time_expires, "S8: .* ended, and nothing live said so|S20"),
        (an_interrupted_attempt_is_forgotten, "promise 2: "),
        (children_are_forgotten, "should have ended|S10: a cancel got lost"),
        (orphans_are_taken_in, "should have ended"),
        (the_owner_watches_too, "S12: "),
        (a_shorter_grace_is_not_told, "S10: a cancel got lost"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "x",
)
def test_the_model_notices_a_broken_rule(
    mutate: Callable[[pytest.MonkeyPatch], None],
    complaint: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mutate(monkeypatch)
    thorough = settings(
        BUDGET,
        max_examples=1500,
        report_multiple_bugs=False,
        phases=[Phase.generate],
        database=None,
        derandomize=True,
    )
    with pytest.raises(AssertionError, match=complaint):
        run_state_machine_as_test(SchedulerModel, settings=thorough)
