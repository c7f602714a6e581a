"""The client's machine: tasks handed in, callers that leave, sessions that are lost."""

from __future__ import annotations

import pytest

from fastworker._core import _client
from fastworker._core._client import SUBMIT_WINDOW, ClientState
from fastworker._core._client_events import (
    CancelRequested,
    ClientStopped,
    FrameArrived,
    QueryAbandoned,
    QueryAnswered,
    QueryMade,
    SaidGoodbye,
    TaskAbandoned,
    TaskAcknowledged,
    TaskEnded,
    TaskRejected,
    TasksSubmitted,
    TaskSubmitted,
    TaskTimedOut,
)
from fastworker._core._client_tasks import LOST_STORE
from fastworker._core._link_requester import HELLO_INTERVAL, DropPipe, SessionOpened
from fastworker._core._messages import (
    BATCH_BYTES,
    Closed,
    Ending,
    Kind,
    Nothing,
    PollReply,
    Refusal,
    RefusalCode,
    SubmitReply,
    TaskEvent,
    TaskEvents,
    TaskSpec,
    WireStatus,
)
from fastworker._core._pipes import DeadlinePassed
from tests.core.one_peer import OnePeer


class Desk(OnePeer):
    def __init__(self, retries: int = 3) -> None:
        count = iter(range(1, 1000))
        state = ClientState(
            new_session_id=lambda: next(count).to_bytes(16, "big"), retries=retries
        )
        super().__init__(state, FrameArrived)
        self.cursor = 0

    def submit(self, *ids: str, payload: bytes = b"()", flush: bool = True) -> None:
        for task_id in ids:
            spec = TaskSpec(task_id, "add", 2, 1, payload, 0.0)
            self.handle(TaskSubmitted(spec), flush=flush)

    def acknowledge(self, reply: SubmitReply | None = None) -> None:
        self.answer(Kind.SUBMIT, reply or SubmitReply())

    def tell(self, *events: TaskEvent) -> None:
        self.cursor += 1
        self.answer(Kind.POLL, PollReply(self.cursor, list(events)))

    def submitted(self) -> list[list[str]]:
        return [[spec.id for spec in body.tasks] for body in self.asked(Kind.SUBMIT)]

    def lose_the_session(self) -> None:
        """The control plane has forgotten it within its epoch, or has restarted."""
        self.disconnect()
        self.connect(resumed=False)


def done(task_id: str, status: WireStatus = WireStatus.SUCCESS) -> TaskEvent:
    return TaskEvent(task_id, status, 1, b"3")


@pytest.fixture
def desk() -> Desk:
    desk = Desk()
    desk.connect()
    return desk


# --- the way of a task ------------------------------------------------------


def some(*ids: str) -> list[TaskSpec]:
    return [TaskSpec(task_id, "add", 2, 1, b"()", 0.0) for task_id in ids]


def test_tasks_that_come_together_go_together_and_nobody_hurries(desk: Desk) -> None:
    desk.handle(TasksSubmitted(some("a", "b", "c")), flush=True)
    (body,) = desk.asked(Kind.SUBMIT)
    assert ([spec.id for spec in body.tasks], body.hurry) == (["a", "b", "c"], False)
    desk.acknowledge()
    desk.tell(done("b"), done("a"), done("c"))
    assert [ended.task_id for ended in desk.take(TaskEnded)] == ["b", "a", "c"]
    assert desk.state.outcome("a") is None, "whoever hears of its end keeps it"


def test_of_tasks_that_come_together_those_not_acknowledged_in_time_are_late(
    desk: Desk,
) -> None:
    until = desk.now + 3
    desk.handle(TasksSubmitted(some("a", "b", "c"), deadline=until), flush=True)
    desk.handle(TaskAbandoned("c"))
    desk.acknowledge(SubmitReply([Refusal(1, RefusalCode.QUEUE_FULL, "full")], held=[0, 2]))
    assert [gone.task_id for gone in desk.take(TaskRejected)] == ["b"]
    desk.tell(TaskEvent("a", WireStatus.PENDING))
    desk.handle(TasksSubmitted(some("d", "e"), deadline=until), flush=True)
    desk.now = until
    desk.handle(DeadlinePassed())
    assert [late.task_id for late in desk.take(TaskTimedOut)] == ["c", "d", "e"]
    assert desk.state.next_deadline() > until


