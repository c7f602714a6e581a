"""What a session owes its peer: the outbox of a client, the handout of a subworker."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from fastworker._core._messages import (
    BATCH_BYTES,
    Assignment,
    Role,
    StopOrder,
    TaskEvent,
    WireStatus,
)
from fastworker._core._sessions import Handout, Outbox, Session


def an_event(task_id: str, status: WireStatus = WireStatus.SUCCESS, size: int = 0) -> TaskEvent:
    return TaskEvent(task_id, status, payload=bytes(size))


def ids(events: list[TaskEvent]) -> list[str]:
    return [event.task_id for event in events]


# --- outbox -----------------------------------------------------------------


def test_news_are_given_in_order_until_they_are_acknowledged() -> None:
    """S12."""
    outbox = Outbox()
    for task_id in "abc":
        outbox.put(an_event(task_id))
    first = outbox.take(0)
    assert ids(first.events) == ["a", "b", "c"]
    assert outbox.take(0) == first
    outbox.acknowledge(first.cursor - 1)
    assert ids(outbox.take(0).events) == ["c"]
    outbox.acknowledge(first.cursor)
    assert (len(outbox), outbox.bytes) == (0, 0)


def test_only_the_latest_news_of_a_task_is_given() -> None:
    outbox = Outbox()
    outbox.put(an_event("a", WireStatus.STARTED))
    outbox.put(an_event("b"))
    given_before = outbox.take(0)
    outbox.put(an_event("a", WireStatus.SUCCESS))
    outbox.acknowledge(given_before.cursor)
    (event,) = outbox.take(given_before.cursor).events
    assert (event.task_id, event.status) == ("a", WireStatus.SUCCESS)


def test_a_batch_is_cut_and_one_larger_item_goes_alone() -> None:
    outbox = Outbox()
    for task_id, size in [("a", 100), ("b", 2 * BATCH_BYTES), ("c", 100)]:
        outbox.put(an_event(task_id, size=size))
    taken, cursor = [], 0
    while len(outbox):
        reply = outbox.take(cursor)
        taken.append(ids(reply.events))
        cursor = reply.cursor
        outbox.acknowledge(cursor)
    assert taken == [["a"], ["b"], ["c"]]


def test_beyond_the_bound_the_value_is_dropped_and_the_outcome_is_not() -> None:
    """B1: P4, a client that sleeps while its results come in."""
    outbox = Outbox(max_bytes=1000)
    outbox.put(an_event("a", size=500))
    outbox.put(an_event("b", size=500))
    kept, dropped = outbox.take(0).events
    assert (kept.value_dropped, len(kept.payload)) == (False, 500)
    assert (dropped.value_dropped, dropped.payload) == (True, b"")
    assert dropped.status is WireStatus.SUCCESS


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["put", "ack", "take"]), st.integers(0, 5))))
def test_nothing_is_lost_and_nothing_comes_back_after_its_acknowledgement(
    moves: list[tuple[str, int]],
) -> None:
    outbox = Outbox()
    latest: dict[str, WireStatus] = {}
    seen: dict[str, WireStatus] = {}
    cursor = 0
    for what, which in moves:
        task_id = f"t{which}"
        if what == "put":
            latest[task_id] = WireStatus(which + 1)
            outbox.put(an_event(task_id, latest[task_id]))
        elif what == "take":
            reply = outbox.take(cursor)
            seen |= {event.task_id: event.status for event in reply.events}
            cursor = reply.cursor
        else:
            outbox.acknowledge(cursor)
            assert not outbox.take(cursor).events or cursor == 0 or len(outbox)
        outbox.check()
    reply = outbox.take(cursor)
    seen |= {event.task_id: event.status for event in reply.events}
    assert seen == latest


# --- handout ----------------------------------------------------------------


def an_assignment(task_id: str) -> Assignment:
    return Assignment(task_id, 1, "add", 1, b"()")


def test_what_was_given_is_given_again_until_the_subworker_has_it() -> None:
    handout = Handout()
    handout.put([an_assignment("a"), StopOrder("x", 1)])
    first = handout.take()
    assert first.numbers == [1]
    handout.put([an_assignment("b")])
    again = handout.take()
    assert [a.task_id for a in again.assignments] == ["a", "b"]
    assert again.cancels == [StopOrder("x", 1)]
    handout.acknowledge(first.cursor)
    assert [a.task_id for a in handout.take().assignments] == ["b"]
    assert handout.take().numbers == [3]


def test_assignments_whose_lease_has_ended_are_not_given() -> None:
    """S5: the same task may be leased to another subworker by now."""
    handout = Handout()
    handout.put([an_assignment("a"), an_assignment("b"), StopOrder("x", 1)])
    handout.keep(lambda item: item.task_id == "b")
    reply = handout.take()
    assert [a.task_id for a in reply.assignments] == ["b"]
    assert reply.cancels


def test_the_secret_of_a_session_is_not_shown() -> None:
    """A traceback or log line must not hand the session to its reader."""
    session = Session(b"secret-secret-se", Role.CLIENT, "c1", "", 1, 0.0)
    assert "secret" not in repr(session)
    assert "c1" in repr(session)
