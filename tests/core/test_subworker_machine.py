"""The subworker's machine: reports, work handed back, and its own end of the lease."""

from __future__ import annotations

import pytest

from fastworker._core._attempts import (
    OUTCOME_CANCELLED,
    OUTCOME_SUCCESS,
    AttemptEnded,
    AttemptYielded,
)
from fastworker._core._held_attempts import BUSY_SECONDS, Why
from fastworker._core._link_requester import DropPipe
from fastworker._core._messages import (
    BATCH_BYTES,
    Assignment,
    CallOptions,
    FunctionInfo,
    Kind,
    LeaseReply,
    Nothing,
    StreamCredit,
    WireStatus,
)
from fastworker._core._pipes import Flush
from fastworker._core._portions import PORTION_ITEMS
from fastworker._core._report_queue import STARTED_DELAY
from fastworker._core._subworker import (
    FENCE_MARGIN,
    LEASE_DELAY,
    LEASE_WINDOW,
    REPORT_WINDOW,
    SubworkerState,
)
from fastworker._core._subworker_events import (
    CancelAttempt,
    Drained,
    DrainRequested,
    FrameArrived,
    GiveCredit,
    LaneNews,
    SaidGoodbye,
    StartAttempts,
    SubworkerStopped,
    TakeBack,
)
from fastworker._models import DEFAULT_GRACE
from tests.core.bench import Bench


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.connect()
    return bench


def test_it_states_its_whole_capacity_and_one_lease_is_always_parked(bench: Bench) -> None:
    (lease,) = bench.asked(Kind.LEASE)
    assert lease.capacity == {"thread": 2}
    bench.lease("a")
    bench.start("a")
    bench.pass_time(0.1)
    (lease,) = bench.asked(Kind.LEASE)
    assert (lease.cursor, lease.capacity) == (1, {"thread": 2})


def test_what_is_leased_goes_to_its_lane_in_order(bench: Bench) -> None:
    bench.lease("a", "b")
    (given,) = bench.take(StartAttempts)
    assert [item.task_id for item in given.assignments] == ["a", "b"]


def test_an_assignment_that_comes_twice_runs_once(bench: Bench) -> None:
    """S6: two LEASEs crossed, and both answers gave it."""
    bench.lease("a")
    bench.take(StartAttempts)
    bench.pass_time(0.1)
    again = [Assignment("a", 1, "add", 1, b"()")]
    bench.answer(Kind.LEASE, LeaseReply(1, again, [], [1]))
    assert bench.take(StartAttempts) == []


def test_it_asks_for_more_at_once_when_much_has_come_and_else_with_the_first_report(
    bench: Bench,
) -> None:
    bench.asked(Kind.LEASE)
    bench.lease(*(f"few-{number}" for number in range(PORTION_ITEMS - 1)))
    assert bench.asked(Kind.LEASE) == []
    bench.pass_time(LEASE_DELAY)
    assert len(bench.asked(Kind.LEASE)) == 1
    bench.lease(*(f"many-{number}" for number in range(PORTION_ITEMS)))
    assert len(bench.asked(Kind.LEASE)) == 1


def test_many_ends_are_spread_over_the_reports_that_may_be_under_way() -> None:
    bench = Bench(slots=1000)
    bench.connect()
    names = [str(number) for number in range(6 * PORTION_ITEMS)]
    bench.lease(*names)
    bench.start(*names)
    bench.end(*names)
    reports = bench.asked(Kind.REPORT)
    assert [len(report.ended) for report in reports] == [2 * PORTION_ITEMS] * REPORT_WINDOW


def test_an_end_is_reported_at_once_and_takes_the_start_along(bench: Bench) -> None:
    bench.lease("a")
    bench.start("a")
    bench.end("a")
    (report,) = bench.asked(Kind.REPORT)
    assert [item.task_id for item in report.ended] == ["a"]
    assert report.started == []


