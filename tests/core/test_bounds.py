"""B1: whatever a peer does, what the control plane keeps for it has a bound.

Each test reaches its bound, and shows that somebody else goes on.
"""

from __future__ import annotations

import random

import pytest

from fastworker._core._codec import decode_body
from fastworker._core._control_plane_events import FrameArrived, Port
from fastworker._core._known_functions import (
    MESSAGE_LENGTH,
    KnownFunctions,
    weight_of,
)
from fastworker._core._messages import (
    KEPT_REPLY_BYTES,
    SLOT_COUNT,
    EndedAttempt,
    FunctionInfo,
    Kind,
    Lease,
    LeaseReply,
    Poll,
    RefusalCode,
    Refused,
    Rehello,
    Reply,
    Report,
    Role,
    Submit,
    SubmitReply,
    TaskEvents,
    TaskIds,
    TaskSpec,
    Welcome,
    WireStatus,
)
from fastworker._core._pipes import Flush, Route
from fastworker._core._results import Results
from fastworker._core._scheduler import Scheduler
from fastworker._core._scheduler_events import SubmitDecided, TasksSubmitted
from fastworker._core._session_table import MAX_SESSIONS_OF_A_PIPE
from fastworker._core._sessions import OUTBOX_BYTES, Outbox
from fastworker._core._submitting import MAX_EXPLAINED
from tests.core.test_control_plane_machine import (
    ANN,
    ANN_PIPE,
    BOB,
    BOB_PIPE,
    EPOCH,
    EVE,
    EVE_PIPE,
    Hall,
)
from tests.core.test_scheduler import Plane
from tests.core.test_sessions import an_event

WEIGHT = TaskSpec("t0", "work", 2, 1, b"()", 0.0).size


def a_plane(**bounds: int) -> Plane:
    plane = Plane()
    plane.scheduler = Scheduler(
        epoch=EPOCH - 1,
        results=Results(max_size=1000, ttl=60.0),
        now=plane.now,
        rng=random.Random(1),
        **bounds,
    )
    return plane


def codes(reply: SubmitReply) -> list[tuple[int, RefusalCode]]:
    return [(refusal.index, refusal.code) for refusal in reply.refusals]


# --- tasks ------------------------------------------------------------------


def test_a_queue_of_three_takes_three_and_more_when_one_has_ended() -> None:
    plane = a_plane(max_queued=3)
    plane.join("w1")
    reply = plane.submit("t0", "t1", "t2", "t3", "t4")
    assert codes(reply) == [(3, RefusalCode.QUEUE_FULL), (4, RefusalCode.QUEUE_FULL)]
    assert reply.refusals[0].message == (
        "the queue is full: 3 tasks have not ended, and max_queued=3; try again later, or "
        "raise it"
    )
    assert codes(plane.submit("t1")) == []  # what is there already needs no room
    plane.give("w1")
    assert codes(plane.submit("t3")) == [(0, RefusalCode.QUEUE_FULL)]  # it is leased, not gone
    plane.end("w1", "t0")
    assert codes(plane.submit("t3", "t4")) == [(1, RefusalCode.QUEUE_FULL)]
    plane.cancel("t1")
    assert codes(plane.submit("t4")) == []
    assert plane.scheduler.statistics().refused == 4


def test_a_queue_is_bounded_by_weight_too() -> None:
    plane = a_plane(max_queued_bytes=2 * WEIGHT)
    plane.join("w1")
    reply = plane.submit("t0", "t1", "t2")
    assert codes(reply) == [(2, RefusalCode.QUEUE_FULL)]
    assert f"{2 * WEIGHT:,} bytes have not ended" in reply.refusals[0].message
    assert plane.scheduler.statistics().queued_bytes == 2 * WEIGHT
    plane.give("w1")
    plane.end("w1", "t0")
    assert codes(plane.submit("t2")) == []
    plane.cancel("t1", "t2")
    assert plane.scheduler.statistics().queued_bytes == 0


