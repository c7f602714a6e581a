"""The client's machine: cancels of its own tasks and of others', and times that shrink."""

from __future__ import annotations

import pytest

from fastworker._core._client_events import (
    CancelRequested,
    TaskAbandoned,
    TaskEnded,
    TaskSubmitted,
)
from fastworker._core._messages import (
    MAX_BATCH_ITEMS,
    Ending,
    Kind,
    SubmitReply,
    TaskEvent,
    TaskEvents,
    TaskIds,
    TaskSpec,
    WireStatus,
)
from tests.core.test_client_machine import Desk, done

PENDING = WireStatus.PENDING


@pytest.fixture
def desk() -> Desk:
    desk = Desk()
    desk.connect()
    return desk


def cancels(desk: Desk) -> list[TaskIds]:
    """What the control plane is asked to cancel; it answers that all of it still runs."""
    bodies: list[TaskIds] = []
    while found := desk.asked(Kind.CANCEL):
        bodies.append(found[0])
        desk.answer(Kind.CANCEL, TaskEvents([TaskEvent(i, PENDING) for i in found[0].ids]))
    return bodies


def test_an_own_task_is_cancelled_with_the_grace_that_was_asked_for(desk: Desk) -> None:
    desk.submit("a")
    desk.acknowledge()
    desk.handle(CancelRequested("a", 2.5))
    assert cancels(desk) == [TaskIds(["a"], 2.5, wants_end=False)]
    assert desk.take(TaskEnded) == []
    desk.tell(done("a", WireStatus.CANCELLED))
    (ended,) = desk.take(TaskEnded)
    assert ended.event.status is WireStatus.CANCELLED
    assert desk.state.outcome("a") is not None


def test_a_task_cancelled_before_it_was_sent_never_leaves() -> None:
    desk = Desk()
    desk.submit("a")
    desk.handle(CancelRequested("a", None))
    (ended,) = desk.take(TaskEnded)
    assert ended.event.ending is Ending.NEVER_STARTED
    desk.connect()
    assert desk.submitted() == []
    assert cancels(desk) == []


def test_a_cancel_waits_for_the_acknowledgement_and_keeps_the_shortest_grace(
    desk: Desk,
) -> None:
    desk.submit("a")
    desk.handle(CancelRequested("a", 9.0))
    desk.handle(CancelRequested("a", 0.5))
    desk.handle(CancelRequested("a", 3.0))
    desk.handle(TaskAbandoned("a"))
    assert cancels(desk) == []
    desk.acknowledge()
    assert cancels(desk) == [TaskIds(["a"], 0.5)]


def test_a_foreign_task_is_cancelled_and_its_end_is_heard_and_not_kept(desk: Desk) -> None:
    desk.handle(CancelRequested("theirs", None))
    assert cancels(desk) == [TaskIds(["theirs"], None, wants_end=True)]
    assert desk.take(TaskEnded) == []
    desk.tell(done("theirs"))
    assert [ended.task_id for ended in desk.take(TaskEnded)] == ["theirs"]
    assert not desk.state.holds("theirs")


@pytest.mark.parametrize(
    "status",
    [WireStatus.UNKNOWN, WireStatus.EVICTED, WireStatus.SUCCESS, WireStatus.EXPIRED],
)
def test_of_a_foreign_task_that_has_ended_the_answer_is_the_end(
    desk: Desk, status: WireStatus
) -> None:
    desk.handle(CancelRequested("theirs", None))
    desk.answer(Kind.CANCEL, TaskEvents([TaskEvent("theirs", status)]))
    (ended,) = desk.take(TaskEnded)
    assert ended.event.status is status
    assert not desk.state.holds("theirs")


def test_the_end_of_a_foreign_task_is_told_once(desk: Desk) -> None:
    desk.handle(CancelRequested("theirs", None))
    desk.tell(done("theirs"))
    desk.answer(Kind.CANCEL, TaskEvents([done("theirs")]))
    assert len(desk.take(TaskEnded)) == 1


def test_in_a_new_session_a_cancel_is_asked_once_more(desk: Desk) -> None:
    """The watch of the lost session is gone with it."""
    desk.submit("mine")
    desk.acknowledge()
    desk.handle(CancelRequested("mine", 1.0))
    desk.handle(CancelRequested("theirs", None))
    cancels(desk)
    desk.lose_the_session()
    asked = cancels(desk)
    assert TaskIds(["mine"], 1.0) in asked
    assert TaskIds(["theirs"], None, wants_end=True) in asked
    assert [body.ids for body in desk.asked(Kind.WATCH)] == [["mine"]]


def test_a_cancel_whose_answer_was_cut_is_asked_again_for_the_rest(desk: Desk) -> None:
    for number in range(3):
        desk.handle(CancelRequested(f"t{number}", None), flush=False)
    desk.handle(CancelRequested("t3", None))
    desk.answer(Kind.CANCEL, TaskEvents([TaskEvent("t0", PENDING)]))
    assert [body.ids for body in cancels(desk)] == [["t1", "t2", "t3"]]


def test_very_many_cancels_go_in_frames_that_the_wire_takes(desk: Desk) -> None:
    for number in range(MAX_BATCH_ITEMS + 1):
        desk.state.handle(CancelRequested(f"t{number}", None), now=desk.now)
    desk.pass_time(0.0)
    desk.handle(CancelRequested("last", None))
    assert [len(body.ids) for body in cancels(desk)] == [MAX_BATCH_ITEMS, 2]


# --- times that travel ------------------------------------------------------


def sent(desk: Desk) -> list[tuple[float | None, float | None]]:
    return [(s.expires, s.budget) for body in desk.asked(Kind.SUBMIT) for s in body.tasks]


def test_what_is_left_of_its_time_travels_with_a_task() -> None:
    desk = Desk()
    spec = TaskSpec("a", "add", 2, 1, b"()", 0.0)
    desk.handle(TaskSubmitted(spec, expires_at=desk.now + 5.0, budget_at=desk.now + 9.0))
    desk.pass_time(3.0)
    desk.connect()
    assert sent(desk) == [(2.0, 6.0)]


def test_no_time_left_is_none_and_not_less() -> None:
    desk = Desk()
    spec = TaskSpec("a", "add", 2, 1, b"()", 0.0)
    desk.handle(TaskSubmitted(spec, budget_at=desk.now + 1.0))
    desk.pass_time(3.0)
    desk.connect()
    assert sent(desk) == [(None, 0.0)]


def test_an_expired_task_has_ended(desk: Desk) -> None:
    desk.submit("a")
    desk.acknowledge(SubmitReply(held=[0]))
    desk.tell(TaskEvent("a", WireStatus.EXPIRED, ending=Ending.NEVER_STARTED))
    assert len(desk.take(TaskEnded)) == 1
    assert desk.state.statistics().waiting == 0


def test_progress_is_news_and_no_end(desk: Desk) -> None:
    desk.submit("a")
    desk.acknowledge()
    desk.tell(TaskEvent("a", WireStatus.STARTED, progress=0.5, message="half"))
    said = desk.state.progress("a")
    assert said is not None
    assert (said.progress, said.message) == (0.5, "half")
    assert desk.take(TaskEnded) == []
