"""Cancels: what each task's end is, who hears of it, and what goes along with it."""

from __future__ import annotations

import pytest

from fastworker._core._messages import (
    CallOptions,
    EndedAttempt,
    Ending,
    FunctionInfo,
    Report,
    StopOrder,
    TaskSpec,
    WireStatus,
)
from fastworker._core._owners import MAX_WATCHERS
from fastworker._core._retry import RetryPolicy
from fastworker._core._scheduler_events import AttemptsReported, TasksSubmitted
from tests.core.plane import EPOCH, Plane

RETRIED = FunctionInfo("work", "thread", retry=RetryPolicy(3, 1.0, jitter=0.0))
CANCELLED, SUCCESS = WireStatus.CANCELLED, WireStatus.SUCCESS


@pytest.fixture
def plane() -> Plane:
    return Plane()


def child_of(parent: str) -> CallOptions:
    return CallOptions(parent=parent)


# --- each place a task can be in --------------------------------------------


@pytest.mark.parametrize("place", ["held", "ready", "handed back"])
def test_a_task_of_which_no_code_ran_never_started(plane: Plane, place: str) -> None:
    if place != "held":
        plane.join("w")
    plane.submit("a", name="work")
    if place == "handed back":
        plane.give("w")
        plane.hand_back("w", "a")
    assert plane.cancel("a", watcher=b"bob") == [CANCELLED]
    assert plane.finals["a"].ending is Ending.NEVER_STARTED
    assert plane.heard(b"ann", "a")[-1] is CANCELLED
    plane.nothing_is_left()


@pytest.mark.parametrize("place", ["interrupted", "retrying", "retried and ready"])
def test_a_task_of_which_code_ran_and_stopped_is_cancelled(plane: Plane, place: str) -> None:
    """Promise 2: NEVER_STARTED would be a lie."""
    plane.join("w", RETRIED)
    plane.submit("a")
    plane.give("w")
    plane.start("w", "a")
    if place == "interrupted":
        plane.interrupt("w", "a")
    else:
        plane.fail("w", "a")
        if place != "retrying":
            plane.wait(1.0)
    plane.cancel("a")
    assert plane.finals["a"].ending is Ending.CANCELLED
    plane.nothing_is_left()


@pytest.mark.parametrize("is_clean", [True, False])
def test_a_task_that_was_lost_while_it_ran_is_cancelled_as_lost(
    plane: Plane, is_clean: bool
) -> None:
    plane.join("w")
    plane.submit("a")
    plane.give("w")
    plane.start("w", "a")
    plane.lose("w", is_clean=is_clean)
    assert plane.cancel("a") == [CANCELLED]
    assert plane.finals["a"].ending is Ending.LOST
    assert plane.finals["a"].error == "w lost its connection"
    plane.nothing_is_left()


def test_an_attempt_that_was_abandoned_before_the_retry_may_still_run(plane: Plane) -> None:
    plane.join("w", RETRIED)
    plane.submit("a")
    plane.give("w")
    plane.end("w", "a", outcome=WireStatus.FAILURE, ending=Ending.ABANDONED)
    plane.cancel("a")
    assert plane.finals["a"].ending is Ending.ABANDONED


def test_a_second_attempt_cancelled_before_it_starts_does_not_hide_the_first(
    plane: Plane,
) -> None:
    plane.join("w", RETRIED)
    plane.submit("a")
    plane.give("w")
    plane.fail("w", "a")
    plane.wait(1.0)
    plane.give("w")
    plane.cancel("a")
    plane.end("w", "a", outcome=CANCELLED, ending=Ending.NEVER_STARTED)
    assert plane.finals["a"].ending is Ending.CANCELLED