def test_tasks_that_are_handed_back_or_lost_keep_their_place_in_a_full_queue() -> None:
    plane = a_plane(max_queued=2)
    plane.join("w1", slots=2)
    plane.submit("t0", "t1")
    plane.give("w1")
    plane.hand_back("w1", "t1")
    plane.lose("w1")
    plane.join("w2")
    assert codes(plane.submit("t2")) == [(0, RefusalCode.QUEUE_FULL)]
    given = plane.give("w2")["w2"]
    plane.end("w2", *given)
    assert codes(plane.submit("t2")) == []


def test_held_tasks_of_unknown_names_are_within_the_bound_and_leave_it() -> None:
    plane = a_plane(max_queued=3)
    specs = [TaskSpec(f"t{n}", f"name-{n}", 2, 1, b"", 0.0) for n in range(10)]
    decided = plane.handle(TasksSubmitted(b"eve", specs))[0]
    assert isinstance(decided, SubmitDecided)
    assert decided.reply.held == [0, 1, 2]
    assert [code for _, code in codes(decided.reply)] == [RefusalCode.QUEUE_FULL] * 7
    plane.wait(5.0)
    assert [event.status for event in plane.news] == [WireStatus.REFUSED] * 3
    plane.join("w1")
    assert codes(plane.submit("a", "b", "c")) == []


def test_a_full_queue_delays_no_other_client_longer_than_it_is_full() -> None:
    """S21."""
    plane = a_plane(max_queued=2)
    plane.join("w1")
    plane.submit("e1", "e2", "e3", owner=b"eve")
    assert codes(plane.submit("a1", owner=b"ann")) == [(0, RefusalCode.QUEUE_FULL)]
    plane.give("w1")
    plane.end("w1", "e1")
    assert codes(plane.submit("a1", owner=b"ann")) == []


# --- announced functions ----------------------------------------------------


def a_function(name: str, doc: str = "") -> FunctionInfo:
    return FunctionInfo(name, "thread", "()", doc)


def test_what_living_subworkers_announce_is_bounded_by_weight() -> None:
    known = KnownFunctions(announced_bytes=2 * weight_of(a_function("a")))
    known.announce([a_function("a")])
    assert known.has_room([a_function("b")])
    assert not known.has_room([a_function("b", "one letter more")])
    known.announce([a_function("a")])
    assert not known.has_room([a_function("b")])
    known.withdraw([a_function("a")])
    assert known.has_room([a_function("b")])
    known.check()


def test_names_whose_workers_are_gone_are_forgotten_oldest_first() -> None:
    known = KnownFunctions(remembered=3)
    known.announce([a_function("alive")])
    for number in range(10):
        known.announce([a_function(f"n{number}")])
        known.withdraw([a_function(f"n{number}")])
        known.check()
    assert list(known.functions) == ["alive", "n7", "n8", "n9"]
    known.announce([a_function("n7")])  # it came back, and is not gone any more
    known.announce([a_function("n10"), a_function("n11")])
    known.withdraw([a_function("n10"), a_function("n11")])
    known.check()
    assert set(known.functions) == {"alive", "n7", "n9", "n10", "n11"}


def test_names_whose_workers_are_gone_are_bounded_by_weight_too() -> None:
    known = KnownFunctions(remembered_bytes=3 * weight_of(a_function("n0")))
    functions = [a_function(f"n{number}") for number in range(5)]
    known.announce(functions)
    known.withdraw(functions)
    known.check()
    assert list(known.functions) == ["n2", "n3", "n4"]


def test_subworkers_that_come_and_go_leave_room_for_the_next() -> None:
    plane = Plane()
    known = plane.scheduler._known
    known._announced_limit, known._remembered_limit = 2 * weight_of(a_function("f0")), 3
    for number in range(10):
        function = a_function(f"f{number}")
        assert plane.scheduler.has_room_for([function])
        plane.join(f"w{number}", function)
        plane.lose(f"w{number}")
    assert list(plane.scheduler.known_functions) == ["f7", "f8", "f9"]
    # What is known still waits for its worker, and is not refused.
    assert codes(plane.submit("t0", name="f9")) == []
    plane.join("w1", a_function("f9"))
    assert plane.give("w1") == {"w1": ["t0"]}


