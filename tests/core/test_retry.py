"""When a failed task runs again: the policy by itself, and the scheduler that follows it."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastworker._core._messages import (
    MAX_EARLIER_ERRORS,
    CallOptions,
    EndedAttempt,
    Ending,
    FunctionInfo,
    Report,
    TaskEvent,
    WireStatus,
)
from fastworker._core._retry import (
    RetryDecision,
    RetryOverride,
    RetryPolicy,
    decide,
    delay_without_jitter,
)
from fastworker._core._scheduler_events import AttemptsReported
from fastworker._models import LONGEST_DELAY, MAX_RETRIES
from tests.core.plane import EPOCH, Plane


def retried(**policy: float) -> FunctionInfo:
    """A function whose delays are exact."""
    values = {"max_retries": 2, "delay": 1.0, "jitter": 0.0, **policy}
    return FunctionInfo("work", "thread", retry=RetryPolicy(**values))  # type: ignore[arg-type]


@pytest.fixture
def plane() -> Plane:
    return Plane()


def run_and_fail(plane: Plane, task_id: str = "a", **options: bool) -> None:
    assert plane.give("w") == {"w": [task_id]}
    plane.start("w", task_id)
    plane.end("w", task_id, outcome=WireStatus.FAILURE, error="ValueError: bad", **options)  # type: ignore[arg-type]


# --- the policy -------------------------------------------------------------


def decision(policy: RetryPolicy, failures: int = 1, **changes: object) -> RetryDecision:
    arguments: dict[str, object] = {
        "failures": failures,
        "is_retryable": True,
        "time_left": math.inf,
        "rng": random.Random(1),
        **changes,
    }
    return decide(policy, **arguments)  # type: ignore[arg-type]


def test_delays_grow_by_the_factor_up_to_the_longest() -> None:
    policy = RetryPolicy(9, delay=1.0, backoff=3.0, max_delay=20.0)
    assert [delay_without_jitter(policy, n) for n in range(1, 6)] == [1, 3, 9, 20, 20]


def test_a_power_too_large_for_a_float_is_the_longest_delay() -> None:
    policy = RetryPolicy(MAX_RETRIES, delay=0.001, backoff=1000.0, max_delay=60.0)
    assert delay_without_jitter(policy, MAX_RETRIES) == 60.0


def test_no_delay_stays_none_however_often_it_was_retried() -> None:
    policy = RetryPolicy(MAX_RETRIES, delay=0.0, backoff=2.0, max_delay=60.0)
    assert delay_without_jitter(policy, MAX_RETRIES) == 0.0


@pytest.mark.parametrize(("failures", "again"), [(1, True), (2, True), (3, False), (4, False)])
def test_two_retries_are_three_attempts(failures: int, again: bool) -> None:
    assert (decision(RetryPolicy(2), failures).delay is not None) is again


def test_it_says_why_it_does_not_run_again() -> None:
    assert decision(RetryPolicy(0)) == RetryDecision(None)
    assert "not retried" in decision(RetryPolicy(2), is_retryable=False).reason
    assert decision(RetryPolicy(2), 3).reason == "failed 3 times"
    assert "deadline" in decision(RetryPolicy(2, jitter=0.0), time_left=1.0).reason
    assert decision(RetryPolicy(2, jitter=0.0), time_left=1.001).delay == 1.0


@given(
    policy=st.builds(
        RetryPolicy,
        st.integers(1, MAX_RETRIES),
        st.floats(0, LONGEST_DELAY),
        st.floats(1, 1000),
        st.floats(0, LONGEST_DELAY),
        st.floats(0, 1),
    ),
    failures=st.integers(1, MAX_RETRIES),
    time_left=st.floats(0, math.inf),
    seed=st.integers(0, 1000),
)
def test_a_delay_is_within_its_jitter_and_before_the_deadline(
    policy: RetryPolicy, failures: int, time_left: float, seed: int
) -> None:
    answer = decision(policy, failures, time_left=time_left, rng=random.Random(seed))
    full = delay_without_jitter(policy, failures)
    assert 0 <= full <= policy.max_delay
    if answer.delay is None:
        assert failures > policy.max_retries or full >= time_left
    else:
        assert failures <= policy.max_retries
        assert full * (1 - policy.jitter) * 0.999_999 <= answer.delay <= full
        assert answer.delay < time_left


def test_jitter_takes_up_the_whole_of_its_part() -> None:
    rng = random.Random(1)
    policy = RetryPolicy(1, delay=10.0, jitter=0.5)
    delays = [decision(policy, rng=rng).delay or 0.0 for _ in range(1000)]
    assert 5.0 <= min(delays) < 5.1
    assert 9.9 < max(delays) <= 10.0


def test_what_a_call_asks_for_replaces_that_and_nothing_else() -> None:
    policy = RetryPolicy(5, 1.0, 3.0, 7.0, 0.2)
    assert RetryOverride().applied_to(policy) == policy
    assert RetryOverride(max_retries=0).applied_to(policy) == RetryPolicy(0, 1.0, 3.0, 7.0, 0.2)
    assert RetryOverride(0, 0.0, 1.0, 0.0, 0.0).applied_to(policy) == RetryPolicy(
        0, 0.0, 1.0, 0.0, 0.0
    )


# --- the scheduler ----------------------------------------------------------


def test_a_failed_task_runs_again_after_its_delay_and_not_before(plane: Plane) -> None:
    plane.join("w", retried())
    plane.submit("a")
    run_and_fail(plane)
    assert plane.status("a") is WireStatus.PENDING
    assert plane.scheduler.statistics().retrying == 1
    assert plane.scheduler.next_deadline() == plane.now + 1.0
    plane.wait(0.999)
    assert plane.give("w") == {"w": []}
    plane.wait(0.001)
    assert plane.give("w") == {"w": ["a"]}
    plane.end("w", "a")
    assert plane.finals["a"].status is WireStatus.SUCCESS
    assert (plane.finals["a"].attempts, plane.finals["a"].errors) == (2, ("ValueError: bad",))
    plane.nothing_is_left()


def test_after_its_last_retry_a_task_has_failed_with_all_its_errors(plane: Plane) -> None:
    """S9."""
    plane.join("w", retried(max_retries=2))
    plane.submit("a")
    for delay in (1.0, 2.0):
        run_and_fail(plane)
        plane.wait(delay)
    run_and_fail(plane)
    end = plane.finals["a"]
    assert (end.status, end.attempts) == (WireStatus.FAILURE, 3)
    assert [*end.errors, end.error] == ["ValueError: bad"] * 3
    plane.nothing_is_left()


def test_of_very_many_errors_the_latest_are_kept_and_weighed(plane: Plane) -> None:
    """B1: what is kept of an outcome counts against the limit for all of them."""
    plane.join("w", retried(max_retries=50, delay=0.0))
    plane.submit("a")
    for number in range(20):
        plane.give("w")
        plane.fail("w", "a", error=f"{number:04}".ljust(4000))
        plane.wait(0.001)
    errors = plane.scheduler.describe("a", now=plane.now).errors
    assert [error[:4] for error in errors] == [f"{n:04}" for n in range(10, 20)]
    assert len(errors) == MAX_EARLIER_ERRORS
    assert plane.scheduler.describe("a", now=plane.now).size > 40_000


def test_an_event_weighs_what_its_message_weighs() -> None:
    bare = TaskEvent("a", WireStatus.STARTED)
    said = TaskEvent("a", WireStatus.STARTED, message="x" * 900)
    assert said.size - bare.size == 900


def test_an_error_that_is_not_to_be_retried_is_the_end(plane: Plane) -> None:
    plane.join("w", retried())
    plane.submit("a")
    run_and_fail(plane, is_retryable=False)
    assert plane.finals["a"].status is WireStatus.FAILURE
    plane.nothing_is_left()


def test_a_retry_that_would_come_after_the_deadline_is_not_waited_for(plane: Plane) -> None:
    plane.join("w", retried(delay=10.0))
    plane.submit("a", budget=10.0)
    run_and_fail(plane)
    assert plane.finals["a"].status is WireStatus.FAILURE
    plane.nothing_is_left()


def test_a_call_may_ask_for_retries_that_the_function_does_not_have(plane: Plane) -> None:
    plane.join("w")
    plane.submit("a", options=CallOptions(retry=RetryOverride(1, delay=5.0, jitter=0.0)))
    run_and_fail(plane)
    plane.wait(5.0)
    run_and_fail(plane)
    assert plane.finals["a"].attempts == 2


def test_a_call_may_do_without_the_retries_of_its_function(plane: Plane) -> None:
    plane.join("w", retried())
    plane.submit("a", options=CallOptions(retry=RetryOverride(max_retries=0)))
    run_and_fail(plane)
    assert plane.finals["a"].status is WireStatus.FAILURE


def test_what_runs_at_most_once_is_not_retried_whatever_the_call_asks(plane: Plane) -> None:
    plane.join("w", FunctionInfo("work", "thread", on_lost="fail"))
    plane.submit("a", options=CallOptions(retry=RetryOverride(max_retries=3)))
    run_and_fail(plane)
    assert plane.finals["a"].status is WireStatus.FAILURE


def test_a_task_is_not_retried_after_its_cancel(plane: Plane) -> None:
    """S10."""
    plane.join("w", retried())
    plane.submit("a")
    plane.give("w")
    plane.start("w", "a")
    plane.cancel("a")
    plane.fail("w", "a")
    assert plane.finals["a"].status is WireStatus.FAILURE
    plane.wait(10.0)
    assert plane.give("w") == {"w": []}
    plane.nothing_is_left()


def test_a_task_cancelled_while_it_waits_for_a_retry_never_runs_again(plane: Plane) -> None:
    """S10."""
    plane.join("w", retried())
    plane.submit("a")
    run_and_fail(plane)
    assert plane.cancel("a") == [WireStatus.CANCELLED]
    assert plane.finals["a"].ending is Ending.CANCELLED
    assert plane.finals["a"].errors == ("ValueError: bad",)
    plane.wait(10.0)
    assert plane.give("w") == {"w": []}
    plane.nothing_is_left()


def test_news_of_the_attempt_before_the_retry_is_stale(plane: Plane) -> None:
    """S8: while it waits, and once it runs again."""
    plane.join("w", retried())
    plane.submit("a")
    run_and_fail(plane)
    old = Report(EPOCH, ended=[EndedAttempt("a", 1, WireStatus.SUCCESS, 1.0, 2.0, 1.0)])
    plane.handle(AttemptsReported(b"w", old))
    plane.wait(1.0)
    plane.give("w")
    plane.handle(AttemptsReported(b"w", old))
    assert plane.status("a") is WireStatus.PENDING
    assert plane.scheduler.statistics().stale_reports == 2


def test_a_retried_task_keeps_its_place_among_the_others(plane: Plane) -> None:
    plane.join("w", retried(delay=0.0))
    plane.submit("a", "b")
    run_and_fail(plane)
    plane.wait(0.0)
    assert plane.run_all("w") == ["a", "b"]


def test_a_loss_is_no_failure_and_takes_no_retry_away(plane: Plane) -> None:
    plane.join("w", retried(max_retries=1))
    plane.submit("a")
    plane.give("w")
    plane.lose("w")
    plane.join("w", retried(max_retries=1))
    run_and_fail(plane)
    plane.wait(1.0)
    run_and_fail(plane)
    assert plane.finals["a"].attempts == 2


def test_a_suspect_that_fails_is_retried_alone(plane: Plane) -> None:
    plane.join("w", retried())
    plane.submit("a")
    plane.give("w")
    plane.lose("w")
    plane.join("w", retried(), slots=2)
    run_and_fail(plane)
    plane.submit("b")
    plane.wait(1.0)
    assert plane.give("w") == {"w": ["a"]}
    plane.end("w", "a")
    assert plane.give("w") == {"w": ["b"]}


def test_what_an_attempt_said_of_its_progress_is_not_that_of_the_next(plane: Plane) -> None:
    plane.join("w", retried())
    plane.submit("a")
    plane.give("w")
    plane.start("w", "a")
    plane.progress("w", "a", 0.5, "half")
    assert plane.scheduler.describe("a", now=plane.now).progress == 0.5
    plane.fail("w", "a")
    told = plane.scheduler.describe("a", now=plane.now)
    assert (told.progress, told.message, told.started) == (-1.0, "", 0.0)