@pytest.mark.parametrize("is_started", [True, False])
@pytest.mark.parametrize(
    "ending", [Ending.CANCELLED, Ending.KILLED, Ending.ABANDONED, Ending.NEVER_STARTED]
)
def test_of_a_leased_task_the_workers_word_is_taken(
    plane: Plane, is_started: bool, ending: Ending
) -> None:
    plane.join("w")
    plane.submit("a")
    plane.give("w")
    if is_started:
        plane.start("w", "a")
    assert plane.cancel("a") == [WireStatus.STARTED if is_started else WireStatus.PENDING]
    assert plane.stops("w") == ["a"]
    plane.end("w", "a", outcome=CANCELLED, ending=ending)
    if is_started and ending is Ending.NEVER_STARTED:
        ending = Ending.CANCELLED  # that is no word to take
    assert (plane.finals["a"].status, plane.finals["a"].ending) == (CANCELLED, ending)
    assert plane.give("w") == {"w": []}
    plane.nothing_is_left()


@pytest.mark.parametrize("order", ["end first", "cancel first"])
def test_a_cancel_that_races_the_end_gives_one_outcome_to_everybody(
    plane: Plane, order: str
) -> None:
    """S10, S2."""
    plane.join("w")
    plane.submit("a")
    plane.give("w")
    fence = plane.fence("a")
    if order == "end first":
        plane.end("w", "a")
        assert plane.cancel("a", watcher=b"bob") == [SUCCESS]
    else:
        assert plane.cancel("a", watcher=b"bob") == [WireStatus.PENDING]
        plane.end("w", "a")
        assert plane.heard(b"bob", "a") == [SUCCESS]
    late = [EndedAttempt("a", fence, CANCELLED, 1.0, 2.0, 1.0, ending=Ending.CANCELLED)]
    plane.handle(AttemptsReported(b"w", Report(EPOCH, ended=late)))
    assert plane.heard(b"ann", "a")[-1] is SUCCESS
    assert plane.status("a") is SUCCESS
    assert plane.cancel("a") == [SUCCESS]
    statistics = plane.scheduler.statistics()
    assert (statistics.succeeded, statistics.cancelled) == (1, 0)
    assert statistics.stale_reports == 1


# --- grace ------------------------------------------------------------------


def test_a_cancel_asked_again_is_told_again_only_with_a_grace(plane: Plane) -> None:
    plane.join("w")
    plane.submit("a")
    plane.give("w")
    plane.cancel("a")
    assert plane.stop_orders("w") == [StopOrder("a", 1, None, EPOCH)]
    plane.cancel("a")
    assert plane.stop_orders("w") == []
    plane.cancel("a", grace=0.5)
    assert plane.stop_orders("w") == [StopOrder("a", 1, 0.5, EPOCH)]


def test_of_many_cancels_before_the_next_frame_the_shortest_grace_is_told(
    plane: Plane,
) -> None:
    """B1: nobody fills the memory by cancelling without end."""
    plane.join("w")
    plane.submit("a")
    plane.give("w")
    plane.cancel("a")
    for grace in [9.0, 3.0, *(5.0 + n for n in range(1000))]:
        plane.cancel("a", grace=grace)
    assert len(plane.scheduler._workers[b"w"].cancels) == 2
    assert plane.stop_orders("w") == [
        StopOrder("a", 1, None, EPOCH),
        StopOrder("a", 1, 3.0, EPOCH),
    ]


def test_an_order_for_an_earlier_attempt_does_not_hide_that_for_the_next(
    plane: Plane,
) -> None:
    plane.join("w", RETRIED)
    record = plane.scheduler._workers[b"w"]
    record.stop(StopOrder("a", 1, 1.0))
    record.stop(StopOrder("a", 2, 5.0))
    assert record.take_cancels() == [StopOrder("a", 2, 5.0)]


# --- watchers ---------------------------------------------------------------


def test_who_watches_hears_the_end_as_the_owner_does_once(plane: Plane) -> None:
    plane.join("w")
    plane.submit("a")
    for _ in range(3):
        plane.watch(b"bob", "a")
        plane.watch(b"ann", "a")
    plane.give("w")
    plane.start("w", "a")
    plane.end("w", "a")
    assert plane.heard(b"bob", "a") == [WireStatus.STARTED, SUCCESS]
    assert plane.heard(b"ann", "a") == [WireStatus.STARTED, SUCCESS]


