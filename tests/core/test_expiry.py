"""Tasks that come too late: until when they must have started, and have ended."""

from __future__ import annotations

import pytest

from fastworker._core._messages import Ending, FunctionInfo, WireStatus
from fastworker._core._retry import RetryPolicy
from fastworker._core._scheduler_events import Assign, Dispatch
from tests.core.plane import ONCE, Plane

RETRIED = FunctionInfo("work", "thread", retry=RetryPolicy(3, 1.0, jitter=0.0))


@pytest.fixture
def plane() -> Plane:
    return Plane()


def assert_expired(plane: Plane, task_id: str, ending: Ending = Ending.NEVER_STARTED) -> None:
    end = plane.finals[task_id]
    assert (end.status, end.ending) == (WireStatus.EXPIRED, ending)
    assert end.error.startswith("expired: ")
    assert plane.scheduler.statistics().expired == 1
    assert plane.give("w") in ({"w": []}, {})
    plane.nothing_is_left()


@pytest.mark.parametrize("limit", ["expires", "budget"])
def test_a_held_task_expires(plane: Plane, limit: str) -> None:
    plane.submit("a", name="nobody knows", **{limit: 2.0})  # type: ignore[arg-type]
    plane.wait(1.9)
    assert plane.status("a") is WireStatus.HELD
    plane.wait(0.1)
    assert_expired(plane, "a")


def test_of_two_held_tasks_of_one_name_each_has_its_own_time(plane: Plane) -> None:
    plane.submit("a", name="x", expires=2.0)
    plane.submit("b", name="x")
    plane.wait(2.0)
    assert plane.status("b") is WireStatus.HELD
    assert plane.finals["a"].status is WireStatus.EXPIRED
    plane.wait(3.0)
    assert plane.news[-1].status is WireStatus.REFUSED
    plane.nothing_is_left()


@pytest.mark.parametrize("limit", ["expires", "budget"])
def test_a_ready_task_expires_and_is_not_leased(plane: Plane, limit: str) -> None:
    plane.join("w", slots=0)
    plane.submit("a", **{limit: 2.0})  # type: ignore[arg-type]
    plane.wait(2.0)
    plane.capacity("w", {"thread": 1})
    assert_expired(plane, "a")


@pytest.mark.parametrize("limit", ["expires", "budget"])
def test_a_suspect_expires_and_frees_the_worker_that_was_kept_for_it(
    plane: Plane, limit: str
) -> None:
    plane.join("dead")
    plane.join("w", slots=2)
    plane.submit("a", **{limit: 2.0})  # type: ignore[arg-type]
    plane.give("dead")
    plane.submit("running")
    plane.give("w")
    plane.lose("dead")
    plane.submit("later")
    assert plane.give("w") == {"w": []}
    plane.wait(2.0)
    # Nobody knows whether its code ran: its worker died.
    assert plane.finals["a"].status is WireStatus.EXPIRED
    assert plane.finals["a"].ending is Ending.LOST
    assert plane.give("w") == {"w": ["later"]}


def test_while_it_is_leased_the_worker_keeps_the_time(plane: Plane) -> None:
    plane.join("w")
    plane.submit("a", expires=2.0, budget=5.0)
    plane.now += 0.5
    (assign,) = plane.handle(Dispatch([b"w"]))
    assert isinstance(assign, Assign)
    (given,) = assign.assignments
    assert (given.start_within, given.time_left) == (1.5, 4.5)
    plane.wait(60.0)
    assert plane.status("a") is WireStatus.PENDING
    plane.end(
        "w", "a", outcome=WireStatus.EXPIRED, ending=Ending.NEVER_STARTED, error="expired: x"
    )
    assert_expired(plane, "a")


def test_a_leased_task_that_comes_back_too_late_expires(plane: Plane) -> None:
    plane.join("w")
    plane.submit("a", expires=2.0)
    plane.give("w")
    plane.now += 3.0
    plane.hand_back("w", "a")
    plane.wait(0.0)
    assert_expired(plane, "a")


def test_its_alarm_is_set_again_though_it_rang_meanwhile(plane: Plane) -> None:
    plane.join("w")
    plane.submit("a", expires=1.0, budget=3.0)
    plane.give("w")
    plane.start("w", "a")
    plane.wait(1.0)
    plane.interrupt("w", "a")
    assert plane.scheduler.next_deadline() == plane.now + 2.0
    plane.wait(2.0)
    assert_expired(plane, "a", Ending.CANCELLED)


