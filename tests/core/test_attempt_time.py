"""The time of each attempt: limits, graces, what does not stop, and slots that are lent."""

from __future__ import annotations

import pytest

from fastworker._core._attempts import (
    OUTCOME_CANCELLED,
    OUTCOME_EXPIRED,
    OUTCOME_FAILURE,
    OUTCOME_SUCCESS,
    AttemptEnded,
    AttemptPaused,
    AttemptProgressed,
)
from fastworker._core._held_attempts import Why
from fastworker._core._messages import (
    MAX_BATCH_ITEMS,
    CallOptions,
    Ending,
    FunctionInfo,
    HandedBack,
    Kind,
    WireStatus,
)
from fastworker._core._report_queue import PROGRESS_DELAY
from fastworker._core._subworker import KILL_MARGIN
from fastworker._core._subworker_events import (
    CancelAttempt,
    DrainCancelled,
    Drained,
    DrainRequested,
    Interrupted,
    LaneNews,
    WornOut,
)
from tests.core.bench import Bench

TIMED = FunctionInfo("add", "thread", timeout=10.0, grace=2.0)
PATIENT = FunctionInfo("add", "thread", grace=2.0)


def connected(*functions: FunctionInfo, **options: object) -> Bench:
    bench = Bench(*functions, **options)  # type: ignore[arg-type]
    bench.connect()
    return bench


def graces(bench: Bench) -> list[float]:
    return [command.grace for command in bench.take(CancelAttempt)]


# --- limits -----------------------------------------------------------------


def test_an_attempt_is_asked_to_stop_at_its_timeout_and_not_before() -> None:
    bench = connected(TIMED)
    bench.lease("a")
    bench.pass_time(5.0)  # time in the lane's queue does not count
    bench.start("a")
    bench.pass_time(9.9)
    assert bench.take(CancelAttempt) == []
    bench.pass_time(0.2)
    stopped = CancelAttempt("thread", bench.key("a"), 2.0, Why.TIMED_OUT)
    assert bench.take(CancelAttempt) == [stopped]
    bench.pass_time(1.0)
    assert bench.take(CancelAttempt) == []


def test_one_that_stops_in_its_grace_has_timed_out_and_may_be_retried() -> None:
    bench = connected(TIMED)
    bench.run("a")
    bench.pass_time(10.0)
    bench.end("a", kind=OUTCOME_CANCELLED)
    (end,) = bench.ended()
    assert (end.outcome, end.ending, end.is_retryable) == (
        WireStatus.FAILURE,
        Ending.CANCELLED,
        True,
    )
    assert end.error == "TaskTimedOut: it ran longer than its timeout of 10 s"
    assert len(bench.state._alarms) == 0
    bench.pass_time(60.0)
    assert bench.ended() == []
    assert bench.capacity() == {"thread": 2}


@pytest.mark.parametrize("stops", [True, False])
def test_a_timeout_that_its_function_does_not_retry_is_final(stops: bool) -> None:
    bench = connected(TIMED, final_timeouts=["add"])
    bench.run("a")
    bench.pass_time(10.0)
    if stops:
        bench.end("a", kind=OUTCOME_CANCELLED)
    else:
        bench.pass_time(2.0)
    (end,) = bench.ended()
    assert (end.outcome, end.is_retryable) == (WireStatus.FAILURE, False)


def test_one_that_returns_in_its_grace_has_returned() -> None:
    bench = connected(TIMED)
    bench.run("a")
    bench.pass_time(11.0)
    bench.end("a")
    assert bench.ended()[0].outcome is WireStatus.SUCCESS


def test_one_that_does_not_stop_is_given_up_after_its_grace_and_keeps_its_slot() -> None:
    bench = connected(TIMED)
    bench.run("a")
    bench.pass_time(10.0)
    bench.pass_time(1.9)
    assert bench.ended() == []
    bench.pass_time(0.2)
    (end,) = bench.ended()
    assert (end.outcome, end.ending) == (WireStatus.FAILURE, Ending.ABANDONED)
    assert end.error.startswith("TaskTimedOut: ")
    assert "may still be running" in end.error
    assert bench.capacity() == {"thread": 1}
    bench.end("a")
    assert bench.ended() == []
    assert bench.capacity() == {"thread": 2}


def test_without_a_grace_it_is_given_up_at_once() -> None:
    bench = connected(FunctionInfo("add", "thread", timeout=10.0, grace=0.0))
    bench.run("a")
    bench.pass_time(10.0)
    assert bench.ended()[0].ending is Ending.ABANDONED
    assert len(bench.take(CancelAttempt)) == 1


