"""The subworker's machine: leases taken, attempts under way, reports owed.

What runs is decided elsewhere: the control plane leases, the lanes execute.
This machine keeps the two in step: it reports every start and end under the
fence of its lease, hands back what cannot start soon, and stops attempts on
its own clock when it cannot renew its lease (S7).

It keeps the time of each attempt, too: who runs too long, or is cancelled, is
asked to stop, and given up after its grace. See ``_held_attempts.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from itertools import chain
from typing import Final, assert_never

import msgspec

from fastworker._core._attempt_ends import abandoned_attempt, ended_attempt
from fastworker._core._attempts import (
    OUTCOME_CANCELLED,
    AttemptEnded,
    AttemptKey,
    AttemptPaused,
    AttemptProgressed,
    AttemptStarted,
    AttemptYielded,
    LaneEvent,
)
from fastworker._core._codec import decode_body, decode_frame, encode
from fastworker._core._deadlines import Deadlines
from fastworker._core._held_attempts import Held, HeldAttempts, Why, held_attempt
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
    MAX_BATCH_ITEMS,
    Assignment,
    FunctionInfo,
    HandedBack,
    HeldAttempt,
    Kind,
    Lease,
    LeaseReply,
    Nothing,
    Progress,
    Report,
    Role,
    YieldedValue,
)
from fastworker._core._pipes import DeadlinePassed, Flush, PipeClosed, PipeOpened
from fastworker._core._portions import PORTION_ITEMS, portion_of
from fastworker._core._report_queue import ReportQueue
from fastworker._core._subworker_events import (
    AttemptAbandoned,
    AttemptsTakenBack,
    CancelAttempt,
    DrainCancelled,
    Drained,
    DrainOrdered,
    DrainRequested,
    FrameArrived,
    GiveCredit,
    Interrupted,
    LaneNews,
    SaidGoodbye,
    StartAttempts,
    SubworkerCommand,
    SubworkerEvent,
    SubworkerStopped,
    TakeBack,
    WornOut,
)
from fastworker._errors import RemoteProtocolError

REPORT_WINDOW: Final = 3
LEASE_WINDOW: Final = 2
# After work has come, the next LEASE waits this long for a report to go with.
LEASE_DELAY: Final = 0.002
# Attempts are stopped this long before the lease could end (S7).
FENCE_MARGIN: Final = 2.0
# The lane that kills; should it fail to, the attempt is given up this much later.
PROCESS_LANE: Final = "process"
KILL_MARGIN: Final = 2.0


class SubworkerStatistics(msgspec.Struct, frozen=True):
    """A snapshot of a subworker."""

    link: LinkState
    running: int
    unstarted: int
    orphans: int
    unreported: int
    malformed_frames: int
    is_draining: bool = False


class SubworkerState:
    """The machine.

    Args:
      worker_id: a label.
      functions: what can run here, each with its lane.
      slots: how many attempts each lane runs at the same time.
      new_session_id: draws 16 random bytes.
      address: a label for the status.
      final_timeouts: the functions that are not to be retried after an attempt
        that ran longer than its timeout.
    """

    def __init__(
        self,
        *,
        worker_id: str,
        functions: list[FunctionInfo],
        slots: dict[str, int],
        new_session_id: Callable[[], bytes],
        address: str = "",
        final_timeouts: Collection[str] = (),
    ) -> None:
        self._link = RequesterLink(
            role=Role.SUBWORKER,
            worker_id=worker_id,
            new_session_id=new_session_id,
            functions=functions,
            address=address,
            held=self._held_attempts,
        )
        self._functions = {function.name: function for function in functions}
        self._final_timeouts = frozenset(final_timeouts)
        self._attempts = HeldAttempts(slots)
        self._alarms: Deadlines[AttemptKey] = Deadlines()
        self._news = ReportQueue()
        self._epoch = 0
        self._lease_seconds = math.inf
        self._cursor = 0
        self._call_id = 0
        self._reports = 0
        self._reported: dict[int, Report] = {}  # those under way, by call
        self._stream_report: int | None = None  # the call that has values and their ends
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
        for lane in self._attempts.lanes.values():
            deadline = min(deadline, lane.busy_at())
        if self._reports < REPORT_WINDOW:
            deadline = min(deadline, self._news.next_due())
        return min(deadline, self._alarms.next())

    def statistics(self) -> SubworkerStatistics:
        """Return a snapshot."""
        values = [held for _, held in self._attempts]
        return SubworkerStatistics(
            link=self._link.state,
            running=sum(1 for held in values if held.started_at is not None),
            unstarted=sum(1 for held in values if held.started_at is None),
            orphans=sum(1 for held in values if held.is_orphan),
            unreported=len(self._news),
            malformed_frames=self._malformed_frames,
            is_draining=self._is_draining,
        )

    def check(self) -> None:
        """Assert every invariant."""
        self._link.check()
        assert 0 <= self._reports <= REPORT_WINDOW
        assert 0 <= self._leases <= LEASE_WINDOW
        self._attempts.check()
        assert self._news.is_streaming == (self._stream_report is not None)

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
                self._drain()
            case DrainCancelled():
                self._is_draining = self._told_drained = False
                self._must_restate = True
            case Interrupted(grace=grace):
                self._interrupt(grace)
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
        key = event.key
        held = self._attempts.get(key)
        if held is None:
            return
        match event:
            case AttemptStarted(wall=wall, span=span):
                self._note_progress(held)
                held.span = span
                self._attempts.start(held, self._now)
                self._set_alarm(key, held)
                if not held.is_orphan:
                    self._news.add_started(key, wall, span, self._now)
            case AttemptEnded():
                self._note_progress(held)
                self._forget(key, held)
                if not held.is_orphan:
                    self._tell_end(key, held, event)
            case AttemptProgressed(fraction=fraction, message=message):
                if not held.is_orphan:
                    said = Progress(key.task_id, key.attempt, fraction, message)
                    self._news.add_progress(key, said, self._now)
            case AttemptYielded(index=index, payload=payload, format=format):
                if not held.is_orphan:
                    value = YieldedValue(key.task_id, key.attempt, index, format, payload)
                    self._news.add_yielded(key.epoch, value)
            case AttemptPaused(is_waiting=is_waiting):
                self._attempts.pause(held, is_waiting=is_waiting)
                self._must_restate = True
            case _:
                assert_never(event)

    def _note_progress(self, held: Held) -> None:
        lane = self._attempts.lane_of(held)
        lane.progress_at = self._now
        if lane.is_stuck:
            lane.is_stuck = False
            self._must_restate = True

    def _forget(self, key: AttemptKey, held: Held) -> None:
        self._attempts.remove(key, held)
        if len(self._alarms):
            self._alarms.clear(key)
        self._news.forget(key)
        if held.is_orphan or held.is_waiting:
            self._must_restate = True

    def _tell_end(self, key: AttemptKey, held: Held, event: AttemptEnded) -> None:
        if held.why is Why.INTERRUPTED and event.kind == OUTCOME_CANCELLED:
            back = HandedBack(key.task_id, key.attempt, was_started=True)
            self._news.add_handed_back(key.epoch, back)
        else:
            ended = ended_attempt(event, held)
            self._news.add_ended(key.epoch, ended, of_stream=held.is_stream)

    def _on_taken_back(self, keys: list[AttemptKey]) -> None:
        for key in keys:
            held = self._attempts.get(key)
            if held is None:
                continue
            self._forget(key, held)
            if not held.is_orphan:
                self._news.add_handed_back(key.epoch, HandedBack(key.task_id, key.attempt))

    def _drain(self) -> None:
        self._is_draining = True
        self._must_restate = True
        self._take_back_everything()

    def _take_back_everything(self) -> None:
        for name, lane in self._attempts.lanes.items():
            if lane.unstarted:
                self._out.append(TakeBack(name))

    def _orphan_everything(self) -> None:
        """The leases are gone: nothing that happens here counts any more."""
        self._news.clear()
        self._orphan_all_but(())

    def _orphan_all_but(self, kept: Collection[AttemptKey]) -> None:
        """Only these leases still hold."""
        # What is kept and has not started goes back too, and is leased again.
        self._take_back_everything()
        for key, held in self._attempts:
            if not held.is_orphan and key not in kept:
                held.is_orphan = True
                self._alarms.clear(key)
                self._out.append(CancelAttempt(held.lane, key, held.grace))
        self._must_restate = True

    # --- stopping attempts ---

    def _stop(self, key: AttemptKey, held: Held, why: Why, grace: float | None = None) -> None:
        """Ask an attempt to stop; what it has left after its grace is given up."""
        grace = held.grace if grace is None else grace
        held.why = held.why or why
        if why is Why.CANCELLED:
            held.why = why
        # A process is killed by its lane, which then says so.
        margin = KILL_MARGIN if held.lane == PROCESS_LANE else 0.0
        held.give_up_at = min(held.give_up_at, self._now + grace + margin)
        self._set_alarm(key, held)
        self._out.append(CancelAttempt(held.lane, key, grace, held.why))

    def _set_alarm(self, key: AttemptKey, held: Held) -> None:
        at = held.next_alarm
        if at < math.inf:
            self._alarms.set(key, at)

    def _on_alarm(self, key: AttemptKey) -> None:
        held = self._attempts.get(key)
        if held is None or held.next_alarm > self._now:
            return
        if held.why is None:
            is_late = held.deadline_at <= self._now
            self._stop(key, held, Why.DEADLINE if is_late else Why.TIMED_OUT)
            if held.next_alarm > self._now:
                return
        self._give_up(key, held)

    def _give_up(self, key: AttemptKey, held: Held) -> None:
        """It does not stop: its outcome is told without it, and its slot is taken."""
        held.is_orphan = True
        self._out.append(AttemptAbandoned(key))
        self._alarms.clear(key)
        self._news.forget(key)
        self._must_restate = True
        if held.why is Why.INTERRUPTED:
            back = HandedBack(key.task_id, key.attempt, was_started=True)
            self._news.add_handed_back(key.epoch, back)
        else:
            abandoned = abandoned_attempt(key, held, self._now)
            self._news.add_ended(key.epoch, abandoned, of_stream=held.is_stream)
        lane = self._attempts.lane_of(held)
        if self._attempts.orphans(held.lane) >= lane.slots:
            self._out.append(WornOut(held.lane))

    def _interrupt(self, grace: float) -> None:
        """There is no more time for what runs: it goes back, to run elsewhere."""
        for key, held in self._attempts:
            if not held.is_orphan and held.started_at is not None:
                self._stop(key, held, Why.INTERRUPTED, grace)

    # --- time ---

    def _fence_at(self) -> float:
        """When attempts have to be stopped because the lease may end."""
        if all(held.is_orphan for _, held in self._attempts):
            return math.inf
        return self._link.confirmed_at + self._lease_seconds - FENCE_MARGIN

    def _on_deadline(self) -> None:
        if self._fence_at() <= self._now:
            self._orphan_everything()
            # Should the control plane still think that we run them: a new
            # session tells it that nobody does.
            self._follow(self._link.handle(SessionAbandoned(), now=self._now))
        for key in self._alarms.pop_due(self._now):
            self._on_alarm(key)
        for name, lane in self._attempts.lanes.items():
            if lane.busy_at() <= self._now:
                self._out.append(TakeBack(name))
                lane.progress_at = self._now
                if lane.has_free_slots and not lane.is_stuck:
                    lane.is_stuck = True
                    self._must_restate = True
                self._note_busy(name)
        if self._link.next_deadline() <= self._now:
            self._follow(self._link.handle(DeadlinePassed(), now=self._now))
        self._on_flush()

    def _note_busy(self, lane: str) -> None:
        for _, held in self._attempts:
            if held.lane == lane and held.started_at is not None:
                self._news.note_busy(held.name, self._now - held.started_at)

    # --- the link ---

    def _on_frame(self, data: bytes | memoryview) -> None:
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
                case CallAnswered(call_id=call_id, kind=kind, body=body):
                    self._on_answer(call_id, kind, body)
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
            kept = {AttemptKey(k.task_id, k.epoch, k.attempt) for k in opened.kept}
            self._news.keep(kept)
            self._orphan_all_but(kept)

    def _held_attempts(self) -> list[HeldAttempt]:
        """What it was leased and has not told the end of, as far as that is heard."""
        held = {
            key: HeldAttempt(key.task_id, key.epoch, key.attempt, h.started_at is not None)
            for key, h in self._attempts
            if not h.is_orphan
        }
        reported = chain.from_iterable(map(_told_ends, self._reported.values()))
        ended = [*self._news.keys(), *reported]
        for key in ended:
            held[key] = HeldAttempt(key.task_id, key.epoch, key.attempt, started=True)
        return list(held.values())[:MAX_BATCH_ITEMS]

    def _on_answer(self, call_id: int, kind: Kind, data: bytes) -> None:
        if kind is Kind.REPORT:
            self._reports -= 1
            self._reported.pop(call_id, None)
            if call_id == self._stream_report:
                self._stream_report = None
                self._news.is_streaming = False
        elif kind is Kind.LEASE:
            self._leases -= 1
            self._on_leased(decode_body(LeaseReply, data))
        elif kind is Kind.BYE:
            self._goodbye()

    def _on_leased(self, reply: LeaseReply) -> None:
        by_lane: dict[str, list[Assignment]] = {}
        is_ending = self._is_draining or self._is_stopping or reply.drain
        for key, info, assignment in self._leased_by(reply):
            left = assignment.time_left
            deadline_at = math.inf if left is None else self._now + left
            held = held_attempt(
                info,
                assignment.options,
                deadline_at,
                retries_timeout=info.name not in self._final_timeouts,
            )
            self._attempts.add(key, held, self._now)
            if is_ending:
                # It was under way when we were told to end: nothing starts any more.
                self._on_taken_back([key])
            else:
                by_lane.setdefault(info.lane, []).append(assignment)
        self._cursor = max(self._cursor, reply.cursor)
        if reply.assignments:
            # Short work is reported at once, and the next LEASE goes with it. But much of
            # it takes as long as the way to more.
            is_much = len(reply.assignments) >= PORTION_ITEMS
            self._lease_due = self._now + (0.0 if is_much else LEASE_DELAY)
        for lane_name, assignments in by_lane.items():
            self._out.append(StartAttempts(lane_name, self._epoch, assignments))
        for credit in reply.credits:
            key = AttemptKey(credit.task_id, self._epoch, credit.attempt)
            streaming = self._attempts.get(key)
            if streaming is not None:
                self._out.append(GiveCredit(streaming.lane, key, credit.count))
        for item in reply.cancels:
            key = AttemptKey(item.task_id, item.epoch or self._epoch, item.attempt)
            stopped = self._attempts.get(key)
            if stopped is not None and not stopped.is_orphan:
                self._stop(key, stopped, Why.CANCELLED, item.grace)
        if reply.drain and not self._is_draining:
            self._drain()
            self._out.append(DrainOrdered())

    def _leased_by(
        self, reply: LeaseReply
    ) -> list[tuple[AttemptKey, FunctionInfo, Assignment]]:
        """What is new in it. Whatever is wrong is found before anything is held.

        Raises:
          RemoteProtocolError: that cannot be held here.
        """
        leased: dict[AttemptKey, tuple[AttemptKey, FunctionInfo, Assignment]] = {}
        for number, assignment in zip(reply.numbers, reply.assignments, strict=False):
            if number <= self._cursor:
                continue  # two LEASEs crossed, and both answers gave it
            info = self._functions.get(assignment.name)
            if info is None:
                raise RemoteProtocolError(
                    f"leased {assignment.name!r}, which is not known here"
                )
            key = AttemptKey(assignment.task_id, self._epoch, assignment.attempt)
            if key in leased or self._attempts.get(key) is not None:
                raise RemoteProtocolError(f"leased attempt {key.attempt} of a task twice")
            leased[key] = key, info, assignment
        return list(leased.values())

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
        """Whether nothing is left to wait for; what was given up does not count."""
        is_busy = any(not held.is_orphan for _, held in self._attempts)
        return not (is_busy or len(self._news) or self._reports)

    def _capacity(self) -> dict[str, int]:
        if self._is_draining:
            return dict.fromkeys(self._attempts.lanes, 0)
        return self._attempts.capacity()

    def _report(self, now: float) -> bool:
        """Send what has gathered, if the window is open; say whether anything was."""
        has_sent = False
        portion = portion_of(self._news.ended, REPORT_WINDOW - self._reports)
        while self._reports < REPORT_WINDOW and self._link.free_slots > 2:
            if not self._news.is_due(now):
                break
            report = self._news.take(self._epoch, portion)
            self._reports += 1
            has_sent = True
            if self._news.is_streaming and self._stream_report is None:
                self._stream_report = self._call_id + 1
            self._reported[self._call_id + 1] = report
            self._issue(Kind.REPORT, encode(report), reissue=True)
        return has_sent

    def _issue(self, kind: Kind, body: bytes, *, reissue: bool) -> None:
        self._call_id += 1
        call = CallIssued(self._call_id, kind, body, reissue)
        self._follow(self._link.handle(call, now=self._now))


def _told_ends(report: Report) -> list[AttemptKey]:
    """The attempts that are over by this report."""
    ended = [AttemptKey(e.task_id, report.epoch, e.attempt) for e in report.ended]
    return ended + [AttemptKey(e.task_id, report.epoch, e.attempt) for e in report.handed_back]