def test_a_start_is_reported_alone_only_after_five_milliseconds(bench: Bench) -> None:
    bench.lease("a")
    bench.start("a")
    bench.pass_time(STARTED_DELAY * 0.9)
    assert bench.asked(Kind.REPORT) == []
    bench.pass_time(STARTED_DELAY * 0.2)
    (report,) = bench.asked(Kind.REPORT)
    assert [item.task_id for item in report.started] == ["a"]


def test_a_busy_lane_hands_back_what_it_has_not_started_after_ten_milliseconds(
    bench: Bench,
) -> None:
    bench.lease("a", "b", "c", "d")
    bench.start("a", "b")
    bench.pass_time(BUSY_SECONDS * 0.9)
    assert bench.take(TakeBack) == []
    bench.pass_time(BUSY_SECONDS * 0.2)
    bench.take_back()
    reports = bench.asked(Kind.REPORT)
    assert [i.task_id for r in reports for i in r.handed_back] == ["c", "d"]
    assert max(r.busy.get("add", 0.0) for r in reports) >= BUSY_SECONDS * 0.9


def test_a_lane_that_gets_on_is_not_busy(bench: Bench) -> None:
    bench.lease("a", "b", "c", "d")
    for task_id in "abc":
        bench.start(task_id)
        bench.pass_time(BUSY_SECONDS * 0.8)
        bench.end(task_id)
    assert bench.take(TakeBack) == []


def test_a_lane_that_starts_nothing_with_a_free_slot_is_given_one_attempt_to_try(
    bench: Bench,
) -> None:
    """A coroutine blocks its loop: without this, work would go back and forth."""
    bench.lease("a", "b")
    bench.start("a")
    bench.pass_time(0.02)
    bench.take_back()
    assert bench.state._capacity() == {"thread": 2}  # one runs, one to try
    bench.end("a")
    bench.lease("c")
    bench.pass_time(0.02)
    bench.take_back()
    assert bench.state._capacity() == {"thread": 1}  # nothing runs, one to try
    bench.lease("d")
    bench.start("d")
    assert bench.state._capacity() == {"thread": 2}  # it gets on again


def test_a_cancel_is_passed_to_the_lane_and_the_end_is_reported_as_such(bench: Bench) -> None:
    (key,) = bench.lease("a")
    bench.start("a")
    bench.pass_time(0.1)
    bench.lease(cancels=("a", "long gone"))
    stopped = CancelAttempt("thread", key, DEFAULT_GRACE, Why.CANCELLED)
    assert bench.take(CancelAttempt) == [stopped]
    bench.end("a", kind=OUTCOME_CANCELLED)
    outcomes = [i.outcome for r in bench.asked(Kind.REPORT) for i in r.ended]
    assert outcomes == [WireStatus.CANCELLED]


# --- the end of the lease ---------------------------------------------------


def test_it_stops_its_attempts_two_seconds_before_the_lease_could_end(bench: Bench) -> None:
    """S7: and what it says afterwards is said in a new session."""
    (key,) = bench.lease("a")
    bench.start("a")
    old = bench.session
    bench.disconnect()
    bench.pass_time(30.0 - FENCE_MARGIN - 0.5)
    assert bench.take(CancelAttempt) == []
    bench.pass_time(1.0)
    assert bench.take(CancelAttempt) == [CancelAttempt("thread", key, DEFAULT_GRACE)]
    bench.connect()
    assert bench.session != old
    assert bench.hellos[-1].epoch == 0


@pytest.mark.parametrize("second", [("a", "add"), ("b", "unknown")])
def test_of_a_reply_that_leases_what_cannot_be_nothing_is_held(
    second: tuple[str, str],
) -> None:
    """N6: the same attempt twice, or a function that is not here."""
    bench = Bench()
    bench.connect()
    leased = [Assignment(i, 1, name, 1, b"()") for i, name in (("a", "add"), second)]
    bench.answer(Kind.LEASE, LeaseReply(2, leased, [], [1, 2]))
    assert len(bench.take(DropPipe)) == 1
    assert bench.take(StartAttempts) == []
    assert len(bench.state._attempts) == 0