def test_a_deadline_of_many_goes_with_the_last_acknowledgement(desk: Desk) -> None:
    desk.handle(TasksSubmitted(some("a", "b"), deadline=desk.now + 3), flush=True)
    desk.acknowledge()
    desk.now += 3
    desk.handle(DeadlinePassed())
    assert desk.take(TaskTimedOut) == []


def test_a_task_is_sent_acknowledged_and_ended(desk: Desk) -> None:
    desk.submit("a")
    assert desk.submitted() == [["a"]]
    desk.acknowledge()
    assert desk.take(TaskAcknowledged) == [TaskAcknowledged("a")]
    desk.tell(TaskEvent("a", WireStatus.STARTED))
    progress = desk.state.progress("a")
    assert progress is not None
    assert progress.status is WireStatus.STARTED
    desk.tell(done("a"))
    assert [ended.task_id for ended in desk.take(TaskEnded)] == ["a"]
    outcome = desk.state.outcome("a")
    assert outcome is not None
    assert outcome.payload == b"3"


def test_an_outcome_that_overtakes_the_acknowledgement_is_both(desk: Desk) -> None:
    """S12: each is told exactly once."""
    desk.submit("a")
    desk.tell(done("a"))
    desk.acknowledge()
    desk.tell(done("a"))
    assert desk.take(TaskAcknowledged) == [TaskAcknowledged("a")]
    assert [ended.task_id for ended in desk.take(TaskEnded)] == ["a"]


def keyed(payload: bytes = b"()", *, waits_for_room: bool = False) -> TaskSubmitted:
    spec = TaskSpec("k", "add", 2, 1, payload, 0.0, key_ttl=60.0)
    return TaskSubmitted(spec, waits_for_room=waits_for_room)


def test_a_task_that_was_left_and_is_wanted_again_is_sent_again(desk: Desk) -> None:
    desk.handle(keyed())
    desk.acknowledge()
    desk.handle(TaskAbandoned("k"))
    assert [body.leaves for body in desk.asked(Kind.CANCEL)] == [True]
    desk.handle(keyed())
    desk.answer(Kind.CANCEL, TaskEvents([TaskEvent("k", WireStatus.STARTED)]))
    assert desk.submitted() == [["k"]]
    assert desk.take(TaskAcknowledged) == [TaskAcknowledged("k")], "that is the first"
    desk.tell(done("k"))
    assert desk.take(TaskEnded) == []
    desk.acknowledge()
    assert desk.take(TaskAcknowledged) == [TaskAcknowledged("k")]
    assert [ended.task_id for ended in desk.take(TaskEnded)] == ["k"]


def test_what_was_answered_about_a_task_that_was_left_is_not_about_the_next(
    desk: Desk,
) -> None:
    """The first of the two is acknowledged, the second is not."""
    desk.handle(keyed())
    desk.handle(TaskAbandoned("k"))
    desk.handle(keyed(b"other"))
    desk.acknowledge()
    desk.tell(done("k"))
    assert desk.take(TaskAcknowledged) == desk.take(TaskEnded) == []
    desk.acknowledge(SubmitReply([Refusal(0, RefusalCode.CONFLICT, "used")]))
    assert desk.take(TaskRejected) == [TaskRejected("k", RefusalCode.CONFLICT, "used")]
    assert desk.take(TaskAcknowledged) == []


def test_a_task_that_waits_for_room_can_be_cancelled_and_left(desk: Desk) -> None:
    for leave in (TaskAbandoned("k"), CancelRequested("k")):
        desk.handle(keyed(waits_for_room=True))
        desk.acknowledge(SubmitReply([Refusal(0, RefusalCode.QUEUE_FULL, "full")]))
        desk.handle(leave)
        desk.pass_time(4.0)
        assert desk.submitted() == []
    assert [e.event.ending for e in desk.take(TaskEnded)] == [Ending.NEVER_STARTED]


def test_before_there_is_a_session_tasks_gather_and_then_go_in_one_frame() -> None:
    desk = Desk()
    desk.submit("a", "b", "c")
    assert desk.requests == []
    desk.connect()
    assert desk.submitted() == [["a", "b", "c"]]


