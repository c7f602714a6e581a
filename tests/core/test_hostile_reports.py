"""S3, S8, S21: whatever a subworker says, it changes its own attempts and nothing else."""

from __future__ import annotations

import math

import pytest

from fastworker._core._messages import (
    CallOptions,
    EndedAttempt,
    Ending,
    HandedBack,
    Progress,
    Report,
    StartedAttempt,
    WireStatus,
)
from fastworker._core._retry import RetryOverride
from fastworker._core._scheduler_events import AttemptsReported
from tests.core.plane import EPOCH, Plane


@pytest.fixture
def plane() -> Plane:
    """``victim`` runs on one subworker, ``own`` on another, which is hostile."""
    plane = Plane()
    plane.join("honest")
    plane.submit("victim")
    plane.give("honest")
    plane.start("honest", "victim")
    plane.join("hostile")
    plane.submit("own", "waits")
    plane.give("hostile")
    plane.start("hostile", "own")
    return plane


def say(plane: Plane, key: bytes = b"hostile", **report: object) -> None:
    plane.handle(AttemptsReported(key, Report(EPOCH, **report)))  # type: ignore[arg-type]


def an_end(task_id: str, outcome: WireStatus, attempt: int = 1) -> EndedAttempt:
    return EndedAttempt(task_id, attempt, outcome, 1.0, 2.0, 1.0)


@pytest.mark.parametrize("target", ["victim", "waits", "unknown"])
@pytest.mark.parametrize("attempt", [0, 1, 2, 2**31])
def test_news_of_anothers_attempt_changes_nothing(
    plane: Plane, target: str, attempt: int
) -> None:
    before = plane.scheduler.describe(target, now=plane.now)
    told = len(plane.told)
    say(plane, started=[StartedAttempt(target, attempt, 9.0)])
    say(plane, ended=[an_end(target, outcome, attempt) for outcome in WireStatus])
    say(plane, handed_back=[HandedBack(target, attempt), HandedBack(target, attempt, True)])
    say(plane, progress=[Progress(target, attempt, 0.9, "nearly there")])
    assert plane.scheduler.describe(target, now=plane.now) == before
    assert len(plane.told) == told
    assert plane.scheduler.statistics().stale_reports == 3 + len(WireStatus)


def test_who_never_joined_may_say_anything_too(plane: Plane) -> None:
    say(
        plane,
        b"stranger",
        started=[StartedAttempt("victim", 1, 1.0)],
        ended=[an_end("victim", WireStatus.SUCCESS)],
        handed_back=[HandedBack("victim", 1)],
        progress=[Progress("victim", 1, 0.5)],
        busy={"work": math.nan},
    )
    assert plane.status("victim") is WireStatus.STARTED


@pytest.mark.parametrize("outcome", list(WireStatus))
def test_every_outcome_that_can_be_told_ends_the_task_in_a_state_that_it_can_have(
    plane: Plane, outcome: WireStatus
) -> None:
    """Nobody cancelled it and it had no time limit, whatever its worker says."""
    say(plane, ended=[an_end("own", outcome)])
    success = outcome is WireStatus.SUCCESS
    assert plane.status("own") is (WireStatus.SUCCESS if success else WireStatus.FAILURE)


def test_an_attempt_without_a_time_limit_does_not_expire_before_its_start(
    plane: Plane,
) -> None:
    say(plane, ended=[an_end("own", WireStatus.SUCCESS)])
    plane.give("hostile")
    say(plane, ended=[an_end("waits", WireStatus.EXPIRED)])
    assert plane.status("waits") is WireStatus.FAILURE


@pytest.mark.parametrize("ending", list(Ending))
@pytest.mark.parametrize("outcome", list(WireStatus))
@pytest.mark.parametrize("is_cancelled", [True, False])
def test_every_ending_that_can_be_told_of_a_cancelled_task_is_an_end(
    plane: Plane, ending: Ending, outcome: WireStatus, is_cancelled: bool
) -> None:
    if is_cancelled:
        plane.cancel("own")
    plane.end("hostile", "own", outcome=outcome, ending=ending)
    assert plane.finals.keys() == {"own"}


def test_what_was_said_to_have_started_cannot_have_never_started(plane: Plane) -> None:
    plane.cancel("own")
    never = Ending.NEVER_STARTED
    plane.end("hostile", "own", outcome=WireStatus.CANCELLED, ending=never)
    assert plane.finals["own"].ending is Ending.CANCELLED


def test_nor_if_it_is_retried_and_cancelled_then() -> None:
    plane = Plane()
    plane.join("hostile")
    plane.submit("own", options=CallOptions(retry=RetryOverride(2)))
    plane.give("hostile")
    plane.start("hostile", "own")
    never = Ending.NEVER_STARTED
    plane.end("hostile", "own", outcome=WireStatus.FAILURE, ending=never)
    plane.cancel("own")
    assert plane.finals["own"].ending is Ending.CANCELLED


def test_a_report_that_contradicts_itself_ends_the_task_once(plane: Plane) -> None:
    say(
        plane,
        started=[StartedAttempt("own", 1, 1.0)] * 2,
        ended=[an_end("own", WireStatus.FAILURE), an_end("own", WireStatus.SUCCESS)],
        handed_back=[HandedBack("own", 1), HandedBack("own", 1, True)],
        progress=[Progress("own", 1, 1.0)],
    )
    assert plane.finals["own"].status is WireStatus.FAILURE
    assert plane.give("hostile") == {"hostile": ["waits"]}


def test_what_started_and_is_said_to_be_handed_back_runs_again(plane: Plane) -> None:
    say(plane, handed_back=[HandedBack("own", 1)])
    assert plane.status("own") is WireStatus.PENDING
    assert plane.give("hostile") == {"hostile": ["own"]}


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -math.inf, -1.0])
def test_a_function_busy_for_no_time_that_exists_harms_nobody(
    plane: Plane, seconds: float
) -> None:
    say(plane, busy={"work": seconds, "unknown": seconds})
    assert plane.run_all("hostile") == []