def test_a_subworker_that_announces_too_much_is_refused_and_the_others_work_on() -> None:
    hall = Hall()
    hall.scheduler._known._announced_limit = 100_000
    hall.hello(BOB_PIPE, BOB, Role.SUBWORKER)
    many = [a_function(f"f{number}") for number in range(1000)]
    (refused,) = hall.hello(EVE_PIPE, EVE, Role.SUBWORKER, functions=many)
    assert isinstance(refused, Refused)
    assert refused.reason.startswith("1000 task functions are too many")
    assert list(hall.scheduler.known_functions) == ["add"]
    hall.pass_time(5.0)
    assert hall.closed == [EVE_PIPE]


@pytest.mark.parametrize("count", [0, 1, 5000])
@pytest.mark.parametrize("length", [1, 256])
def test_an_unknown_name_is_explained_in_a_line_whatever_is_known(
    count: int, length: int
) -> None:
    known = KnownFunctions()
    known.announce([a_function(f"{number:05}".ljust(length, "x")) for number in range(count)])
    message = known.explain_unknown("\0" * 256)
    assert message.startswith("unknown task '")
    assert len(message) <= MESSAGE_LENGTH


def test_thousands_of_unknown_names_in_one_submit_are_not_each_compared_with_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """S21: comparing is slow, and nobody else is served meanwhile."""
    plane = Plane()
    plane.join("w1", *(a_function(f"function-{number}") for number in range(200)))
    plane.wait(5.0)
    compared: list[str] = []
    similar = KnownFunctions._similar

    def count(self: KnownFunctions, name: str) -> list[str]:
        compared.append(name)
        return similar(self, name)

    monkeypatch.setattr(KnownFunctions, "_similar", count)
    specs = [TaskSpec(f"t{n}", f"functoin-{n % 5000}", 2, 1, b"", 0.0) for n in range(20_000)]
    decided = plane.handle(TasksSubmitted(b"eve", specs))[0]
    assert isinstance(decided, SubmitDecided)
    assert {code for _, code in codes(decided.reply)} == {RefusalCode.UNKNOWN_TASK}
    assert len(decided.reply.refusals) == 20_000
    assert "did you mean 'function-0'" in decided.reply.refusals[0].message
    assert len(compared) == MAX_EXPLAINED


# --- sessions ---------------------------------------------------------------


def test_one_connection_opens_few_sessions_and_others_get_theirs() -> None:
    hall = Hall()
    answers = [
        hall.hello(EVE_PIPE, number.to_bytes(16, "big"), Role.CLIENT)[0]
        for number in range(1, MAX_SESSIONS_OF_A_PIPE + 2)
    ]
    assert [type(answer) for answer in answers] == [
        *[Welcome] * MAX_SESSIONS_OF_A_PIPE,
        Refused,
    ]
    assert isinstance(hall.hello(ANN_PIPE, ANN, Role.CLIENT)[0], Welcome)
    hall.pass_time(31.0)  # they say nothing more, and end
    assert isinstance(hall.hello(EVE_PIPE, EVE, Role.CLIENT)[0], Welcome)