def test_while_the_window_is_full_tasks_gather(desk: Desk) -> None:
    ids = [f"t{n}" for n in range(SUBMIT_WINDOW + 3)]
    desk.submit(*ids)
    assert len(desk.submitted()) == SUBMIT_WINDOW
    desk.acknowledge()
    assert desk.submitted()[-1] == ids[-3:]


def test_a_batch_is_cut_at_one_mebibyte_and_a_larger_task_goes_alone(desk: Desk) -> None:
    desk.submit("small", flush=False)
    desk.submit("large", payload=bytes(2 * BATCH_BYTES), flush=False)
    desk.submit("last")
    assert desk.submitted() == [["small"], ["large"], ["last"]]


def test_a_refused_task_is_rejected_and_its_neighbours_are_not(desk: Desk) -> None:
    desk.submit("a", "b", "c", flush=False)
    desk.submit("d")
    refusal = Refusal(1, RefusalCode.CONFLICT, "used")
    desk.acknowledge(SubmitReply([refusal]))
    assert desk.take(TaskRejected) == [TaskRejected("b", RefusalCode.CONFLICT, "used")]
    assert [c.task_id for c in desk.take(TaskAcknowledged)] == ["a", "c", "d"]


@pytest.mark.parametrize("is_accepted", [True, False])
def test_a_held_task_is_neither_acknowledged_nor_rejected_until_it_is_decided(
    desk: Desk, is_accepted: bool
) -> None:
    desk.submit("a")
    desk.acknowledge(SubmitReply(held=[0]))
    assert desk.take(TaskAcknowledged) == desk.take(TaskRejected) == []
    if is_accepted:
        desk.tell(TaskEvent("a", WireStatus.PENDING))
        assert desk.take(TaskAcknowledged) == [TaskAcknowledged("a")]
    else:
        desk.tell(TaskEvent("a", WireStatus.REFUSED, error="unknown task"))
        (rejected,) = desk.take(TaskRejected)
        assert (rejected.code, rejected.message) == (RefusalCode.UNKNOWN_TASK, "unknown task")


def test_an_evicted_outcome_is_a_success_whose_value_is_gone(desk: Desk) -> None:
    """S13."""
    desk.submit("a")
    desk.acknowledge()
    desk.tell(TaskEvent("a", WireStatus.EVICTED))
    outcome = desk.state.outcome("a")
    assert outcome is not None
    assert outcome.value_dropped


# --- callers that leave -----------------------------------------------------


def test_an_unsent_task_that_is_abandoned_leaves_nothing() -> None:
    desk = Desk()
    desk.submit("a", "b")
    desk.handle(TaskAbandoned("a"))
    desk.connect()
    assert desk.submitted() == [["b"]]
    assert not desk.state.holds("a")
    desk.acknowledge()
    assert desk.asked(Kind.CANCEL) == []


def test_a_cancel_waits_for_the_acknowledgement(desk: Desk) -> None:
    """S10: one that overtook its SUBMIT would find nothing to cancel."""
    desk.submit("a")
    desk.handle(TaskAbandoned("a"))
    assert desk.asked(Kind.CANCEL) == []
    desk.acknowledge()
    assert [body.ids for body in desk.asked(Kind.CANCEL)] == [["a"]]
    desk.handle(TaskAbandoned("a"))
    assert len(desk.asked(Kind.CANCEL)) == 1
    desk.answer(Kind.CANCEL, TaskEvents([done("a", WireStatus.CANCELLED)]))
    assert desk.state.statistics().waiting == 0


@pytest.mark.parametrize("status", [WireStatus.CANCELLED, WireStatus.SUCCESS])
def test_it_is_known_until_when_a_task_that_was_left_may_still_run(
    desk: Desk, status: WireStatus
) -> None:
    desk.submit("a", "b", flush=False)
    desk.submit("c")
    assert not desk.state.is_taking_back
    desk.handle(TaskAbandoned("a"))
    desk.handle(TaskAbandoned("b"))
    desk.acknowledge(SubmitReply([Refusal(1, RefusalCode.CONFLICT, "used")]))
    assert desk.state.is_taking_back
    desk.tell(done("c", WireStatus.SUCCESS))
    assert desk.state.is_taking_back
    desk.tell(done("a", status))
    assert not desk.state.is_taking_back