@pytest.mark.parametrize("how", ["handed back", "worker lost", "goodbye"])
def test_what_was_started_in_time_does_not_expire_when_it_comes_back(
    plane: Plane, how: str
) -> None:
    plane.join("w")
    plane.submit("a", expires=2.0)
    plane.give("w")
    plane.start("w", "a")
    plane.now += 3.0
    if how == "handed back":
        plane.interrupt("w", "a")
    else:
        plane.lose("w", is_clean=how == "goodbye")
        plane.join("w")
    plane.wait(0.0)
    assert plane.give("w") == {"w": ["a"]}


def test_a_retry_does_not_expire_for_the_first_attempt_was_in_time(plane: Plane) -> None:
    plane.join("w", RETRIED)
    plane.submit("a", expires=0.5)
    plane.give("w")
    plane.fail("w", "a")
    plane.wait(1.0)
    (assign,) = plane.handle(Dispatch([b"w"]))
    assert isinstance(assign, Assign)
    assert assign.assignments[0].start_within is None


def test_the_deadline_of_a_task_that_waits_for_a_retry_comes_first(plane: Plane) -> None:
    plane.join("w", RETRIED)
    plane.submit("a", budget=1.5)
    plane.give("w")
    plane.fail("w", "a")
    plane.now += 2.0  # the alarm rings late: both times are over
    plane.wait(0.0)
    assert "while it waited for a retry" in plane.finals["a"].error
    assert_expired(plane, "a", Ending.CANCELLED)


def test_an_expired_task_tells_the_earlier_errors(plane: Plane) -> None:
    plane.join("w", RETRIED)
    plane.submit("a", budget=1.5)
    plane.give("w")
    plane.fail("w", "a", error="ValueError: first")
    plane.wait(1.0)
    plane.wait(0.5)
    assert plane.finals["a"].errors == ("ValueError: first",)


def test_a_task_that_has_no_time_at_all_is_not_started(plane: Plane) -> None:
    plane.join("w")
    plane.submit("a", budget=0.0)
    plane.submit("b", expires=0.0)
    plane.wait(0.0)
    assert plane.give("w") == {"w": []}
    assert {e.status for e in plane.finals.values()} == {WireStatus.EXPIRED}
    plane.nothing_is_left()


def test_a_submit_repeated_does_not_prolong_the_time(plane: Plane) -> None:
    plane.submit("a", name="x", expires=1.0)
    plane.wait(0.5)
    plane.submit("a", name="x", expires=1.0)
    plane.wait(0.5)
    assert plane.finals["a"].status is WireStatus.EXPIRED


# --- interrupted attempts ---------------------------------------------------


@pytest.mark.parametrize("is_start_known", [True, False])
def test_an_interrupted_attempt_runs_elsewhere_and_does_not_count(
    plane: Plane, is_start_known: bool
) -> None:
    plane.join("w")
    plane.submit("a")
    plane.give("w")
    if is_start_known:
        plane.start("w", "a")
    plane.interrupt("w", "a")
    plane.join("x")
    assert plane.give("x") == {"x": ["a"]}
    plane.end("x", "a")
    assert plane.finals["a"].attempts == 1


@pytest.mark.parametrize("is_start_known", [True, False])
def test_at_most_once_holds_for_an_interrupted_attempt(
    plane: Plane, is_start_known: bool
) -> None:
    plane.join("w", ONCE)
    plane.submit("a", name="pay")
    plane.give("w")
    if is_start_known:
        plane.start("w", "a")
    plane.interrupt("w", "a")
    assert plane.give("w") == {"w": []}
    end = plane.finals["a"]
    assert (end.status, end.ending) == (WireStatus.FAILURE, Ending.LOST)
    assert end.error.startswith("lost: ")
    plane.nothing_is_left()


def test_at_most_once_may_come_back_if_it_never_started(plane: Plane) -> None:
    plane.join("w", ONCE)
    plane.submit("a", name="pay")
    plane.give("w")
    plane.hand_back("w", "a")
    assert plane.give("w") == {"w": ["a"]}


def test_an_interrupted_attempt_blocks_no_lane(plane: Plane) -> None:
    plane.join("w", slots=2)
    plane.submit("a")
    plane.give("w")
    plane.start("w", "a")
    plane.interrupt("w", "a")
    assert not plane.scheduler._workers[b"w"].lane_of("work").is_blocked