def test_an_orphan_takes_up_its_slot_until_it_ends(bench: Bench) -> None:
    # T3 in docs/faults.md.
    bench.lease("a")
    bench.start("a")
    bench.disconnect()
    bench.pass_time(40.0)
    bench.connect()
    assert bench.asked(Kind.LEASE)[-1].capacity == {"thread": 1}
    bench.end("a")
    assert bench.asked(Kind.LEASE)[-1].capacity == {"thread": 2}
    assert not any(report.ended for report in bench.asked(Kind.REPORT))


def test_a_session_that_comes_back_in_time_keeps_everything(bench: Bench) -> None:
    bench.lease("a")
    bench.start("a")
    bench.disconnect()
    bench.pass_time(0.5)
    bench.end("a")
    bench.connect(resumed=True)
    assert bench.take(CancelAttempt) == []
    assert [i.task_id for r in bench.asked(Kind.REPORT) for i in r.ended] == ["a"]


def test_a_new_epoch_ends_the_leases_of_the_old_one(bench: Bench) -> None:
    (key,) = bench.lease("a")
    bench.start("a")
    bench.epoch = 2
    bench.disconnect()
    bench.connect()
    assert bench.take(CancelAttempt) == [CancelAttempt("thread", key, DEFAULT_GRACE)]
    bench.handle(LaneNews([AttemptEnded(key, OUTCOME_SUCCESS, 1.0, 2.0, 1.0)]))
    assert not any(report.ended for report in bench.asked(Kind.REPORT))


def test_orphans_that_end_one_by_one_do_not_fill_the_slots_with_leases() -> None:
    count = iter(range(1, 99))
    state = SubworkerState(
        worker_id="w",
        functions=[FunctionInfo("add", "thread")],
        slots={"thread": 30},
        new_session_id=lambda: next(count).to_bytes(16, "big"),
    )
    bench = Bench()
    bench.state = state
    bench.connect()
    ids = [f"t{n}" for n in range(30)]
    keys = bench.lease(*ids)
    bench.start(*ids)
    bench.epoch = 2
    bench.disconnect()
    bench.connect()
    for key in keys:  # and no answer comes meanwhile
        bench.handle(LaneNews([AttemptEnded(key, OUTCOME_SUCCESS, 1.0, 2.0, 1.0)]))
        bench.pass_time(0.01)
    assert len(bench.asked(Kind.LEASE)) <= LEASE_WINDOW


# --- reports ----------------------------------------------------------------


def test_a_report_is_cut_at_one_mebibyte_and_a_larger_item_goes_alone(bench: Bench) -> None:
    bench.lease("a", "b")
    bench.start("a", "b")
    bench.end("a", "b", payload=bytes(BATCH_BYTES - 1000))
    assert [len(r.ended) for r in bench.asked(Kind.REPORT)] == [1, 1]


def test_what_gathers_while_the_window_is_closed_goes_in_one_report(bench: Bench) -> None:
    for number in range(REPORT_WINDOW):
        bench.lease(f"t{number}")
        bench.start(f"t{number}")
        bench.end(f"t{number}")
        bench.pass_time(0.1)
    bench.lease("x", "y")
    bench.start("x", "y")
    bench.end("x")
    bench.end("y")
    assert len(bench.asked(Kind.REPORT)) == REPORT_WINDOW
    bench.answer(Kind.REPORT, Nothing())
    assert [i.task_id for i in bench.asked(Kind.REPORT)[-1].ended] == ["x", "y"]


# --- leaving ----------------------------------------------------------------


def test_drain_lets_what_runs_end_reports_all_of_it_and_then_says_so(bench: Bench) -> None:
    """L5."""
    bench.lease("a", "b", "c")
    bench.start("a", "b")
    bench.handle(DrainRequested())
    bench.take_back()
    assert bench.asked(Kind.LEASE)[-1].capacity == {"thread": 0}
    assert bench.asked(Kind.LEASE)[-1].draining
    bench.end("a", "b")
    assert bench.take(Drained) == []
    while bench.asked(Kind.REPORT):
        assert bench.take(Drained) == []
        bench.answer(Kind.REPORT, Nothing())
    assert bench.take(Drained) == [Drained()]
    bench.handle(Flush())
    assert bench.take(Drained) == []