def test_a_held_task_can_be_cancelled(desk: Desk) -> None:
    desk.submit("a")
    desk.acknowledge(SubmitReply(held=[0]))
    desk.handle(TaskAbandoned("a"))
    assert [body.ids for body in desk.asked(Kind.CANCEL)] == [["a"]]


def test_a_refused_task_whose_caller_left_is_not_cancelled(desk: Desk) -> None:
    desk.submit("a")
    desk.handle(TaskAbandoned("a"))
    desk.acknowledge(SubmitReply([Refusal(0, RefusalCode.CONFLICT, "used")]))
    assert desk.asked(Kind.CANCEL) == []
    assert desk.state.statistics().waiting == 0


def test_cancels_gather_while_one_is_under_way(desk: Desk) -> None:
    desk.submit("a", "b", "c", flush=False)
    desk.submit("d")
    desk.acknowledge()
    for task_id in "abcd":
        desk.handle(TaskAbandoned(task_id))
    assert [body.ids for body in desk.asked(Kind.CANCEL)] == [["a"]]
    desk.answer(Kind.CANCEL, TaskEvents([done("a", WireStatus.CANCELLED)]))
    assert [body.ids for body in desk.asked(Kind.CANCEL)] == [["b", "c", "d"]]


# --- queries ----------------------------------------------------------------


def test_a_query_is_answered_once(desk: Desk) -> None:
    desk.handle(QueryMade(1, "x"))
    desk.answer(Kind.QUERY, TaskEvents([TaskEvent("x", WireStatus.STARTED)]))
    (answered,) = desk.take(QueryAnswered)
    assert (answered.query_id, answered.event.status) == (1, WireStatus.STARTED)


def test_a_query_whose_caller_left_is_answered_to_nobody(desk: Desk) -> None:
    desk.handle(QueryMade(1, "x"))
    desk.handle(QueryAbandoned(1))
    desk.answer(Kind.QUERY, TaskEvents([TaskEvent("x", WireStatus.STARTED)]))
    assert desk.take(QueryAnswered) == []


def test_many_queries_leave_room_for_everything_else(desk: Desk) -> None:
    for number in range(100):
        desk.handle(QueryMade(number, f"x{number}"))
    desk.submit("a")
    assert desk.submitted() == [["a"]]
    asked = 100
    while desk.asked(Kind.QUERY):
        desk.answer(Kind.QUERY, TaskEvents([TaskEvent("x", WireStatus.UNKNOWN)]))
        asked -= 1
    assert asked == 0


# --- lost sessions ----------------------------------------------------------


def test_after_a_lost_session_unanswered_submits_are_sent_again(desk: Desk) -> None:
    """S4."""
    desk.submit("a")
    desk.lose_the_session()
    assert desk.submitted() == [["a"]]
    desk.acknowledge()
    assert desk.take(TaskAcknowledged) == [TaskAcknowledged("a")]


def test_after_a_lost_session_tasks_that_were_heard_of_are_not_submitted_again(
    desk: Desk,
) -> None:
    """S2: a control plane that has forgotten everything would run them once more."""
    desk.submit("ended", "started", flush=False)
    desk.submit("unheard")
    desk.tell(done("ended"), TaskEvent("started", WireStatus.STARTED))
    desk.epoch = 2
    desk.lose_the_session()
    assert desk.submitted() == [["unheard"]]
    assert [body.ids for body in desk.asked(Kind.WATCH)] == [["started"]]


def test_a_submit_that_no_session_survives_is_rejected_as_unreachable() -> None:
    desk = Desk(retries=2)
    desk.connect()
    desk.submit("a")
    for _ in range(2):
        desk.lose_the_session()
        assert desk.take(TaskRejected) == []
    desk.lose_the_session()
    (rejected,) = desk.take(TaskRejected)
    assert rejected.code is None
    assert "the session was lost 3 times" in rejected.message