def test_who_watches_hears_the_end_after_the_owner_has_gone(plane: Plane) -> None:
    plane.join("w")
    plane.submit("a")
    plane.give("w")
    plane.cancel("a", watcher=b"bob")
    plane.owner_gone(b"ann")
    plane.end("w", "a", outcome=CANCELLED, ending=Ending.CANCELLED)
    assert plane.heard(b"bob", "a") == [CANCELLED]
    assert plane.heard(b"ann", "a") == []


def test_who_watched_and_has_gone_hears_nothing(plane: Plane) -> None:
    plane.join("w")
    plane.submit("a")
    plane.watch(b"bob", "a")
    plane.owner_gone(b"bob")
    plane.give("w")
    plane.end("w", "a")
    assert plane.heard(b"bob", "a") == []


@pytest.mark.parametrize("how", ["submits it again", "takes it over"])
def test_who_watches_and_then_owns_a_task_hears_once(plane: Plane, how: str) -> None:
    plane.join("w")
    plane.submit("a")
    plane.watch(b"bob", "a")
    if how == "takes it over":
        plane.watch(b"bob", "a", is_owner=True)
    else:
        plane.submit("a", owner=b"bob")
    plane.give("w")
    plane.end("w", "a")
    assert plane.heard(b"bob", "a") == [SUCCESS]
    assert plane.heard(b"ann", "a") == []


def test_so_many_watch_and_no_more(plane: Plane) -> None:
    """B1."""
    plane.join("w")
    plane.submit("a")
    for number in range(100):
        plane.watch(b"%d" % number, "a")
    plane.give("w")
    plane.end("w", "a")
    heard = [key for key, event in plane.told if event.status is SUCCESS]
    assert len(heard) == 1 + MAX_WATCHERS


def test_to_watch_a_task_that_has_ended_or_is_unknown_keeps_nothing(plane: Plane) -> None:
    plane.join("w")
    plane.submit("a")
    plane.give("w")
    plane.end("w", "a")
    plane.watch(b"bob", "a", "never heard of")
    plane.cancel("a", "never heard of", watcher=b"bob")
    assert plane.heard(b"bob", "a") == []
    plane.nothing_is_left()


# --- children ---------------------------------------------------------------


def test_a_cancelled_task_takes_its_children_and_theirs_along(plane: Plane) -> None:
    plane.join("w")
    plane.submit("parent")
    plane.give("w")
    plane.start("w", "parent")
    plane.submit("child", options=child_of("parent"))
    plane.submit("grandchild", options=child_of("child"))
    plane.submit("stranger")
    plane.cancel("parent")
    assert plane.finals.keys() == {"child", "grandchild"}
    plane.end("w", "parent", outcome=CANCELLED, ending=Ending.CANCELLED)
    assert plane.run_all("w") == ["stranger"]
    plane.nothing_is_left()


def test_a_child_that_runs_is_told_to_stop(plane: Plane) -> None:
    plane.join("w", slots=2)
    plane.submit("parent")
    plane.submit("child", options=child_of("parent"))
    plane.give("w")
    plane.cancel("parent")
    assert plane.stops("w") == ["parent", "child"]
    plane.end("w", "parent", outcome=CANCELLED, ending=Ending.ABANDONED)
    assert plane.stops("w") == []
    plane.end("w", "child", outcome=CANCELLED, ending=Ending.CANCELLED)
    plane.nothing_is_left()


@pytest.mark.parametrize("is_ended", [True, False])
def test_a_child_still_under_way_when_its_parent_was_cancelled_is_cancelled(
    plane: Plane, is_ended: bool
) -> None:
    plane.join("w", slots=2)
    plane.submit("parent")
    plane.give("w")
    plane.start("w", "parent")
    plane.cancel("parent")
    if is_ended:
        plane.end("w", "parent", outcome=CANCELLED, ending=Ending.CANCELLED)
    plane.submit("child", options=child_of("parent"))
    plane.submit("unknown child", name="nobody knows", options=child_of("parent"))
    assert plane.finals["child"].status is CANCELLED
    assert plane.finals["child"].ending is Ending.NEVER_STARTED
    assert plane.give("w") == {"w": []}
    if not is_ended:
        plane.end("w", "parent", outcome=CANCELLED, ending=Ending.CANCELLED)
    plane.wait(10.0)
    plane.nothing_is_left()


