"""A Scheduler, and beside it a simple book of what it must have done by now.

The book (``Entry`` for each task, ``Worker`` for each subworker) is kept from
the events alone and from what was given out. ``World`` sends an event, works
out by itself what has to follow, and complains about every difference, by
the name of the promise (see reliability: S2 to S20, L1).
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable

from fastworker._core._held_tasks import UNKNOWN_NAME_SECONDS
from fastworker._core._losses import MAX_SOLO_LOSSES
from fastworker._core._messages import (
    EndedAttempt,
    Ending,
    FunctionInfo,
    HandedBack,
    Lease,
    RefusalCode,
    Report,
    StartedAttempt,
    TaskEvent,
    TaskSpec,
    WireStatus,
)
from fastworker._core._pipes import DeadlinePassed
from fastworker._core._results import Results
from fastworker._core._retry import RetryPolicy, delay_without_jitter
from fastworker._core._scheduler import Scheduler
from fastworker._core._scheduler_events import (
    Assign,
    AttemptsReported,
    CapacityStated,
    Dispatch,
    OwnerGone,
    SchedulerCommand,
    SchedulerEvent,
    SubmitDecided,
    SubworkerJoined,
    SubworkerLost,
    TaskChanged,
    TasksCancelled,
    TasksDescribed,
    TasksSubmitted,
    TasksWatched,
)
from fastworker._core._subworkers import PREFETCH_SECONDS

EPOCH = 7
FUNCTIONS = {
    "work": FunctionInfo("work", "thread"),
    "trivial": FunctionInfo("trivial", "thread"),
    "once": FunctionInfo("once", "thread", on_lost="fail"),
    "async": FunctionInfo("async", "loop"),
    "flaky": FunctionInfo("flaky", "thread", retry=RetryPolicy(2, 1.0, jitter=0.0)),
    "late": FunctionInfo("late", "loop"),
    "slow": FunctionInfo("slow", "process"),
}
LANES = ("thread", "loop", "process")
LONGEST_RETRY = 60.0
FINAL = (WireStatus.SUCCESS, WireStatus.FAILURE, WireStatus.CANCELLED, WireStatus.EXPIRED)
HELD, READY, LEASED, STARTED, REFUSED = "held", "ready", "leased", "started", "refused"
RETRYING = "retrying"


class Entry:
    """What the book says of a task."""

    def __init__(self, spec: TaskSpec, order: int, owner: bytes) -> None:
        self.spec = spec
        self.order = order
        self.owner: bytes | None = owner
        self.place = READY
        self.ended: WireStatus | None = None
        self.fence = 0
        self.uncounted = 0
        self.worker: Worker | None = None
        self.cancel_asked = False
        self.is_solo = False
        self.losses: list[str] = []
        self.held_until = 0.0
        self.watchers: list[bytes] = []
        self.expires_at = self.deadline_at = self.retry_at = math.inf
        self.failures = 0
        self.has_run = False  # a start was told, or nobody knows
        self.has_completed = False

    def __repr__(self) -> str:
        return f"<{self.spec.id} {self.spec.name} p{self.spec.priority} {self.place}>"

    @property
    def rank(self) -> tuple[int, int]:
        return self.spec.priority, self.order

    @property
    def is_live(self) -> bool:
        return self.ended is None and self.place != REFUSED

    @property
    def parent(self) -> str:
        return self.spec.options.parent if self.spec.options is not None else ""

    @property
    def policy(self) -> RetryPolicy:
        policy, options = FUNCTIONS[self.spec.name].retry, self.spec.options
        if options is None or options.retry is None:
            return policy
        return options.retry.applied_to(policy)

    @property
    def alarm(self) -> float:
        """When something has to happen by itself."""
        if self.worker is not None or not self.is_live:
            return math.inf
        return min(self.expires_at, self.deadline_at, self.retry_at)


class Worker:
    """What the book says of a subworker."""

    def __init__(self, key: bytes, names: Iterable[str]) -> None:
        self.key = key
        self.names = list(names)
        self.capacity = dict.fromkeys(LANES, 0)
        self.is_draining = False
        self.held: dict[str, list[Entry]] = {lane: [] for lane in LANES}  # in order of leasing
        self.blocked: set[str] = set()
        self.shortest: dict[str, float] = {}  # the shortest run of each name
        self.to_stop: dict[tuple[str, int], set[float]] = {}  # inf: the function's grace

    @property
    def all_held(self) -> list[Entry]:
        return [entry for lane in self.held.values() for entry in lane]

    def stop_orders(self) -> list[tuple[str, int, float | None]]:
        """For each attempt the shortest grace, and once that of its function."""
        orders: list[tuple[str, int, float | None]] = []
        for (task_id, fence), graces in self.to_stop.items():
            if math.inf in graces:
                orders.append((task_id, fence, None))
            if min(graces) < math.inf:
                orders.append((task_id, fence, min(graces)))
        return sorted(orders, key=str)

    def lane(self, name: str) -> str:
        return FUNCTIONS[name].lane


class World:
    """See the module's first lines."""

    def __init__(self) -> None:
        self.start = self.now = 100.0
        self.scheduler = Scheduler(
            epoch=EPOCH,
            results=Results(max_size=10_000, ttl=1e9),
            now=self.now,
            rng=random.Random(1),
        )
        self.entries: dict[str, Entry] = {}
        self.workers: dict[bytes, Worker] = {}
        self.known: set[str] = set()
        self.leases: list[tuple[bytes, str, int]] = []  # all that were ever given
        self.submitted = self.refused = self.stale = self.order = self.joined = 0
        self.ended = dict.fromkeys(FINAL, 0)
        self.is_sound = True  # no complaint so far

    # --- sending events ---

    def _send(
        self, event: SchedulerEvent, finals: dict[str, WireStatus] | None = None
    ) -> list[SchedulerCommand]:
        """Send it. ``finals`` are the tasks that must end by it, and no others may."""
        self.is_sound = False
        commands = self.scheduler.handle(event, now=self.now)
        self._judge(commands, finals or {})
        return commands

    def _judge(self, commands: list[SchedulerCommand], expected: dict[str, WireStatus]) -> None:
        """Compare who was told of which ends with who should have been."""
        ended: dict[str, TaskEvent] = {}
        heard: dict[str, list[bytes | None]] = {}
        for command in commands:
            if isinstance(command, TaskChanged):
                entry = self.entries.get(command.event.task_id)
                assert entry is not None, f"S3: news of a task nobody submitted: {command}"
                hearers = [entry.owner, *entry.watchers]
                assert command.owner in hearers, "news went to the wrong owner"
                if command.is_final:
                    assert entry.spec.id not in ended, "S2: ended twice"
                    ended[entry.spec.id] = command.event
                if command.event.task_id in ended:
                    heard.setdefault(command.event.task_id, []).append(command.owner)
        for task_id, told in ended.items():
            entry = self.entries[task_id]
            assert entry.ended is None, f"S2: {entry} ended before as {entry.ended}"
            assert task_id in expected, f"S8: {entry} ended, and nothing live said so"
            want = expected[task_id]
            assert told.status is want, f"S10: {entry} ended as {told.status!r}, not {want!r}"
            assert told.attempts == entry.fence - entry.uncounted, "attempts miscounted"
            hearers = [entry.owner, *entry.watchers]
            assert sorted(map(str, heard[task_id])) == sorted(map(str, hearers)), (
                f"S12: {heard[task_id]} heard of the end, not {hearers}"
            )
            if told.ending is Ending.NEVER_STARTED:
                assert not entry.has_run, f"promise 2: {entry} has run"
            if not entry.fence:
                assert told.ending is Ending.NEVER_STARTED, f"promise 2: {entry} never ran"
            entry.has_completed = told.ending is Ending.COMPLETED
            self._end(entry, told.status)
        for task_id in expected:
            assert task_id in ended, f"{self.entries[task_id]} should have ended"

    def _take_along(self, finals: dict[str, WireStatus], roots: list[Entry]) -> None:
        """Whatever is cancelled takes its children along: those that wait end now."""
        roots = list(roots)
        while roots:
            parent = roots.pop().spec.id
            for entry in self.entries.values():
                is_done = not entry.is_live or entry.cancel_asked or entry.spec.id in finals
                if entry.parent == parent and not is_done:
                    self._ask(entry, None, finals)
                    roots.append(entry)

    def _ask(self, entry: Entry, grace: float | None, finals: dict[str, WireStatus]) -> None:
        """The book's side of one cancel."""
        if entry.worker is None:
            finals[entry.spec.id] = WireStatus.CANCELLED
        elif not entry.cancel_asked or grace is not None:
            entry.cancel_asked = True
            graces = entry.worker.to_stop.setdefault((entry.spec.id, entry.fence), set())
            graces.add(math.inf if grace is None else grace)

    def _end(self, entry: Entry, status: WireStatus) -> None:
        entry.ended = status
        entry.place = status.name
        self.ended[status] += 1
        self._release(entry)

    def _release(self, entry: Entry) -> None:
        if entry.worker is not None:
            entry.worker.held[entry.worker.lane(entry.spec.name)].remove(entry)
            entry.worker = None

    def _back(self, entry: Entry) -> None:
        self._release(entry)
        entry.place = READY

    def submit(self, owner: bytes, specs: list[TaskSpec]) -> None:
        conflicts: list[int] = []
        unknown: list[int] = []
        held: list[int] = []
        queued: list[str] = []
        again: list[str] = []
        finals: dict[str, WireStatus] = {}
        for index, spec in enumerate(specs):
            entry = self.entries.get(spec.id)
            if entry is not None and entry.place != REFUSED:
                if _content(entry.spec) != _content(spec):
                    conflicts.append(index)
                elif entry.is_live and spec.id not in finals:
                    self._own(entry, owner)
                    if entry.place == HELD:
                        held.append(index)
                else:
                    again.append(spec.id)
                continue
            self.submitted += 1
            if spec.name not in self.known and self._is_settled():
                self.refused += 1
                unknown.append(index)
                continue
            self.order += 1
            entry = self.entries[spec.id] = Entry(spec, self.order, owner)
            entry.expires_at = math.inf if spec.expires is None else self.now + spec.expires
            entry.deadline_at = math.inf if spec.budget is None else self.now + spec.budget
            if spec.name in self.known:
                queued.append(spec.id)
            else:
                entry.place = HELD
                entry.held_until = self.now + UNKNOWN_NAME_SECONDS
                held.append(index)
            if self._is_orphan(entry, finals):
                finals[spec.id] = WireStatus.CANCELLED
        self._take_along(finals, [self.entries[task_id] for task_id in finals])
        self.is_sound = False
        commands = self.scheduler.handle(TasksSubmitted(owner, specs), now=self.now)
        decided = commands[0]
        assert isinstance(decided, SubmitDecided)
        refusals = {r.index: r.code for r in decided.reply.refusals}
        wrong = {**dict.fromkeys(conflicts, RefusalCode.CONFLICT)}
        wrong |= dict.fromkeys(unknown, RefusalCode.UNKNOWN_TASK)
        assert refusals == wrong, f"S4: refused {refusals}, should be {wrong}"
        assert [r.spec.id for r in decided.queued] == queued, "S4: a repeat was queued again"
        assert decided.reply.held == held
        told: list[str] = []
        news: list[SchedulerCommand] = []
        for command in commands[1:]:
            assert isinstance(command, TaskChanged)
            task_id = command.event.task_id
            # One that is submitted twice in one batch may have ended between.
            if task_id in again and not command.is_final and command.owner == owner:
                told.append(task_id)
            else:
                news.append(command)
        assert told == again, "S4: who submits an ended task again is told its outcome"
        self._judge(news, finals)

    def _is_orphan(self, entry: Entry, finals: dict[str, WireStatus]) -> bool:
        parent = self.entries.get(entry.parent)
        if parent is None or parent is entry or parent.place == REFUSED:
            return False
        if parent.is_live:
            return parent.cancel_asked or parent.spec.id in finals
        return not parent.has_completed

    def _own(self, entry: Entry, owner: bytes) -> None:
        entry.owner = owner
        if owner in entry.watchers:
            entry.watchers.remove(owner)

    def _is_settled(self) -> bool:
        return bool(self.workers) and self.now >= self.start + UNKNOWN_NAME_SECONDS

    def join(self, names: Iterable[str], worker_id: str = "w") -> Worker:
        self.joined += 1
        worker = Worker(b"worker-%d" % self.joined, names)
        functions = [FUNCTIONS[name] for name in worker.names]
        self.workers[worker.key] = worker
        self.known |= set(worker.names)
        for entry in self.entries.values():
            if entry.place == HELD and entry.spec.name in self.known:
                entry.place = READY
        commands = self._send(SubworkerJoined(worker.key, worker_id, "", functions))
        queued = [r.spec.id for c in commands if isinstance(c, SubmitDecided) for r in c.queued]
        assert len(queued) == len(set(queued))
        return worker

    def capacity(
        self, worker: Worker, capacity: dict[str, int], *, draining: bool = False
    ) -> None:
        worker.capacity = {lane: capacity.get(lane, 0) for lane in LANES}
        worker.is_draining = draining
        self._send(CapacityStated(worker.key, Lease(0, capacity, draining)))

    def lose(self, worker: Worker, *, is_clean: bool) -> None:
        finals: dict[str, WireStatus] = {}
        back: list[Entry] = []
        suspects: list[Entry] = []
        # Those that wait for it do not run beside it.
        given = [task_id for key, task_id, _ in self.leases if key == worker.key]
        solo = [entry for entry in worker.all_held if entry.is_solo]
        alone = max(
            solo, key=lambda entry: len(given) - given[::-1].index(entry.spec.id), default=None
        )
        for lane, held in worker.held.items():
            for position, entry in enumerate(held):
                slots = max(worker.capacity[lane], 1)
                is_suspect = not is_clean and (position < slots or entry.place == STARTED)
                entry.has_run |= is_suspect or entry.place == STARTED
                if entry.cancel_asked:
                    finals[entry.spec.id] = WireStatus.CANCELLED
                elif FUNCTIONS[entry.spec.name].on_lost == "fail":
                    finals[entry.spec.id] = WireStatus.FAILURE
                elif is_suspect and entry is alone:
                    entry.losses.append("gone")
                    if len(entry.losses) >= MAX_SOLO_LOSSES:
                        finals[entry.spec.id] = WireStatus.FAILURE
                    else:
                        back.append(entry)
                else:
                    entry.uncounted += 1
                    back.append(entry)
                    if is_suspect:
                        suspects.append(entry)
        del self.workers[worker.key]
        for entry in back:
            self._back(entry)
        for entry in suspects:
            entry.is_solo = True
        self._take_along(finals, [self.entries[task_id] for task_id in finals])
        commands = self._send(SubworkerLost(worker.key, "gone", is_clean), finals)
        for command in commands:
            if isinstance(command, TaskChanged) and command.is_final:
                losses = self.entries[command.event.task_id].losses
                if len(losses) >= MAX_SOLO_LOSSES:
                    assert "gone; gone; gone" in command.event.error, "S9: without reasons"

    def report(
        self,
        key: bytes,
        epoch: int = EPOCH,
        *,
        started: list[StartedAttempt] | None = None,
        ended: list[EndedAttempt] | None = None,
        handed_back: list[HandedBack] | None = None,
        busy: dict[str, float] | None = None,
    ) -> None:
        """Any report, honest or not; the book applies what is live."""
        report = Report(epoch, started or [], ended or [], handed_back or [], busy or {})
        finals: dict[str, WireStatus] = {}
        back: list[Entry] = []
        gone: set[str] = set()
        roots: list[Entry] = []
        for start in report.started:
            entry = self._live(key, start.task_id, start.attempt, epoch)
            if entry is None or entry.place != LEASED:
                self.stale += 1
            else:
                entry.place = STARTED
                entry.has_run = True
                entry.expires_at = math.inf
        for end in report.ended:
            entry = self._live(key, end.task_id, end.attempt, epoch)
            if entry is None or end.task_id in gone:
                self.stale += 1
                continue
            gone.add(end.task_id)
            status = self._status_of(entry, end)
            retry_in = self._retry_in(entry, end) if status is WireStatus.FAILURE else None
            assert entry.worker is not None
            entry.worker.blocked.discard(entry.worker.lane(entry.spec.name))
            shortest = entry.worker.shortest
            shortest[entry.spec.name] = min(
                shortest.get(entry.spec.name, math.inf), end.seconds
            )
            if end.ending is not Ending.NEVER_STARTED:
                entry.has_run = True
            if retry_in is None:
                finals[end.task_id] = status
                if end.ending is not Ending.COMPLETED:
                    roots.append(entry)
                continue
            self._release(entry)
            entry.place = RETRYING
            entry.failures += 1
            entry.expires_at = math.inf
            entry.retry_at = self.now + retry_in
        for item in report.handed_back:
            entry = self._live(key, item.task_id, item.attempt, epoch)
            if entry is None or item.task_id in gone:
                self.stale += 1
                continue
            gone.add(item.task_id)
            entry.uncounted += 1
            assert entry.worker is not None
            was_started = item.was_started or entry.place == STARTED
            if was_started:
                entry.worker.blocked.discard(entry.worker.lane(entry.spec.name))
                entry.expires_at = math.inf
                entry.has_run = True
            else:
                entry.worker.blocked.add(entry.worker.lane(entry.spec.name))
            if entry.cancel_asked:
                finals[item.task_id] = WireStatus.CANCELLED
                roots.append(entry)
            elif was_started and FUNCTIONS[entry.spec.name].on_lost == "fail":
                finals[item.task_id] = WireStatus.FAILURE
                roots.append(entry)
            else:
                back.append(entry)
        worker = self.workers.get(key)
        for name, seconds in report.busy.items():
            if worker is not None and name in worker.names:
                worker.shortest.setdefault(name, seconds)
        for entry in back:
            self._back(entry)
        self._take_along(finals, roots)
        self._send(AttemptsReported(key, report), finals)

    def _status_of(self, entry: Entry, end: EndedAttempt) -> WireStatus:
        """What becomes of the task, if this is its last attempt."""
        status = end.outcome if end.outcome in FINAL else WireStatus.FAILURE
        has_limit = min(entry.expires_at, entry.deadline_at) < math.inf
        if status is WireStatus.EXPIRED and (entry.place == STARTED or not has_limit):
            return WireStatus.FAILURE
        if status is WireStatus.CANCELLED and not entry.cancel_asked:
            return WireStatus.FAILURE
        return status

    def _retry_in(self, entry: Entry, end: EndedAttempt) -> float | None:
        """After how long it runs again, None for never."""
        at_most_once = FUNCTIONS[entry.spec.name].on_lost == "fail"
        if entry.cancel_asked or at_most_once or not end.is_retryable:
            return None
        if entry.failures >= entry.policy.max_retries:
            return None
        delay = delay_without_jitter(entry.policy, entry.failures + 1)
        return delay if self.now + delay < entry.deadline_at else None

    def _live(self, key: bytes, task_id: str, attempt: int, epoch: int) -> Entry | None:
        """The entry if this fence is the live one (S8)."""
        entry = self.entries.get(task_id)
        if entry is None or entry.worker is None or entry.worker.key != key:
            return None
        return entry if entry.fence == attempt and epoch == EPOCH else None

    def cancel(
        self, ids: list[str], grace: float | None = None, watcher: bytes | None = None
    ) -> None:
        finals: dict[str, WireStatus] = {}
        entries = [self.entries[i] for i in ids if i in self.entries]
        entries = [entry for entry in entries if entry.is_live]
        for entry in entries:
            if entry.spec.id not in finals:
                if watcher is not None:
                    self._watch(entry, watcher)
                self._ask(entry, grace, finals)
        self._take_along(finals, entries)
        before = {i: self._status(i) for i in ids}
        commands = self._send(TasksCancelled(ids, grace, watcher), finals)
        described = commands[-1]
        assert isinstance(described, TasksDescribed)
        for task_id, event in zip(ids, described.events, strict=True):
            want = WireStatus.CANCELLED if task_id in finals else before[task_id]
            assert event.status is want, f"S10: the answer to a CANCEL says {event.status!r}"

    def _watch(self, entry: Entry, key: bytes) -> None:
        if key != entry.owner and key not in entry.watchers:
            entry.watchers.append(key)

    def watch(self, owner: bytes, ids: list[str], *, is_owner: bool = True) -> None:
        for task_id in ids:
            if task_id in self.entries and self.entries[task_id].is_live:
                if is_owner:
                    self._own(self.entries[task_id], owner)
                else:
                    self._watch(self.entries[task_id], owner)
        commands = self._send(TasksWatched(owner, ids, is_owner))
        assert isinstance(commands[-1], TasksDescribed)
        assert [e.status for e in commands[-1].events] == [self._status(i) for i in ids]

    def owner_gone(self, owner: bytes) -> None:
        mine = [e for e in self.entries.values() if e.is_live and e.owner == owner]
        for entry in mine:
            entry.owner = None
        for entry in self.entries.values():
            if owner in entry.watchers:
                entry.watchers.remove(owner)
        finals: dict[str, WireStatus] = {}
        attached = [entry for entry in mine if entry.spec.attached]
        for entry in attached:
            self._ask(entry, None, finals)
        self._take_along(finals, attached)
        self._send(OwnerGone(owner), finals)

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        while self.scheduler.next_deadline() <= end:
            self.now = max(self.now, self.scheduler.next_deadline())
            finals = self._alarms()
            refused = [
                e
                for e in self.entries.values()
                if e.place == HELD and e.held_until <= self.now and e.spec.id not in finals
            ]
            for entry in refused:
                entry.place = REFUSED
                self.refused += 1
            self._take_along(finals, [self.entries[task_id] for task_id in finals])
            commands = self._send(DeadlinePassed(), finals)
            told = [c.event for c in commands if isinstance(c, TaskChanged)]
            told = [event for event in told if event.status is WireStatus.REFUSED]
            hearers = [e.spec.id for e in refused for _ in [e.owner, *e.watchers]]
            assert sorted(t.task_id for t in told) == sorted(hearers), "S12: told wrongly"
            assert self.scheduler.next_deadline() > self.now, "the alarm would spin"
        self.now = end
        late = [entry for entry in self.entries.values() if entry.alarm <= self.now]
        assert not late, f"S17: nothing has become of {late}, and it is past their time"

    def _alarms(self) -> dict[str, WireStatus]:
        """The book's side of times that are over: who ends by it."""
        finals: dict[str, WireStatus] = {}
        for entry in self.entries.values():
            if entry.alarm > self.now:
                continue
            if entry.place == RETRYING and entry.deadline_at > self.now:
                entry.place = READY
                entry.retry_at = math.inf
            else:
                finals[entry.spec.id] = WireStatus.EXPIRED
        return finals

    def _status(self, task_id: str) -> WireStatus:
        entry = self.entries.get(task_id)
        if entry is None or entry.place == REFUSED:
            return WireStatus.UNKNOWN
        if entry.ended is not None:
            return entry.ended
        return {HELD: WireStatus.HELD, STARTED: WireStatus.STARTED}.get(
            entry.place, WireStatus.PENDING
        )

    # --- handing out ---

    def dispatch(self, workers: list[Worker]) -> int:
        """Hand out work; return how many attempts were leased."""
        commands = self._send(Dispatch([worker.key for worker in workers]))
        given: dict[bytes, list[Entry]] = {}
        for command in commands:
            assert isinstance(command, Assign)
            worker = self.workers[command.key]
            assert worker in workers, "given to a subworker that cannot be reached"
            given[worker.key] = [self._lease(worker, item) for item in command.assignments]
            stops = [(i.task_id, i.attempt, i.grace) for i in command.cancels]
            assert sorted(stops, key=str) == worker.stop_orders(), "S10: a cancel got lost"
            worker.to_stop = {}
        for worker in workers:
            assert not worker.to_stop, "S10: a cancel got lost"
            self._check_credit(worker, given.get(worker.key, []))
            self._check_order(worker, given.get(worker.key, []))
        return sum(len(entries) for entries in given.values())

    def _lease(self, worker: Worker, item: object) -> Entry:
        task_id, attempt = item.task_id, item.attempt  # type: ignore[attr-defined]
        entry = self.entries.get(task_id)
        assert entry is not None, "S3: a lease of a task nobody submitted"
        assert entry.place == READY, f"S5: {entry} was leased"
        assert attempt > entry.fence, f"S5: the fence of {entry} did not grow: {attempt}"
        assert entry.spec.name in worker.names, "given to a subworker that does not know it"
        assert not worker.is_draining, "given to a subworker that drains"
        assert not entry.cancel_asked, f"S10: {entry} was cancelled, and is leased"
        entry.fence = attempt
        most = 1 + entry.failures + len(entry.losses)
        assert entry.fence - entry.uncounted == most, f"S9: {entry} is tried once too often"
        assert entry.failures <= entry.policy.max_retries, f"S9: {entry} is retried too often"
        entry.place = LEASED
        entry.worker = worker
        worker.held[worker.lane(entry.spec.name)].append(entry)
        self.leases.append((worker.key, task_id, attempt))
        return entry

    def _check_credit(self, worker: Worker, given: list[Entry]) -> None:
        for lane in {worker.lane(entry.spec.name) for entry in given}:
            held, capacity = worker.held[lane], worker.capacity[lane]
            if len(held) <= capacity:
                continue
            runs = [worker.shortest.get(entry.spec.name) for entry in held]
            for entry in held:
                assert FUNCTIONS[entry.spec.name].on_lost != "fail", "S16: sent ahead"
            assert all(r is not None for r in runs), f"S16: {held} for capacity {capacity}"
            least = sum(r for r in runs if r is not None)
            assert least <= PREFETCH_SECONDS * capacity, f"S16: {least} s sent ahead"
            assert lane not in worker.blocked, "S16: sent ahead to a blocked lane"

    def _check_order(self, worker: Worker, given: list[Entry]) -> None:
        waiting = [e for e in self.entries.values() if e.place == READY and not e.is_solo]
        suspects = [e for e in self.entries.values() if e.place == READY and e.is_solo]
        for lane in LANES:
            ranks = [
                e.rank for e in given if worker.lane(e.spec.name) == lane and not e.is_solo
            ]
            assert ranks == sorted(ranks), f"S15: given out of order: {ranks}"
        for other in waiting:
            if other.spec.name not in worker.names:
                continue
            lane = worker.lane(other.spec.name)
            for entry in given:
                if entry.is_solo:
                    overtakes = other.spec.priority < entry.spec.priority
                    overtakes &= worker.capacity[lane] > 0
                else:
                    overtakes = worker.lane(entry.spec.name) == lane and other.rank < entry.rank
                is_kept = bool(suspects) or any(e.is_solo for e in worker.all_held)
                # Who waits for it may have to end before the subworker is free.
                overtakes &= not (is_kept and self._has_family(entry))
                assert not overtakes, f"S14/S15: {entry} was given before {other}"
            if any(e.is_solo for e in worker.all_held) or worker.is_draining:
                continue
            if any(e.spec.priority <= other.spec.priority for e in suspects):
                continue  # the subworker may be kept free for one of them
            assert len(worker.held[lane]) >= worker.capacity[lane], (
                f"L1: {other} waits and {worker.key!r} has room"
            )

    # --- what must hold ---

    def _has_family(self, entry: Entry) -> bool:
        """Whether it waits for others, or is waited for: it may run beside a suspect."""
        others = self.entries.values()
        is_parent = any(one.parent == entry.spec.id and one is not entry for one in others)
        return is_parent or entry.parent in self.entries

    def check(self) -> None:
        for worker in self.workers.values():
            if any(entry.is_solo for entry in worker.all_held):
                others = [entry for entry in worker.all_held if not entry.is_solo]
                is_alone = all(map(self._has_family, others))
                assert is_alone, "S9: a suspect does not run alone"
        live = [entry for entry in self.entries.values() if entry.is_live]
        told = self.scheduler.statistics()
        ready = [e.spec.priority for e in live if e.place == READY]
        held = sum(1 for e in live if e.place == HELD)
        leased = sum(1 for e in live if e.place == LEASED)
        started = sum(1 for e in live if e.place == STARTED)
        retrying = sum(1 for e in live if e.place == RETRYING)
        mine = (
            self.submitted,
            self.refused,
            held,
            [ready.count(priority) for priority in range(4)],
            leased,
            started,
            retrying,
            *self.ended.values(),
            self.stale,
        )
        theirs = (
            told.submitted,
            told.refused,
            told.held,
            told.ready,
            told.leased,
            told.started,
            told.retrying,
            told.succeeded,
            told.failed,
            told.cancelled,
            told.expired,
            told.stale_reports,
        )
        assert mine == theirs, f"S20: counted {mine}, told {theirs}"
        total = self.refused + len(ready) + held + leased + started + retrying
        total += sum(self.ended.values())
        assert self.submitted == total, "S20: the book itself does not add up"
        labels = [status.label for status in told.subworkers]
        assert len(set(labels)) == len(labels), "two subworkers with one label"
        self.scheduler.check()
        self.is_sound = True

    def finish(self) -> None:
        """L1: with one subworker that knows every name, everything ends."""
        for worker in list(self.workers.values()):
            self.lose(worker, is_clean=True)
        self.pass_time(UNKNOWN_NAME_SECONDS)
        self.pass_time(LONGEST_RETRY)
        worker = self.join(FUNCTIONS)
        self.capacity(worker, dict.fromkeys(LANES, 2))
        while self.dispatch([worker]):
            self.check()
            for entry in worker.all_held:
                self.report(worker.key, ended=[an_end(entry.spec.id, entry.fence)])
        left = [entry for entry in self.entries.values() if entry.is_live]
        assert not left, f"L1: never ended: {left}"
        kept = self.scheduler.open_tasks
        left_behind = (kept.by_id, kept.families.children, kept.retrying, list(kept.held))
        assert not any(left_behind), f"B2: left behind: {left_behind}"
        assert not len(kept.clients), "B2: clients have tasks that are over"
        assert self.scheduler.next_deadline() == math.inf, "B2: an alarm was left behind"


def an_end(
    task_id: str,
    attempt: int,
    outcome: WireStatus = WireStatus.SUCCESS,
    seconds: float = 1.0,
    ending: Ending = Ending.COMPLETED,
    is_retryable: bool = True,
) -> EndedAttempt:
    return EndedAttempt(
        task_id,
        attempt,
        outcome,
        0.0,
        0.0,
        seconds,
        ending=ending,
        is_retryable=is_retryable,
    )


def _content(spec: TaskSpec) -> tuple[object, ...]:
    return spec.name, spec.payload, spec.priority, spec.options