def test_the_call_may_want_another_timeout_and_grace() -> None:
    bench = connected(TIMED)
    bench.run("a", options=CallOptions(timeout=1.0, grace=0.5))
    bench.pass_time(1.0)
    assert graces(bench) == [0.5]
    bench.pass_time(0.5)
    assert bench.ended()[0].ending is Ending.ABANDONED


def test_at_its_deadline_an_attempt_is_stopped_for_good() -> None:
    bench = connected(PATIENT)
    bench.run("a", time_left=3.0)
    bench.pass_time(2.9)
    assert bench.take(CancelAttempt) == []
    bench.pass_time(0.2)
    assert graces(bench) == [2.0]
    bench.end("a", kind=OUTCOME_CANCELLED)
    (end,) = bench.ended()
    assert (end.outcome, end.is_retryable) == (WireStatus.FAILURE, False)
    assert end.error == "TaskTimedOut: its deadline passed while it ran"


def test_of_timeout_and_deadline_the_earlier_counts() -> None:
    bench = connected(TIMED)
    bench.run("late", time_left=60.0)
    bench.run("early", time_left=1.0)
    bench.pass_time(1.0)
    assert [c.key.task_id for c in bench.take(CancelAttempt)] == ["early"]
    bench.pass_time(9.0)
    assert [c.key.task_id for c in bench.take(CancelAttempt)] == ["late"]


def test_one_that_starts_after_its_deadline_is_stopped_at_once() -> None:
    bench = connected(PATIENT)
    bench.lease("a", time_left=0.001)
    bench.pass_time(0.005)
    bench.start("a")
    bench.pass_time(0.0)
    assert graces(bench) == [2.0]


def test_one_that_the_lane_did_not_start_in_time_has_expired() -> None:
    bench = connected(PATIENT)
    bench.lease("a", time_left=0.001)
    key = bench.key("a")
    bench.handle(LaneNews([AttemptEnded(key, OUTCOME_EXPIRED, 0.0, 2.0, 0.0, error="expired")]))
    (end,) = bench.ended()
    assert (end.outcome, end.ending) == (WireStatus.EXPIRED, Ending.NEVER_STARTED)


# --- cancels ----------------------------------------------------------------


def test_a_cancel_gives_the_functions_grace_and_then_gives_up() -> None:
    bench = connected(PATIENT)
    bench.run("a")
    bench.cancel("a")
    assert graces(bench) == [2.0]
    bench.pass_time(1.9)
    assert bench.ended() == []
    bench.pass_time(0.1)
    (end,) = bench.ended()
    assert (end.outcome, end.ending) == (WireStatus.CANCELLED, Ending.ABANDONED)
    assert end.error.startswith("abandoned: ")


def test_a_cancel_with_a_grace_shortens_and_never_lengthens() -> None:
    bench = connected(PATIENT)
    bench.run("a")
    bench.cancel("a")
    bench.cancel("a", grace=0.5)
    bench.cancel("a", grace=60.0)
    bench.pass_time(0.4)
    assert bench.ended() == []
    bench.pass_time(0.1)
    assert bench.ended()[0].ending is Ending.ABANDONED


def test_a_cancelled_attempt_that_returns_all_the_same_has_completed() -> None:
    bench = connected(PATIENT)
    bench.run("a")
    bench.cancel("a")
    bench.end("a", kind=OUTCOME_SUCCESS)
    (end,) = bench.ended()
    assert (end.outcome, end.ending) == (WireStatus.SUCCESS, Ending.COMPLETED)
    bench.pass_time(10.0)
    assert bench.ended() == []


def test_a_cancelled_attempt_that_never_started_says_so() -> None:
    bench = connected(PATIENT)
    bench.lease("a")
    bench.cancel("a")
    key = bench.key("a")
    bench.handle(LaneNews([AttemptEnded(key, OUTCOME_CANCELLED, 0.0, 2.0, 0.0)]))
    (end,) = bench.ended()
    assert (end.outcome, end.ending) == (WireStatus.CANCELLED, Ending.NEVER_STARTED)


def test_a_cancel_while_it_is_stopped_for_its_timeout_makes_it_cancelled() -> None:
    bench = connected(TIMED)
    bench.run("a")
    bench.pass_time(10.0)
    bench.cancel("a")
    bench.end("a", kind=OUTCOME_CANCELLED)
    assert bench.ended()[0].outcome is WireStatus.CANCELLED


def test_a_timeout_while_it_is_cancelled_gives_no_second_grace() -> None:
    bench = connected(TIMED)
    bench.run("a")
    bench.pass_time(9.0)
    bench.cancel("a", grace=1.5)
    bench.pass_time(1.4)
    assert graces(bench) == [1.5]
    bench.pass_time(0.1)
    (end,) = bench.ended()
    assert (end.outcome, end.ending) == (WireStatus.CANCELLED, Ending.ABANDONED)


