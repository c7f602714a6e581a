"""Streams in the machines: values once and in order, room told in whole numbers."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastworker._core._client import CREDIT_WINDOW, ClientState
from fastworker._core._client_events import (
    FrameArrived,
    TaskEnded,
    TaskSubmitted,
    ValueArrived,
    ValueRead,
)
from fastworker._core._messages import (
    BATCH_BYTES,
    STREAM_BYTES,
    CallOptions,
    EndedAttempt,
    Ending,
    FunctionInfo,
    HandedBack,
    Kind,
    Lease,
    Nothing,
    PollReply,
    ReadUpTo,
    Report,
    StreamCredit,
    StreamValue,
    SubmitReply,
    TaskEvent,
    TaskSpec,
    WireStatus,
    YieldedValue,
)
from fastworker._core._report_queue import ReportQueue
from fastworker._core._results import Results
from fastworker._core._retry import RetryPolicy
from fastworker._core._scheduler import Scheduler
from fastworker._core._scheduler_events import (
    AttemptsReported,
    CapacityStated,
    Dispatch,
    PassCredit,
    SubworkerJoined,
    SubworkerLost,
    TaskChanged,
    TasksSubmitted,
    ValueCame,
    ValuesRead,
)
from fastworker._core._sessions import Handout, Outbox
from fastworker._core._stream_reading import PORTION, StreamReadings
from fastworker._core._streams import StreamProgress
from fastworker._errors import RemoteProtocolError
from tests.core.one_peer import OnePeer

ANN, W = b"ann", b"w"


def value(index: int, task_id: str = "s", payload: bytes = b"1") -> StreamValue:
    return StreamValue(task_id, index, 1, payload)


# --- the numbers of one stream ---


def test_a_value_counts_once() -> None:
    progress = StreamProgress(3)
    assert [progress.take(index) for index in (0, 0, 1, 0, 1, 2)] == [
        True,
        False,
        True,
        False,
        False,
        True,
    ]


@pytest.mark.parametrize("index", [1, 2, 5])
def test_a_value_that_skips_one_breaks_a_rule(index: int) -> None:
    with pytest.raises(RemoteProtocolError, match=f"value {index} of a stream came after 0"):
        StreamProgress(3).take(index)


def test_a_value_for_which_nobody_has_room_breaks_a_rule() -> None:
    progress = StreamProgress(2)
    progress.take(0)
    progress.take(1)
    with pytest.raises(RemoteProtocolError, match="with room for 2 more"):
        progress.take(2)
    progress.note_read(1)
    assert progress.take(2)


def test_nobody_reads_what_has_not_come() -> None:
    progress = StreamProgress(2)
    assert not progress.note_read(5)
    progress.take(0)
    assert progress.note_read(5)
    assert progress.read == 1
    assert not progress.note_read(1)
    assert not progress.note_read(0)


# --- what a client says of its reading ---


@given(
    window=st.integers(1, 100),
    sizes=st.lists(st.integers(0, STREAM_BYTES // 2), max_size=200),
)
def test_what_a_reader_has_not_told_never_stops_the_generator(
    window: int, sizes: list[int]
) -> None:
    readings = StreamReadings()
    readings.open("s", window)
    told = 0
    for index, size in enumerate(sizes):
        assert readings.take(value(index))
        readings.note_read("s", size)
        readings.check()
        if readings.has_news:
            (news,) = readings.tell().read
            assert news.count > told
            told = news.count
        untold = sizes[told : index + 1]
        assert len(untold) < window
        assert sum(untold) < STREAM_BYTES


def test_room_is_told_in_portions() -> None:
    readings = StreamReadings()
    readings.open("s", 40)
    told = []
    for index in range(100):
        readings.take(value(index))
        if readings.note_read("s", 1):
            told += [item.count for item in readings.tell().read]
    assert told == list(range(40 // PORTION, 101, 40 // PORTION))


# --- what is kept for peers ---


def test_an_outbox_gives_values_in_order_and_the_end_behind_them() -> None:
    outbox = Outbox()
    outbox.put(TaskEvent("s", WireStatus.STARTED))
    for index in range(3):
        outbox.put_value(value(index))
    outbox.put(TaskEvent("s", WireStatus.SUCCESS))
    reply = outbox.take(0)
    assert [item.index for item in reply.values] == [0, 1, 2]
    assert [event.status for event in reply.events] == [WireStatus.SUCCESS]
    outbox.check()


def test_an_outbox_gives_each_value_until_it_has_arrived() -> None:
    outbox = Outbox()
    outbox.put_value(value(0))
    first = outbox.take(0)
    outbox.put_value(value(1))
    assert [item.index for item in outbox.take(0).values] == [0, 1]
    outbox.acknowledge(first.cursor)
    assert [item.index for item in outbox.take(first.cursor).values] == [1]


def test_an_outbox_cuts_values_at_a_batch() -> None:
    outbox = Outbox()
    for index in range(5):
        outbox.put_value(value(index, payload=b"x" * (BATCH_BYTES // 2 - 200)))
    reply = outbox.take(0)
    assert [item.index for item in reply.values] == [0, 1]
    outbox.acknowledge(reply.cursor)
    assert [item.index for item in outbox.take(reply.cursor).values] == [2, 3]


def test_an_outbox_that_is_full_gives_up_what_a_value_holds_and_says_so() -> None:
    outbox = Outbox(max_bytes=1000)
    for index in range(2):
        outbox.put_value(value(index, payload=b"x" * 600))
    first, second = outbox.take(0).values
    assert (first.value_dropped, second.value_dropped) == (False, True)
    assert second.payload == b""


def test_an_outbox_forgets_what_its_reader_says_it_has_read() -> None:
    outbox = Outbox()
    for index in range(5):
        outbox.put_value(value(index))
        outbox.put_value(value(index, "other"))
    outbox.forget_read("s", 3)
    outbox.forget_read("s", 3)
    outbox.check()
    kept = [(item.task_id, item.index) for item in outbox.take(0).values]
    assert [index for task_id, index in kept if task_id == "s"] == [3, 4]
    assert [index for task_id, index in kept if task_id == "other"] == [0, 1, 2, 3, 4]


def test_a_handout_keeps_the_latest_credit_until_it_has_arrived() -> None:
    handout = Handout()
    handout.put_credit(StreamCredit("s", 1, 2))
    lost = handout.take()
    handout.put_credit(StreamCredit("s", 1, 5))
    assert handout.take().credits == [StreamCredit("s", 1, 5)]
    handout.acknowledge(lost.cursor)
    given = handout.take()
    assert given.credits == [StreamCredit("s", 1, 5)]
    assert not handout.has_orders
    handout.acknowledge(given.cursor)
    assert not len(handout)


def test_a_handout_forgets_credit_for_what_has_ended() -> None:
    handout = Handout()
    handout.put_credit(StreamCredit("s", 1, 2))
    handout.keep(lambda item: False)
    assert not len(handout)


# --- reports ---


def yielded(index: int, payload: bytes = b"1") -> YieldedValue:
    return YieldedValue("s", 1, index, 1, payload)


def ended(outcome: WireStatus = WireStatus.SUCCESS) -> EndedAttempt:
    return EndedAttempt("s", 1, outcome, 1.0, 2.0, 1.0)


def test_of_reports_with_values_one_at_a_time_is_under_way() -> None:
    queue = ReportQueue()
    queue.add_yielded(1, yielded(0))
    assert queue.is_urgent
    assert queue.take(1).yielded == [yielded(0)]
    queue.add_yielded(1, yielded(1))
    queue.add_ended(1, ended(), of_stream=True)
    assert not queue.is_urgent
    queue.add_ended(1, EndedAttempt("other", 1, WireStatus.SUCCESS, 1.0, 2.0, 1.0))
    report = queue.take(1)
    assert report.yielded == []
    assert [item.task_id for item in report.ended] == ["other"]
    queue.is_streaming = False
    report = queue.take(1)
    assert (report.yielded, report.ended) == ([yielded(1)], [ended()])


def test_values_are_cut_at_a_batch_and_their_end_waits() -> None:
    queue = ReportQueue()
    for index in range(3):
        queue.add_yielded(1, yielded(index, b"x" * (BATCH_BYTES // 2 - 200)))
    queue.add_ended(1, ended(), of_stream=True)
    report = queue.take(1)
    assert [item.index for item in report.yielded] == [0, 1]
    assert report.ended == []
    queue.is_streaming = False
    report = queue.take(1)
    assert [item.index for item in report.yielded] == [2]
    assert report.ended == [ended()]


# --- the scheduler ---


class Plane:
    """A scheduler with one client, one subworker and one stream, leased."""

    def __init__(self, *, window: int = 4, retries: int = 0) -> None:
        self.now = 50.0
        results = Results(max_size=1000, ttl=60.0)
        self.scheduler = Scheduler(epoch=1, results=results, now=self.now, rng=random.Random(1))
        info = FunctionInfo("count", "thread", retry=RetryPolicy(retries, 1.0, 2.0, 60.0, 0.0))
        self.handle(SubworkerJoined(W, "w", "", [info]))
        self.handle(CapacityStated(W, Lease(0, {"thread": 1})))
        spec = TaskSpec("s", "count", 2, 1, b"", 0.0, options=CallOptions(stream=window))
        self.handle(TasksSubmitted(ANN, [spec]))
        self.handle(Dispatch([W]))

    def handle(self, event: object) -> list[object]:
        commands = self.scheduler.handle(event, now=self.now)  # type: ignore[arg-type]
        self.scheduler.check()
        return list(commands)

    def report(self, **news: list[object]) -> list[object]:
        return self.handle(AttemptsReported(W, Report(1, **news)))  # type: ignore[arg-type]

    def yields(self, *indices: int) -> list[int]:
        """The values that are passed on."""
        commands = self.report(yielded=[yielded(index) for index in indices])
        passed = [c for c in commands if isinstance(c, ValueCame)]
        assert all(each.owner == ANN for each in passed)
        return [each.value.index for each in passed]

    def read(self, count: int, owner: bytes = ANN) -> list[StreamCredit]:
        commands = self.handle(ValuesRead(owner, [ReadUpTo("s", count)]))
        return [c.credit for c in commands if isinstance(c, PassCredit) and c.key == W]

    def outcome(self) -> TaskEvent:
        return self.scheduler.describe("s", now=self.now)


def test_values_pass_through_once_and_in_order() -> None:
    plane = Plane()
    assert plane.yields(0, 1) == [0, 1]
    assert plane.yields(0, 1, 2) == [2]


def test_values_of_an_attempt_that_is_over_are_dropped() -> None:
    plane = Plane()
    plane.report(ended=[ended()])
    assert plane.yields(0) == []
    assert plane.scheduler.statistics().stale_reports == 1


@pytest.mark.parametrize("indices", [(1,), (0, 2), (0, 1, 2, 3, 4)])
def test_a_subworker_that_skips_values_or_floods_breaks_a_rule(indices: tuple[int]) -> None:
    with pytest.raises(RemoteProtocolError):
        Plane().yields(*indices)


def test_a_value_of_what_is_no_stream_breaks_a_rule() -> None:
    with pytest.raises(RemoteProtocolError, match="is no stream"):
        Plane(window=0).yields(0)


def test_room_is_passed_on_once_and_only_from_the_owner() -> None:
    plane = Plane()
    plane.yields(0, 1, 2)
    assert plane.read(2, owner=b"eve") == []
    assert plane.read(2) == [StreamCredit("s", 1, 2)]
    assert plane.read(2) == []
    assert plane.read(1) == []
    assert plane.read(99) == [StreamCredit("s", 1, 3)]
    assert plane.yields(3, 4, 5, 6) == [3, 4, 5, 6]


def test_values_and_end_in_one_report_are_told_in_this_order() -> None:
    commands = Plane().report(yielded=[yielded(0)], ended=[ended()])
    told = [type(c) for c in commands if isinstance(c, ValueCame | TaskChanged)]
    assert told == [ValueCame, TaskChanged]


@pytest.mark.parametrize("has_yielded", [False, True])
def test_a_stream_of_a_lost_subworker_runs_again_only_before_its_first_value(
    has_yielded: bool,
) -> None:
    plane = Plane()
    if has_yielded:
        plane.yields(0)
    plane.handle(SubworkerLost(W, "w is gone"))
    outcome = plane.outcome()
    if has_yielded:
        assert outcome.status is WireStatus.FAILURE
        assert outcome.ending is Ending.LOST
        assert outcome.error == (
            "lost: w is gone; it is not run again, because it had given values"
        )
    else:
        assert outcome.status is WireStatus.PENDING


@pytest.mark.parametrize("has_yielded", [False, True])
def test_a_stream_is_retried_only_before_its_first_value(has_yielded: bool) -> None:
    plane = Plane(retries=3)
    if has_yielded:
        plane.yields(0)
    plane.report(ended=[ended(WireStatus.FAILURE)])
    expected = WireStatus.FAILURE if has_yielded else WireStatus.PENDING
    assert plane.outcome().status is expected


@pytest.mark.parametrize("has_yielded", [False, True])
def test_a_stream_that_is_handed_back_runs_again_only_before_its_first_value(
    has_yielded: bool,
) -> None:
    plane = Plane()
    if has_yielded:
        plane.yields(0)
    plane.report(handed_back=[HandedBack("s", 1)])
    outcome = plane.outcome()
    assert outcome.status is (WireStatus.FAILURE if has_yielded else WireStatus.PENDING)
    assert (outcome.ending is Ending.LOST) == has_yielded


# --- the client ---


class Desk(OnePeer):
    def __init__(self, window: int = 8) -> None:
        count = iter(range(1, 1000))
        state = ClientState(new_session_id=lambda: next(count).to_bytes(16, "big"))
        super().__init__(state, FrameArrived)
        self.cursor = 0
        self.connect()
        spec = TaskSpec("s", "count", 2, 1, b"", 0.0, options=CallOptions(stream=window))
        self.handle(TaskSubmitted(spec, deadline=math.inf))
        self.answer(Kind.SUBMIT, SubmitReply())
        self.commands.clear()

    def tell(self, *values: int, events: list[TaskEvent] | None = None) -> list[int]:
        """Let values come; what is passed on to the reader."""
        self.cursor += 1
        given = [value(index) for index in values]
        self.answer(Kind.POLL, PollReply(self.cursor, events or [], given))
        return [each.value.index for each in self.take(ValueArrived)]

    def read(self, count: int) -> None:
        for _ in range(count):
            self.handle(ValueRead("s", 10))

    def told(self) -> list[int]:
        """What requests that are under way say that it has read."""
        return [item.count for body in self.asked(Kind.CREDIT) for item in body.read]


def test_a_reader_gets_each_value_once_whatever_comes_twice() -> None:
    desk = Desk()
    assert desk.tell(0, 1) == [0, 1]
    assert desk.tell(0, 1, 2) == [2]


def test_values_come_before_the_end_that_comes_with_them() -> None:
    desk = Desk()
    desk.tell(0, events=[TaskEvent("s", WireStatus.SUCCESS)])
    desk = Desk()
    desk.cursor += 1
    done = TaskEvent("s", WireStatus.SUCCESS)
    desk.answer(Kind.POLL, PollReply(1, [done], [value(0)]))
    told = [type(c) for c in desk.commands if isinstance(c, ValueArrived | TaskEnded)]
    assert told == [ValueArrived, TaskEnded]


def test_a_value_that_comes_with_the_acknowledgement_is_kept() -> None:
    desk = Desk()
    spec = TaskSpec("t", "count", 2, 1, b"", 0.0, options=CallOptions(stream=8))
    desk.handle(TaskSubmitted(spec))
    desk.answer(Kind.POLL, PollReply(1, [], [value(0, "t")]))
    assert [each.value.task_id for each in desk.take(ValueArrived)] == ["t"]


def test_a_value_of_nobody_is_dropped() -> None:
    desk = Desk()
    desk.answer(Kind.POLL, PollReply(1, [], [value(0, "unknown")]))
    assert desk.take(ValueArrived) == []


def test_a_stream_with_a_gap_is_lost_and_cancelled() -> None:
    desk = Desk()
    assert desk.tell(0, 2, 3) == [0]
    (lost,) = desk.take(TaskEnded)
    assert lost.event.ending is Ending.LOST
    assert [body.ids for body in desk.asked(Kind.CANCEL)] == [["s"]]


def test_room_is_told_while_two_answers_are_awaited_at_most() -> None:
    desk = Desk(window=4)
    desk.tell(*range(8))
    desk.read(8)
    assert desk.told() == [1, 2]
    assert CREDIT_WINDOW == 2
    desk.answer(Kind.CREDIT, Nothing())
    assert desk.told() == [2, 8]


def test_no_room_is_told_of_a_stream_that_has_ended() -> None:
    desk = Desk(window=4)
    desk.tell(0, 1, 2, events=[TaskEvent("s", WireStatus.SUCCESS)])
    desk.read(3)
    assert desk.told() == []


def test_a_session_that_is_resumed_goes_on_telling() -> None:
    desk = Desk(window=4)
    desk.tell(0, 1)
    desk.disconnect()
    desk.read(1)
    desk.connect(resumed=True)
    assert desk.told() == [1]
    assert desk.tell(1, 2) == [2]


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_stream_is_lost_with_its_session(epoch: int) -> None:
    desk = Desk()
    desk.tell(0)
    desk.read(1)
    desk.disconnect()
    desk.epoch = epoch
    desk.connect(resumed=False)
    (lost,) = desk.take(TaskEnded)
    assert lost.event.status is WireStatus.FAILURE
    assert lost.event.ending is Ending.LOST
    assert lost.event.error.startswith("lost: ")
    assert [body.ids for body in desk.asked(Kind.CANCEL)] == [["s"]]
    assert desk.asked(Kind.WATCH) == []


def test_a_stream_that_was_never_acknowledged_is_sent_again() -> None:
    desk = Desk()
    spec = TaskSpec("t", "count", 2, 1, b"", 0.0, options=CallOptions(stream=8))
    desk.handle(TaskSubmitted(spec))
    desk.disconnect()
    desk.connect(resumed=False)
    assert [each.id for body in desk.asked(Kind.SUBMIT) for each in body.tasks] == ["t"]


@pytest.mark.parametrize("has_values", [True, False])
def test_a_stream_that_was_sent_again_and_has_succeeded_may_have_lost_its_values(
    has_values: bool,
) -> None:
    """S12: what it gave in the session before went there, and success would deny it."""
    desk = Desk()
    spec = TaskSpec("t", "count", 2, 1, b"", 0.0, options=CallOptions(stream=8))
    desk.handle(TaskSubmitted(spec))
    desk.epoch = 2
    desk.disconnect()
    desk.connect(resumed=False)
    desk.take(TaskEnded)
    desk.answer(Kind.SUBMIT, SubmitReply())
    desk.cursor = 1
    values = [value(0, "t")] if has_values else []
    desk.answer(Kind.POLL, PollReply(1, [TaskEvent("t", WireStatus.SUCCESS)], values))
    (end,) = desk.take(TaskEnded)
    if has_values:
        assert end.event.status is WireStatus.SUCCESS
    else:
        assert (end.event.status, end.event.ending) == (WireStatus.FAILURE, Ending.LOST)
        assert (
            end.event.error
            == "lost: the session with the control plane ended, and values with it"
        )