def test_a_session_that_was_closed_is_opened_anew_after_a_pause(desk: Desk) -> None:
    # N9: two ends that do not understand each other must not keep both busy.
    desk.submit("a")
    hellos = len(desk.hellos)
    for _ in range(3):
        desk.frame(Closed(desk.session, "not a Submit"))
        assert len(desk.hellos) == hellos
        desk.pass_time(HELLO_INTERVAL)
        hellos += 1
        assert len(desk.hellos) == hellos
        assert desk.hellos[-1].epoch == 0
        assert desk.hellos[-1].session != desk.session
        desk.welcome()
        assert len(desk.asked(Kind.SUBMIT)) == 1


def test_what_was_acknowledged_is_watched_again_in_the_next_session(desk: Desk) -> None:
    desk.submit("a", "b", flush=False)
    desk.submit("c")
    desk.acknowledge()
    desk.epoch = 2
    desk.lose_the_session()
    assert [body.ids for body in desk.asked(Kind.WATCH)] == [["a", "b", "c"]]
    desk.answer(
        Kind.WATCH,
        TaskEvents(
            [
                TaskEvent("a", WireStatus.STARTED),
                done("b"),
                TaskEvent("c", WireStatus.UNKNOWN),
            ]
        ),
    )
    assert [ended.task_id for ended in desk.take(TaskEnded)] == ["b", "c"]
    lost = desk.state.outcome("c")
    assert lost is not None
    assert (lost.status, lost.error) == (WireStatus.FAILURE, LOST_STORE)


def test_an_answer_that_was_cut_is_asked_for_again_from_there(desk: Desk) -> None:
    desk.submit("a", "b", flush=False)
    desk.submit("c")
    desk.acknowledge()
    desk.epoch = 2
    desk.lose_the_session()
    desk.answer(Kind.WATCH, TaskEvents([done("a")]))
    assert [body.ids for body in desk.asked(Kind.WATCH)] == [["b", "c"]]


def test_a_resumed_session_asks_nothing_again(desk: Desk) -> None:
    desk.submit("a")
    desk.acknowledge()
    desk.disconnect()
    desk.connect(resumed=True)
    assert desk.asked(Kind.WATCH) == []
    assert [opened.resumed for opened in desk.take(SessionOpened)] == [False, True]


def test_a_poll_starts_anew_in_a_new_session(desk: Desk) -> None:
    desk.cursor = 40
    desk.tell()
    assert desk.asked(Kind.POLL)[-1].cursor == 41
    desk.lose_the_session()
    assert desk.asked(Kind.POLL)[-1].cursor == 0


# --- leaving, and nonsense --------------------------------------------------


def test_goodbye_is_said_to_the_control_plane(desk: Desk) -> None:
    desk.handle(ClientStopped())
    assert desk.take(SaidGoodbye) == []
    desk.answer(Kind.BYE, Nothing())
    assert desk.take(SaidGoodbye) == [SaidGoodbye()]
    desk.submit("late")
    assert desk.submitted() == []


def test_without_a_connection_goodbye_is_said_to_nobody() -> None:
    desk = Desk()
    desk.handle(ClientStopped())
    assert desk.take(SaidGoodbye) == [SaidGoodbye()]
    assert desk.state.next_deadline() == float("inf")


@pytest.mark.parametrize("kind", [Kind.SUBMIT, Kind.POLL, Kind.QUERY])
@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x01", b"\x91" * 300])
def test_an_answer_that_is_none_drops_the_pipe(desk: Desk, kind: Kind, body: bytes) -> None:
    desk.submit("a")
    desk.handle(QueryMade(1, "x"))
    desk.answer(kind, body)
    assert desk.take(DropPipe) == [DropPipe()]
    assert desk.state.statistics().malformed_frames == 1


def test_every_limit_of_the_wire_is_kept_when_tasks_are_watched(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_client, "WATCH_BATCH", 2)
    desk.submit("a", "b", "c", flush=False)
    desk.submit("d")
    desk.acknowledge()
    desk.epoch = 2
    desk.lose_the_session()
    assert [body.ids for body in desk.asked(Kind.WATCH)] == [["a", "b"]]
    desk.answer(Kind.WATCH, TaskEvents([done("a"), done("b")]))
    assert [body.ids for body in desk.asked(Kind.WATCH)] == [["c", "d"]]