def test_a_process_is_given_up_later_for_its_lane_kills_it_first() -> None:
    bench = connected(FunctionInfo("add", "process", grace=1.0), kinds=("process",))
    bench.run("a")
    bench.cancel("a")
    bench.pass_time(1.0 + KILL_MARGIN * 0.9)
    assert bench.ended() == []
    key = bench.key("a")
    killed = AttemptEnded(key, OUTCOME_CANCELLED, 1.0, 2.0, 1.0, signal=9)
    bench.handle(LaneNews([killed]))
    (end,) = bench.ended()
    assert (end.outcome, end.ending, end.signal) == (WireStatus.CANCELLED, Ending.KILLED, 9)


def test_a_process_that_not_even_the_lane_ends_is_given_up() -> None:
    bench = connected(FunctionInfo("add", "process", grace=1.0), kinds=("process",))
    bench.run("a")
    bench.cancel("a")
    bench.pass_time(1.0 + KILL_MARGIN)
    assert bench.ended()[0].ending is Ending.ABANDONED


def test_a_cancel_of_one_that_was_given_up_does_nothing() -> None:
    bench = connected(TIMED)
    bench.run("a")
    bench.pass_time(12.0)
    assert len(bench.ended()) == 1
    bench.take(CancelAttempt)
    bench.cancel("a", grace=0.0)
    bench.pass_time(5.0)
    assert bench.take(CancelAttempt) == []
    assert bench.ended() == []


# --- worn out ---------------------------------------------------------------


def test_a_lane_is_worn_out_when_every_slot_is_taken_by_what_was_given_up() -> None:
    bench = connected(TIMED)
    bench.run("a")
    bench.pass_time(1.0)
    bench.run("b")
    bench.pass_time(11.0)
    assert len(bench.ended()) == 1
    assert bench.take(WornOut) == []
    bench.pass_time(1.0)
    assert bench.take(WornOut) == [WornOut("thread")]
    assert bench.capacity() == {"thread": 0}


def test_what_was_given_up_holds_no_drain() -> None:
    bench = connected(TIMED)
    bench.run("a")
    bench.handle(DrainRequested())
    bench.pass_time(11.9)
    assert bench.take(Drained) == []
    bench.pass_time(0.1)
    assert len(bench.ended()) == 1
    assert bench.take(Drained) == [Drained()]


# --- interrupted ------------------------------------------------------------


def handed_back(bench: Bench) -> list[HandedBack]:
    return [item for report in bench.reported() for item in report.handed_back]


def test_an_interrupted_attempt_that_stops_goes_back_as_one_that_had_started() -> None:
    bench = connected(PATIENT)
    bench.lease("a")
    bench.start("a")
    bench.handle(DrainRequested())
    bench.handle(Interrupted(1.0))
    assert graces(bench) == [1.0]
    bench.end("a", kind=OUTCOME_CANCELLED)  # before its start was told
    assert handed_back(bench) == [HandedBack("a", 1, was_started=True)]
    assert bench.take(Drained) == [Drained()]


@pytest.mark.parametrize("kind", [OUTCOME_SUCCESS, OUTCOME_FAILURE])
def test_an_interrupted_attempt_that_ends_by_itself_has_ended(kind: int) -> None:
    bench = connected(PATIENT)
    bench.run("a")
    bench.handle(Interrupted(1.0))
    bench.end("a", kind=kind)
    (report,) = bench.reported()
    assert [item.task_id for item in report.ended] == ["a"]
    assert report.handed_back == []


def test_an_interrupted_attempt_that_does_not_stop_goes_back_all_the_same() -> None:
    bench = connected(PATIENT)
    bench.run("a")
    bench.handle(Interrupted(1.0))
    bench.pass_time(0.9)
    assert handed_back(bench) == []
    bench.pass_time(0.1)
    assert handed_back(bench) == [HandedBack("a", 1, was_started=True)]
    bench.end("a")
    assert bench.reported() == []


def test_what_somebody_cancelled_is_not_handed_back_when_it_is_interrupted() -> None:
    bench = connected(PATIENT)
    bench.run("a", "b")
    bench.cancel("a")
    bench.handle(Interrupted(1.0))
    bench.cancel("b")
    bench.end("a", "b", kind=OUTCOME_CANCELLED)
    assert {item.outcome for item in bench.ended()} == {WireStatus.CANCELLED}