def test_work_that_arrives_while_it_drains_goes_back(bench: Bench) -> None:
    bench.handle(DrainRequested())
    bench.lease("late")
    assert bench.take(StartAttempts) == []
    assert [i.task_id for r in bench.asked(Kind.REPORT) for i in r.handed_back] == ["late"]


def test_goodbye_comes_after_the_last_report(bench: Bench) -> None:
    # H8 in docs/faults.md.
    bench.lease("a")
    bench.start("a")
    bench.end("a")
    bench.handle(SubworkerStopped())
    assert bench.asked(Kind.BYE) == []
    bench.answer(Kind.REPORT, Nothing())
    assert len(bench.asked(Kind.BYE)) == 1
    bench.answer(Kind.BYE, Nothing())
    assert bench.take(SaidGoodbye) == [SaidGoodbye()]


def test_without_a_connection_goodbye_is_said_to_nobody() -> None:
    bench = Bench()
    bench.handle(SubworkerStopped())
    assert bench.take(SaidGoodbye) == [SaidGoodbye()]


def test_bytes_that_are_no_frame_drop_the_pipe_and_nothing_else(bench: Bench) -> None:
    bench.lease("a")
    bench.handle(FrameArrived(b"\xc1"))
    assert bench.take(DropPipe) == [DropPipe()]
    assert bench.state.statistics().malformed_frames == 1
    assert bench.take(CancelAttempt) == []


# --- streams ---


def stream(bench: Bench, *task_ids: str) -> None:
    assignments = [
        Assignment(task_id, 1, "add", 1, b"()", options=CallOptions(stream=8))
        for task_id in task_ids
    ]
    numbers = list(range(bench.number + 1, bench.number + 1 + len(task_ids)))
    bench.number += len(task_ids)
    bench.answer(Kind.LEASE, LeaseReply(bench.number, assignments, [], numbers))
    bench.start(*task_ids)
    bench.pass_time(0.004)  # now the next LEASE is parked


def yields(bench: Bench, task_id: str, *indices: int) -> None:
    values = [AttemptYielded(bench.key(task_id), index, b"1", 1) for index in indices]
    bench.handle(LaneNews(list(values)))


def reported(bench: Bench) -> list[list[int]]:
    """The values in each report that is under way and has any."""
    bodies = [body.yielded for body in bench.asked(Kind.REPORT)]
    return [[value.index for value in body] for body in bodies if body]


def test_values_are_reported_in_one_report_at_a_time(bench: Bench) -> None:
    stream(bench, "a")
    yields(bench, "a", 0)
    yields(bench, "a", 1, 2)
    bench.end("a")
    assert reported(bench) == [[0]]
    assert not any(body.ended for body in bench.asked(Kind.REPORT))
    bench.answer(Kind.REPORT, Nothing())
    assert reported(bench) == [[1, 2]]
    assert [item.task_id for body in bench.asked(Kind.REPORT) for item in body.ended] == ["a"]


def test_the_ends_of_others_do_not_wait_for_values(bench: Bench) -> None:
    stream(bench, "a")
    bench.lease("b")
    bench.start("b")
    yields(bench, "a", 0)
    bench.end("b")
    ended = [item.task_id for body in bench.asked(Kind.REPORT) for item in body.ended]
    assert ended == ["b"]


def test_credit_goes_to_the_lane_that_runs_the_generator(bench: Bench) -> None:
    stream(bench, "a")
    credits = [StreamCredit("a", 1, 5), StreamCredit("a", 2, 9), StreamCredit("gone", 1, 9)]
    bench.answer(Kind.LEASE, LeaseReply(bench.number, credits=credits))
    assert bench.take(GiveCredit) == [GiveCredit("thread", bench.key("a"), 5)]


def test_after_a_new_session_values_of_before_are_not_told(bench: Bench) -> None:
    stream(bench, "a")
    yields(bench, "a", 0)
    yields(bench, "a", 1)
    bench.disconnect()
    bench.connect(resumed=False)
    yields(bench, "a", 2)
    assert [index for body in reported(bench) for index in body] in ([], [0])
