"""The subworker's machine: leases taken, attempts under way, reports owed.

What runs is decided elsewhere: the control plane leases, the lanes execute.
This machine keeps the two in step: it reports every start and end under the
fence of its lease, hands back what cannot start soon, and stops attempts on
its own clock when it cannot renew its lease (S7).

An *orphan* is an attempt whose lease is gone and whose user code still runs.
Its outcome is nobody's any more, but it takes up a slot until it ends, so the
stated capacity is less by it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Final, assert_never

import msgspec

from fastworker._core._attempts import (
    OUTCOME_CANCELLED,
    OUTCOME_SUCCESS,
    AttemptEnded,
    AttemptKey,
    AttemptPaused,
    AttemptProgressed,
    AttemptStarted,
    LaneEvent,
)
from fastworker._core._codec import decode_body, decode_frame, encode
from fastworker._core._link_requester import (
    CallAnswered,
    CallDropped,
    CallIssued,
    DropPipe,
    FrameReceived,
    LinkCommand,
    LinkEnded,
    LinkState,
    Redirected,
    RequesterLink,
    SendFrame,
    SessionAbandoned,
    SessionOpened,
    SessionRefused,
)
from fastworker._core._messages import (
    BATCH_BYTES,
    MAX_BATCH_ITEMS,
    Assignment,
    EndedAttempt,
    FunctionInfo,
    HandedBack,
    Kind,
    Lease,
    LeaseReply,
    Nothing,
    Report,
    Role,
    StartedAttempt,
    WireStatus,
)
from fastworker._core._pipes import DeadlinePassed, Flush, PipeClosed, PipeOpened
from fastworker._core._subworker_events import (
    AttemptsTakenBack,
    CancelAttempt,
    Drained,
    DrainRequested,
    FrameArrived,
    LaneNews,
    SaidGoodbye,
    StartAttempts,
    SubworkerCommand,
    SubworkerEvent,
    SubworkerStopped,
    TakeBack,
)
from fastworker._errors import RemoteProtocolError

REPORT_WINDOW: Final = 3
LEASE_WINDOW: Final = 2
# A start is reported by itself only if no end follows within this time.
STARTED_DELAY: Final = 0.005
# A lane that neither starts nor ends anything for this long is busy: what
# has not started goes back, so that no task waits here behind a long one.
BUSY_SECONDS: Final = 0.010
# After work has come, the next LEASE waits this long for a report to go with.
LEASE_DELAY: Final = 0.002
# Attempts are stopped this long before the lease could end (S7).
FENCE_MARGIN: Final = 2.0


class _Running:
    """An attempt that a lane holds."""

    __slots__ = ("is_orphan", "lane", "name", "started_at")

    def __init__(self, lane: str, name: str) -> None:
        self.lane = lane
        self.name = name
        self.started_at: float | None = None
        self.is_orphan = False


class _LaneView:
    """What this machine knows of one lane."""

    __slots__ = ("held", "is_stuck", "progress_at", "slots", "unstarted")

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.held = 0
        self.unstarted = 0
        self.progress_at = 0.0
        self.is_stuck = False  # has free slots, and starts nothing

    def busy_at(self) -> float:
        return self.progress_at + BUSY_SECONDS if self.unstarted else math.inf


class SubworkerStatistics(msgspec.Struct, frozen=True):
    """A snapshot of a subworker."""

    link: LinkState
    running: int
    unstarted: int
    orphans: int
    unreported: int
    malformed_frames: int


class SubworkerState:
    """The machine.

    Args:
      worker_id: a label.
      functions: what can run here, each with its lane.
      slots: how many attempts each lane runs at the same time.
      new_session_id: draws 16 random bytes.
      address: a label for the status.
    """

    def __init__(
        self,
        *,
        worker_id: str,
        functions: list[FunctionInfo],
        slots: dict[str, int],
        new_session_id: Callable[[], bytes],
        address: str = "",
    ) -> None:
        self._link = RequesterLink(
            role=Role.SUBWORKER,
            worker_id=worker_id,
            new_session_id=new_session_id,
            functions=functions,
            address=address,
        )
        self._lane_of = {function.name: function.lane for function in functions}
        self._lanes = {lane: _LaneView(count) for lane, count in slots.items()}
        self._attempts: dict[AttemptKey, _Running] = {}
        self._started: dict[AttemptKey, tuple[float, StartedAttempt]] = {}  # due, what
        self._ended: deque[tuple[int, EndedAttempt]] = deque()
        self._handed_back: list[tuple[int, HandedBack]] = []
        self._busy: dict[str, float] = {}
        self._epoch = 0
        self._lease_seconds = math.inf
        self._cursor = 0
        self._call_id = 0
        self._reports = 0
        self._leases = 0  # LEASEs under way
        self._lease_due = -math.inf
        self._must_restate = False  # capacity changed since the last LEASE
        self._is_draining = False
        self._told_drained = False
        self._is_stopping = False
        self._said_goodbye = False
        self._out: list[SubworkerCommand] = []
        self._now = 0.0
        self._malformed_frames = 0

    # --- reading ---

    @property
    def is_connected(self) -> bool:
        """Whether a session is open on a live pipe."""
        return self._link.state is LinkState.OPEN

    def next_deadline(self) -> float:
        """When DeadlinePassed is wanted, ``inf`` for never."""
        deadline = min(self._link.next_deadline(), self._fence_at())
        if not self._leases and self.is_connected and not self._is_stopping:
            deadline = min(deadline, self._lease_due)
        for lane in self._lanes.values():
            deadline = min(deadline, lane.busy_at())
        if self._started and self._reports < REPORT_WINDOW:
            deadline = min(deadline, next(iter(self._started.values()))[0])
        return deadline

    def statistics(self) -> SubworkerStatistics:
        """Return a snapshot."""
        values = self._attempts.values()
        return SubworkerStatistics(
            link=self._link.state,
            running=sum(1 for r in values if r.started_at is not None),
            unstarted=sum(1 for r in values if r.started_at is None),
            orphans=sum(1 for r in values if r.is_orphan),
            unreported=len(self._ended) + len(self._handed_back) + len(self._started),
            malformed_frames=self._malformed_frames,
        )

    def check(self) -> None:
        """Assert every invariant."""
        self._link.check()
        assert 0 <= self._reports <= REPORT_WINDOW
        assert 0 <= self._leases <= LEASE_WINDOW
        for name, lane in self._lanes.items():
            held = [r for r in self._attempts.values() if r.lane == name]
            assert lane.held == len(held)
            assert lane.unstarted == sum(1 for r in held if r.started_at is None)
            running = sum(1 for r in held if r.started_at is not None)
            assert running <= lane.slots, f"{running} attempts run in {lane.slots} slots"
        for key in self._started:
            assert not self._attempts[key].is_orphan

    # --- the one mutator ---

    def handle(self, event: SubworkerEvent, *, now: float) -> list[SubworkerCommand]:
        """Apply an event and return what has to be done."""
        self._now = now
        match event:
            case LaneNews(events=events):
                for news in events:
                    self._on_lane_event(news)
            case Flush():
                self._on_flush()
            case FrameArrived(data=data):
                self._on_frame(data)
            case AttemptsTakenBack(keys=keys):
                self._on_taken_back(keys)
            case DrainRequested():
                self._is_draining = True
                self._must_restate = True
                self._take_back_everything()
            case SubworkerStopped():
                self._is_stopping = True
                if self._link.state is not LinkState.OPEN:
                    self._goodbye()
            case DeadlinePassed():
                self._on_deadline()
            case PipeOpened() | PipeClosed():
                self._follow(self._link.handle(event, now=now))
            case _:
                assert_never(event)
        out, self._out = self._out, []
        return out

    # --- lanes ---

    def _on_lane_event(self, event: LaneEvent) -> None:
        running = self._attempts.get(event.key)
        if running is None or isinstance(event, AttemptProgressed | AttemptPaused):
            return
        lane = self._lanes[running.lane]
        lane.progress_at = self._now
        if lane.is_stuck:
            lane.is_stuck = False
            self._must_restate = True
        if isinstance(event, AttemptStarted):
            running.started_at = self._now
            lane.unstarted -= 1
            if not running.is_orphan:
                item = StartedAttempt(event.key.task_id, event.key.attempt, event.wall)
                self._started[event.key] = (self._now + STARTED_DELAY, item)
            return
        self._forget(event.key, running)
        self._started.pop(event.key, None)
        if running.is_orphan:
            self._must_restate = True
        else:
            self._ended.append((event.key.epoch, _ended(event)))

    def _forget(self, key: AttemptKey, running: _Running) -> None:
        del self._attempts[key]
        lane = self._lanes[running.lane]
        lane.held -= 1
        if running.started_at is None:
            lane.unstarted -= 1

    def _on_taken_back(self, keys: list[AttemptKey]) -> None:
        for key in keys:
            running = self._attempts.get(key)
            if running is None:
                continue
            self._forget(key, running)
            if running.is_orphan:
                self._must_restate = True
            else:
                self._handed_back.append((key.epoch, HandedBack(key.task_id, key.attempt)))

    def _take_back_everything(self) -> None:
        for name, lane in self._lanes.items():
            if lane.unstarted:
                self._out.append(TakeBack(name))

    def _orphan_everything(self) -> None:
        """The leases are gone: nothing that happens here counts any more."""
        self._take_back_everything()
        for key, running in self._attempts.items():
            if not running.is_orphan:
                running.is_orphan = True
                self._out.append(CancelAttempt(running.lane, key))
        self._started.clear()
        self._must_restate = True

    # --- time ---

    def _fence_at(self) -> float:
        """When attempts have to be stopped because the lease may end."""
        if all(running.is_orphan for running in self._attempts.values()):
            return math.inf
        return self._link.confirmed_at + self._lease_seconds - FENCE_MARGIN

    def _on_deadline(self) -> None:
        if self._fence_at() <= self._now:
            self._orphan_everything()
            # Should the control plane still think that we run them: a new
            # session tells it that nobody does.
            self._follow(self._link.handle(SessionAbandoned(), now=self._now))
        for name, lane in self._lanes.items():
            if lane.busy_at() <= self._now:
                self._out.append(TakeBack(name))
                lane.progress_at = self._now
                if lane.held - lane.unstarted < lane.slots and not lane.is_stuck:
                    lane.is_stuck = True
                    self._must_restate = True
                self._note_busy(name)
        if self._link.next_deadline() <= self._now:
            self._follow(self._link.handle(DeadlinePassed(), now=self._now))
        self._on_flush()

    def _note_busy(self, lane: str) -> None:
        for running in self._attempts.values():
            if running.lane == lane and running.started_at is not None:
                seconds = self._now - running.started_at
                self._busy[running.name] = max(self._busy.get(running.name, 0.0), seconds)

    # --- the link ---

    def _on_frame(self, data: bytes) -> None:
        try:
            received = FrameReceived(decode_frame(data))
            self._follow(self._link.handle(received, now=self._now))
        except RemoteProtocolError:
            self._malformed_frames += 1
            self._out.append(DropPipe())

    def _follow(self, commands: list[LinkCommand]) -> None:
        for command in commands:
            match command:
                case SendFrame() | DropPipe() | Redirected() | SessionRefused():
                    self._out.append(command)
                case CallAnswered(kind=kind, body=body):
                    self._on_answer(kind, body)
                case CallDropped(kind=kind):
                    if kind is Kind.LEASE:
                        self._leases -= 1
                    elif kind is Kind.BYE:
                        self._goodbye()
                case SessionOpened():
                    self._on_session(command)
                case _:
                    assert_never(command)

    def _on_session(self, opened: SessionOpened) -> None:
        self._out.append(opened)
        self._lease_seconds = opened.lease
        if not opened.resumed:
            self._cursor = 0
            self._epoch = opened.epoch
            self._handed_back.clear()
            self._ended.clear()
            self._orphan_everything()

    def _on_answer(self, kind: Kind, data: bytes) -> None:
        if kind is Kind.REPORT:
            self._reports -= 1
        elif kind is Kind.LEASE:
            self._leases -= 1
            self._on_leased(decode_body(LeaseReply, data))
        elif kind is Kind.BYE:
            self._goodbye()

    def _on_leased(self, reply: LeaseReply) -> None:
        by_lane: dict[str, list[Assignment]] = {}
        for number, assignment in zip(reply.numbers, reply.assignments, strict=False):
            if number <= self._cursor:
                continue  # two LEASEs crossed, and both answers gave it
            key = AttemptKey(assignment.task_id, self._epoch, assignment.attempt)
            lane_name = self._lane_of.get(assignment.name)
            if lane_name is None:
                raise RemoteProtocolError(
                    f"leased {assignment.name!r}, which is not known here"
                )
            lane = self._lanes[lane_name]
            if not lane.held:
                lane.progress_at = self._now
            lane.held += 1
            lane.unstarted += 1
            self._attempts[key] = _Running(lane_name, assignment.name)
            by_lane.setdefault(lane_name, []).append(assignment)
        self._cursor = max(self._cursor, reply.cursor)
        if reply.assignments:
            # Short work is reported at once, and the next LEASE goes with it.
            self._lease_due = self._now + LEASE_DELAY
        for lane_name, assignments in by_lane.items():
            self._out.append(StartAttempts(lane_name, self._epoch, assignments))
        for item in reply.cancels:
            key = AttemptKey(item.task_id, self._epoch, item.attempt)
            if key in self._attempts:
                self._out.append(CancelAttempt(self._attempts[key].lane, key))
        if self._is_draining or self._is_stopping:
            self._take_back_everything()

    def _goodbye(self) -> None:
        self._said_goodbye = True
        self._link.handle(LinkEnded(), now=self._now)
        self._out.append(SaidGoodbye())

    # --- frames ---

    def _on_flush(self) -> None:
        if self._said_goodbye:
            return
        has_reported = self._report(self._now)
        if self._link.state is not LinkState.OPEN:
            return
        if self._is_stopping:
            if self._link.can_issue_urgent and not self._reports:
                self._issue(Kind.BYE, encode(Nothing()), reissue=False)
            return
        # A second LEASE makes the control plane answer the first. Were there no
        # end to them, they would fill the slots while answers are slow.
        is_due = has_reported or self._lease_due <= self._now
        if self._leases < (LEASE_WINDOW if self._must_restate else int(is_due)):
            self._must_restate = False
            self._leases += 1
            lease = Lease(self._cursor, self._capacity(), self._is_draining)
            self._issue(Kind.LEASE, encode(lease), reissue=False)
        if self._is_draining and not self._told_drained and self._is_idle():
            self._told_drained = True
            self._out.append(Drained())

    def _is_idle(self) -> bool:
        return not (self._attempts or self._ended or self._handed_back or self._reports)

    def _capacity(self) -> dict[str, int]:
        if self._is_draining:
            return dict.fromkeys(self._lanes, 0)
        orphans = dict.fromkeys(self._lanes, 0)
        for running in self._attempts.values():
            if running.is_orphan:
                orphans[running.lane] += 1
        capacity: dict[str, int] = {}
        for name, lane in self._lanes.items():
            capacity[name] = max(0, lane.slots - orphans[name])
            if lane.is_stuck:
                # A coroutine blocks the loop of its lane: what comes would go
                # back at once, again and again. One attempt tells when it is free.
                started = lane.held - lane.unstarted - orphans[name]
                capacity[name] = min(capacity[name], max(0, started) + 1)
        return capacity

    def _report(self, now: float) -> bool:
        """Send what has gathered, if the window is open; say whether anything was."""
        has_sent = False
        while self._reports < REPORT_WINDOW and self._link.free_slots > 2:
            due = bool(self._started) and next(iter(self._started.values()))[0] <= now
            if not (due or self._ended or self._handed_back):
                break
            report = self._next_report(now)
            self._reports += 1
            has_sent = True
            self._issue(Kind.REPORT, encode(report), reissue=True)
        return has_sent

    def _next_report(self, now: float) -> Report:
        """Take one epoch's news off the queues, as much as fits into a batch."""
        started = [item for key, (_, item) in self._started.items() if key.epoch == self._epoch]
        self._started.clear()
        epoch = self._epoch
        if self._ended:
            epoch = self._ended[0][0]
        elif self._handed_back:
            epoch = self._handed_back[0][0]
        ended: list[EndedAttempt] = []
        size = 0
        while self._ended and self._ended[0][0] == epoch and len(ended) < MAX_BATCH_ITEMS:
            item = self._ended[0][1]
            size += len(item.payload) + len(item.traceback) + len(item.error) + 100
            if ended and size > BATCH_BYTES:
                break
            self._ended.popleft()
            ended.append(item)
        handed_back = [item for its_epoch, item in self._handed_back if its_epoch == epoch]
        self._handed_back = [entry for entry in self._handed_back if entry[0] != epoch]
        busy, self._busy = self._busy, {}
        return Report(epoch, started if epoch == self._epoch else [], ended, handed_back, busy)

    def _issue(self, kind: Kind, body: bytes, *, reissue: bool) -> None:
        self._call_id += 1
        call = CallIssued(self._call_id, kind, body, reissue)
        self._follow(self._link.handle(call, now=self._now))


_OUTCOMES = {OUTCOME_SUCCESS: WireStatus.SUCCESS, OUTCOME_CANCELLED: WireStatus.CANCELLED}


def _ended(event: AttemptEnded) -> EndedAttempt:
    return EndedAttempt(
        task_id=event.key.task_id,
        attempt=event.key.attempt,
        outcome=_OUTCOMES.get(event.kind, WireStatus.FAILURE),
        started=event.started_wall,
        completed=event.wall,
        seconds=event.seconds,
        format=event.format,
        payload=event.payload,
        error=event.error,
        traceback=event.traceback,
    )