def test_what_was_not_started_is_handed_back_as_such() -> None:
    bench = connected(PATIENT)
    bench.lease("a")
    bench.handle(DrainRequested())
    bench.take_back()
    assert handed_back(bench) == [HandedBack("a", 1)]


def test_a_drain_that_is_called_off_takes_work_again_and_may_be_repeated() -> None:
    bench = connected(PATIENT)
    bench.handle(DrainRequested())
    assert bench.take(Drained) == [Drained()]
    bench.handle(DrainCancelled())
    bench.lease()  # the second LEASE has the first one answered, as ever
    lease = bench.asked(Kind.LEASE)[-1]
    assert (lease.capacity, lease.draining) == ({"thread": 2}, False)
    bench.run("a")
    bench.handle(DrainRequested())
    assert bench.take(Drained) == []
    bench.end("a")
    bench.reported()
    assert bench.take(Drained) == [Drained()]


def test_a_lane_that_gives_back_more_than_a_batch_says_so_in_several() -> None:
    """A report that the control plane refuses would be repeated for ever."""
    bench = connected(FunctionInfo("add", "thread"), slots=1)
    ids = [f"t{n}" for n in range(MAX_BATCH_ITEMS + 2)]
    for first in range(0, len(ids), 5000):
        bench.lease(*ids[first : first + 5000])
        bench.pass_time(0.003)
    bench.start("t0")
    bench.pass_time(0.02)
    bench.take_back()
    reports = bench.reported()
    assert max(len(report.handed_back) for report in reports) <= MAX_BATCH_ITEMS
    assert [i.task_id for r in reports for i in r.handed_back] == ids[1:]


# --- lent slots -------------------------------------------------------------


def test_an_attempt_that_waits_lends_its_slot_until_it_goes_on() -> None:
    bench = connected(PATIENT)
    bench.run("a")
    key = bench.key("a")
    for _ in range(2):  # said twice it counts once
        bench.handle(LaneNews([AttemptPaused(key, is_waiting=True)]))
        assert bench.capacity() == {"thread": 3}
    bench.pass_time(0.1)
    assert bench.asked(Kind.LEASE)[-1].capacity == {"thread": 3}
    for _ in range(2):
        bench.handle(LaneNews([AttemptPaused(key, is_waiting=False)]))
        assert bench.capacity() == {"thread": 2}


def test_an_attempt_that_ends_while_it_waits_takes_its_slot_back() -> None:
    bench = connected(PATIENT)
    bench.run("a")
    bench.handle(LaneNews([AttemptPaused(bench.key("a"), is_waiting=True)]))
    bench.end("a")
    assert bench.capacity() == {"thread": 2}
    bench.handle(LaneNews([AttemptPaused(bench.key("a"), is_waiting=False)]))
    assert bench.capacity() == {"thread": 2}


def test_one_that_is_given_up_while_it_waits_takes_up_no_slot() -> None:
    bench = connected(TIMED)
    bench.run("a")
    bench.handle(LaneNews([AttemptPaused(bench.key("a"), is_waiting=True)]))
    bench.pass_time(12.0)
    assert bench.capacity() == {"thread": 2}
    bench.handle(LaneNews([AttemptPaused(bench.key("a"), is_waiting=False)]))
    assert bench.capacity() == {"thread": 1}


# --- progress ---------------------------------------------------------------


def say(bench: Bench, fraction: float, task_id: str = "a") -> None:
    bench.handle(LaneNews([AttemptProgressed(bench.key(task_id), fraction, "so far")]))


def told(bench: Bench) -> list[float]:
    return [item.fraction for report in bench.reported() for item in report.progress]


def test_of_all_that_is_said_of_progress_the_latest_is_told_now_and_then() -> None:
    bench = connected(PATIENT)
    bench.run("a")
    for step in range(50):
        say(bench, step / 100)
    assert told(bench) == []
    bench.pass_time(PROGRESS_DELAY)
    assert told(bench) == [0.49]
    bench.pass_time(1.0)
    assert told(bench) == []
    say(bench, 0.7)
    bench.pass_time(PROGRESS_DELAY)
    assert told(bench) == [0.7]


def test_progress_of_what_has_ended_or_was_given_up_is_not_told() -> None:
    bench = connected(TIMED)
    bench.run("a", "b")
    say(bench, 0.5, "a")
    bench.end("a")
    bench.pass_time(12.0)
    say(bench, 0.5, "b")
    bench.pass_time(1.0)
    assert told(bench) == []


def test_an_end_takes_the_progress_of_others_along() -> None:
    bench = connected(PATIENT)
    bench.run("a", "b")
    say(bench, 0.5, "b")
    bench.end("a")
    assert told(bench) == [0.5]