@pytest.mark.parametrize("outcome", [SUCCESS, WireStatus.FAILURE])
def test_a_parent_that_completes_leaves_its_children_alone(
    plane: Plane, outcome: WireStatus
) -> None:
    plane.join("w", slots=2)
    plane.submit("parent")
    plane.give("w")
    plane.submit("child", "waits", options=child_of("parent"))
    assert plane.give("w") == {"w": ["child"]}
    plane.end("w", "parent", outcome=outcome)
    plane.submit("late", options=child_of("parent"))
    assert plane.cancel("parent") == [outcome]
    assert plane.stops("w") == []
    plane.end("w", "child", "waits")
    assert plane.run_all("w") == ["late"]
    plane.nothing_is_left()


@pytest.mark.parametrize("end", ["expired", "poison", "timed out"])
def test_a_parent_that_did_not_complete_takes_its_children_along(
    plane: Plane, end: str
) -> None:
    plane.join("w", FunctionInfo("work", "thread", on_lost="fail"))
    plane.submit("parent", budget=5.0)
    if end != "expired":
        plane.give("w")
    plane.submit("child", options=child_of("parent"))
    if end == "expired":
        plane.wait(5.0)
    elif end == "poison":
        plane.lose("w")
    else:
        plane.end("w", "parent", outcome=WireStatus.FAILURE, ending=Ending.CANCELLED)
    assert plane.finals["child"].status is CANCELLED
    plane.nothing_is_left()


def test_a_parent_that_is_retried_keeps_its_children(plane: Plane) -> None:
    plane.join("w", RETRIED)
    plane.submit("parent")
    plane.give("w")
    plane.submit("child", options=child_of("parent"))
    plane.end("w", "parent", outcome=WireStatus.FAILURE, ending=Ending.CANCELLED)
    assert plane.give("w") == {"w": ["child"]}
    plane.cancel("parent")
    assert plane.stops("w") == ["child"]


def test_families_in_circles_end(plane: Plane) -> None:
    plane.join("w")
    plane.submit("a", options=child_of("b"))
    plane.submit("b", options=child_of("a"))
    plane.submit("self", options=child_of("self"))
    plane.give("w")
    plane.cancel("b", "self")
    assert plane.stops("w") == ["a"]
    plane.end("w", "a", outcome=CANCELLED, ending=Ending.CANCELLED)
    plane.nothing_is_left()


def test_a_family_deeper_than_the_stack_is_cancelled(plane: Plane) -> None:
    """S21: a peer may claim any parent for its tasks."""
    plane.join("w", slots=0)
    plane.submit("t0")
    chain = [
        TaskSpec(f"t{n}", "work", 2, 1, b"()", 0.0, options=child_of(f"t{n - 1}"))
        for n in range(1, 5000)
    ]
    plane.handle(TasksSubmitted(b"ann", chain))
    plane.cancel("t0")
    assert len(plane.finals) == 5000
    plane.nothing_is_left()


def test_an_owner_that_is_gone_takes_attached_tasks_and_their_children_along(
    plane: Plane,
) -> None:
    plane.join("w", slots=0)
    plane.submit("parent", attached=True)
    plane.submit("child", owner=b"w", options=child_of("parent"))
    plane.submit("detached")
    plane.owner_gone(b"ann")
    assert plane.finals.keys() == {"parent", "child"}
    assert plane.heard(b"w", "child") == [CANCELLED]


def test_a_child_on_a_lost_worker_does_not_run_again_after_its_parents_cancel(
    plane: Plane,
) -> None:
    plane.join("w", slots=2)
    plane.submit("child", options=child_of("parent"))
    plane.submit("parent")
    plane.give("w")
    plane.cancel("parent")
    plane.lose("w")
    assert plane.finals.keys() == {"child", "parent"}
    plane.nothing_is_left()