def test_kept_answers_of_a_session_are_bounded() -> None:
    hall = Hall()
    hall.hello(EVE_PIPE, EVE, Role.CLIENT)
    large = TaskIds(["x" * 256] * 500)
    # Of tasks that are known: else it is the store that is asked, and nothing is kept.
    spec = TaskSpec("x" * 256, "add", 2, 1, b"[]", 0.0)
    hall.ask(EVE_PIPE, EVE, Kind.SUBMIT, Submit([spec]), 0)
    for slot in range(1, SLOT_COUNT - 1):
        for _ in range(3):
            hall.ask(EVE_PIPE, EVE, Kind.WATCH, large, slot)
            small = TaskIds(["x" * 256] * 10)
            hall.ask(EVE_PIPE, EVE, Kind.WATCH, small, slot)
    kept = hall.state.statistics().kept_bytes
    assert 0 < kept <= SLOT_COUNT * KEPT_REPLY_BYTES


def test_beyond_the_bound_tracebacks_are_dropped_as_well() -> None:
    outbox = Outbox(max_bytes=1000)
    outbox.put(an_event("a", size=500))
    error = an_event("b", WireStatus.FAILURE, size=0)
    for number in range(4):
        event = type(error)(f"f{number}", WireStatus.FAILURE, error="no", traceback="x" * 900)
        outbox.put(event)
    _, *failures = outbox.take(0).events
    assert [(f.error, f.traceback, f.value_dropped) for f in failures] == [
        ("no", "", False)
    ] * 4
    assert not outbox.is_overfull
    for number in range(10):
        outbox.put(an_event(f"more-{number}", size=500))
    assert outbox.is_overfull


def test_a_client_that_fetches_nothing_loses_its_session_and_can_ask_anew() -> None:
    """P4, and nobody else notices."""
    hall = Hall()
    hall.hello(ANN_PIPE, ANN, Role.CLIENT)
    hall.hello(BOB_PIPE, BOB, Role.SUBWORKER)
    hall.hello(EVE_PIPE, EVE, Role.CLIENT)
    hall.state._sessions.by_key[EVE].outbox = Outbox(max_bytes=1000)
    assert OUTBOX_BYTES > 1000
    tasks = [TaskSpec(f"e{n}", "add", 2, 1, b"", 0.0) for n in range(20)]
    hall.ask(EVE_PIPE, EVE, Kind.SUBMIT, Submit(tasks))
    hall.ask(ANN_PIPE, ANN, Kind.SUBMIT, Submit([TaskSpec("a", "add", 2, 1, b"", 0.0)]))
    (leased,) = hall.ask(BOB_PIPE, BOB, Kind.LEASE, Lease(0, {"thread": 30}))
    assert isinstance(leased, Reply)
    given = decode_body(LeaseReply, leased.body).assignments
    ended = [
        EndedAttempt(a.task_id, a.attempt, WireStatus.SUCCESS, 1.0, 2.0, 0.1, 1, b"7")
        for a in given
    ]
    hall.ask(BOB_PIPE, BOB, Kind.REPORT, Report(EPOCH, ended=ended), slot=1)
    hall.handle(Flush())
    assert hall.state.statistics().clients == 1
    assert hall.state.statistics().closed_sessions == 1
    (rehello,) = hall.ask(EVE_PIPE, EVE, Kind.POLL, Poll(0))
    assert isinstance(rehello, Rehello)
    again = bytes(16)
    hall.hello(EVE_PIPE, again, Role.CLIENT)
    (watched,) = hall.ask(EVE_PIPE, again, Kind.WATCH, TaskIds([t.id for t in tasks]))
    assert isinstance(watched, Reply)
    assert {e.status for e in decode_body(TaskEvents, watched.body).events} == {
        WireStatus.SUCCESS
    }
    (news,) = hall.ask(ANN_PIPE, ANN, Kind.POLL, Poll(0))
    assert isinstance(news, Reply)
    assert b"a" in news.body


def test_pipes_that_say_no_hello_leave_nothing_in_the_tables() -> None:
    hall = Hall()
    for pipe in range(100, 1100):
        hall.handle(FrameArrived(Port.BASE, Route(pipe, b""), b"junk"))
    assert len(hall.closed) == 1000
    assert hall.state._sessions._by_pipe == {}
    assert hall.state.statistics().clients == 0
    assert hall.state.next_deadline() == float("inf")
