"""Who listens to changes of tasks: what is told, when, and what is dropped."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from fastworker._core._codec import decode_body, encode
from fastworker._core._control_plane_events import (
    AppendRecords,
    RecordsFailed,
    StoreRecovered,
)
from fastworker._core._event_messages import (
    MAX_KEPT_EVENTS,
    EventFilter,
    EventsAsked,
    EventsReply,
)
from fastworker._core._feed import (
    MAX_SUBSCRIPTIONS,
    MAX_SUBSCRIPTIONS_OF_A_SESSION,
    SUBSCRIPTION_BYTES,
    Feed,
    Told,
)
from fastworker._core._link_responder import Ticket
from fastworker._core._messages import (
    BATCH_BYTES,
    EndedAttempt,
    Frame,
    Kind,
    Lease,
    Nothing,
    Poll,
    Reply,
    Report,
    Role,
    StartedAttempt,
    Submit,
    TaskEvent,
    TaskSpec,
    WireStatus,
)
from fastworker._core._pipes import Flush
from fastworker._core._stored import StoredLife, StoredState, StoredTask
from fastworker._errors import RemoteProtocolError
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

NAMES = ["add", "mail"]


def a_task(
    number: int,
    state: StoredState = StoredState.QUEUED,
    *,
    name: str = "add",
    priority: int = 2,
    worker: str = "",
    error: str = "",
) -> StoredTask:
    spec = TaskSpec(f"t{number}", name, priority, 1, b"()", 0.0)
    life = StoredLife(worker=worker, errors=(error,) if error else ())
    return StoredTask(number, spec, state, life, 1.0)


class Listener:
    """What a client does: one request after the other, each repeated until it is answered."""

    def __init__(self, feed: Feed, session: bytes = ANN, number: int = 1, **asked: Any) -> None:
        self.feed = feed
        self.session = session
        self.asked = EventsAsked(number, **{"interval": 0, **asked})
        self.ticket = Ticket(number, 0)
        self.heard: list[str] = []
        self.dropped = 0
        self.generations: list[int] = []
        self.is_waiting = False

    def ask(self, now: float = 0.0, *, is_lost: bool = False) -> None:
        """Ask for more, or once more; the answer may get lost."""
        if not self.is_waiting:
            self.ticket = Ticket(self.ticket.slot, self.ticket.sequence + 1)
            self.is_waiting = True
        told = self.feed.ask(self.session, self.ticket, self.asked, now=now)
        self.hear([] if is_lost else told)

    def hear(self, told: list[Told]) -> None:
        for session, ticket, reply in told:
            if (session, ticket) != (self.session, self.ticket) or not self.is_waiting:
                continue
            self.is_waiting = False
            assert not reply.problem
            if reply.generation != self.asked.generation:
                self.generations.append(reply.generation)
            assert not reply.dropped or reply.events, "what was dropped comes before something"
            self.dropped += reply.dropped
            self.heard += [row.task_id for row in reply.events]
            self.asked = EventsAsked(
                self.asked.number,
                reply.cursor,
                self.asked.filter,
                self.asked.max_kept,
                self.asked.interval,
                reply.generation,
            )


def a_listener(feed: Feed, **asked: Any) -> Listener:
    """One that has been told that it begins now, and waits."""
    listener = Listener(feed, **asked)
    listener.ask()
    assert listener.generations
    listener.ask()
    assert listener.is_waiting
    return listener


def publish(feed: Feed, *tasks: StoredTask, now: float = 0.0) -> list[Told]:
    told = feed.publish(tasks, now=now)
    feed.check(lambda session, ticket: True)
    return told


# --- single listeners ---------------------------------------------------------


def test_a_change_is_told_to_who_waits_for_it() -> None:
    feed = Feed(EPOCH)
    listener = a_listener(feed)
    listener.hear(publish(feed, a_task(1), a_task(2, StoredState.STARTED)))
    assert listener.heard == ["t1", "t2"]
    assert listener.dropped == 0


def test_what_changes_between_two_requests_is_told_by_the_second() -> None:
    feed = Feed(EPOCH)
    listener = Listener(feed)
    listener.ask()
    publish(feed, a_task(1))
    publish(feed, a_task(2))
    listener.ask()
    assert listener.heard == ["t1", "t2"]


@pytest.mark.parametrize(
    ("wanted", "heard"),
    [
        (EventFilter(), ["t1", "t2", "t3", "t4"]),
        (EventFilter(states=[StoredState.STARTED, StoredState.FAILURE]), ["t2", "t3"]),
        (EventFilter(names=["mail", "other"]), ["t3"]),
        (EventFilter(worker="w1"), ["t2"]),
        (EventFilter(task_ids=["t1", "t4"]), ["t1", "t4"]),
        (EventFilter(priorities=[0]), ["t4"]),
        (EventFilter(names=["add"], priorities=[2]), ["t1", "t2"]),
    ],
)
def test_only_what_the_filter_lets_through_is_told(
    wanted: EventFilter, heard: list[str]
) -> None:
    feed = Feed(EPOCH)
    listener = a_listener(feed, filter=wanted)
    tasks = (
        a_task(1),
        a_task(2, StoredState.STARTED, worker="w1"),
        a_task(3, StoredState.FAILURE, name="mail", worker="w2"),
        a_task(4, priority=0),
    )
    listener.hear(publish(feed, *tasks))
    assert listener.heard == heard


def test_of_what_does_not_fit_the_oldest_are_dropped_and_counted() -> None:
    feed = Feed(EPOCH)
    listener = Listener(feed, max_kept=3)
    listener.ask()
    publish(feed, *(a_task(n) for n in range(10)))
    listener.ask()
    assert listener.heard == ["t7", "t8", "t9"]
    assert listener.dropped == 7


def test_long_errors_are_kept_within_the_bound_of_bytes() -> None:
    feed = Feed(EPOCH)
    listener = Listener(feed, max_kept=MAX_KEPT_EVENTS)
    listener.ask()
    count = SUBSCRIPTION_BYTES // 4096 + 100
    publish(feed, *(a_task(n, error="é" * 4096) for n in range(count)))
    while not listener.is_waiting:
        listener.ask()
    assert listener.heard[-1] == f"t{count - 1}"
    assert listener.dropped + len(listener.heard) == count
    assert 0 < len(listener.heard) < count / 2


def test_large_arguments_and_results_are_not_held_for_a_listener() -> None:
    feed = Feed(EPOCH)
    listener = Listener(feed)
    listener.ask()
    with_arguments, with_result = a_task(1), a_task(2)
    spec = msgspec.structs.replace(with_arguments.spec, payload=bytes(300))
    outcome = TaskEvent("t2", WireStatus.SUCCESS, payload=bytes(300))
    with_arguments = msgspec.structs.replace(with_arguments, spec=spec)
    with_result = msgspec.structs.replace(
        with_result, state=StoredState.SUCCESS, outcome=outcome
    )
    publish(feed, with_arguments, with_result)
    held = [news for each in feed._all.values() for news, _ in each._rows]
    assert with_arguments not in held
    assert with_result not in held
    listener.ask()
    assert listener.heard == ["t1", "t2"]


def test_an_answer_is_cut_to_a_frame_and_the_rest_comes_next() -> None:
    feed = Feed(EPOCH)
    listener = Listener(feed, max_kept=MAX_KEPT_EVENTS)
    listener.ask()
    count = BATCH_BYTES // 4096 + 50
    publish(feed, *(a_task(n, error="x" * 4096) for n in range(count)))
    listener.ask()
    assert len(listener.heard) < count
    listener.ask()
    assert listener.heard == [f"t{n}" for n in range(count)]
    assert listener.dropped == 0


def test_a_fast_load_costs_an_answer_each_interval() -> None:
    feed = Feed(EPOCH)
    listener = a_listener(feed, interval=250)
    answers = 0
    for step in range(1_000):  # a transaction each 10 ms, for 10 s
        now = step / 100
        told = publish(feed, a_task(step), now=now)
        if feed.next_deadline() <= now:
            told += feed.pass_deadline(now=now)
        listener.hear(told)
        answers += len(told)
        if not listener.is_waiting:
            listener.ask(now)
    assert 38 <= answers <= 41
    assert listener.dropped == 0


def test_the_first_change_after_silence_is_told_at_once() -> None:
    feed = Feed(EPOCH)
    listener = a_listener(feed, interval=60_000)
    listener.hear(publish(feed, a_task(1), now=0.0))
    assert listener.heard == ["t1"]
    listener.ask(1.0)
    listener.hear(publish(feed, a_task(2), now=2.0))
    assert listener.heard == ["t1"]
    assert feed.next_deadline() == 60.0
    listener.hear(feed.pass_deadline(now=60.0))
    assert listener.heard == ["t1", "t2"]
    assert feed.next_deadline() == math.inf


def test_a_lost_answer_is_told_once_more() -> None:
    feed = Feed(EPOCH)
    listener = a_listener(feed)
    publish(feed, a_task(1))  # and the answer is lost
    listener.ask()
    assert listener.heard == ["t1"]
    assert listener.dropped == 0


def test_what_was_told_and_fell_out_meanwhile_is_not_dropped() -> None:
    feed = Feed(EPOCH)
    listener = a_listener(feed, max_kept=2)
    told = publish(feed, a_task(1), a_task(2))
    publish(feed, a_task(3), a_task(4))  # while the answer is under way
    listener.hear(told)
    listener.ask()
    assert listener.heard == ["t1", "t2", "t3", "t4"]
    assert listener.dropped == 0


def test_who_has_not_heard_of_the_beginning_is_told_of_it_before_anything_else() -> None:
    feed = Feed(EPOCH)
    listener = Listener(feed)
    listener.ask(is_lost=True)
    publish(feed, a_task(1))
    listener.ask()
    assert len(listener.generations) == 1
    assert listener.heard == []
    listener.ask()
    assert listener.heard == ["t1"]


def test_a_cursor_of_an_earlier_beginning_takes_nothing_for_told() -> None:
    feed = Feed(EPOCH)
    old = EventsAsked(1, cursor=50, interval=0, generation=12345)
    listener = Listener(feed)
    listener.asked = old
    listener.ask(is_lost=True)
    publish(feed, *(a_task(n) for n in range(60)))
    listener.ask()
    listener.ask()
    assert listener.heard == [f"t{n}" for n in range(60)]


def test_two_control_planes_call_no_two_beginnings_the_same() -> None:
    generations = []
    for epoch in (1, 2, 2**40):
        feed = Feed(epoch)
        for number in (1, 2):
            generations += a_listener(feed, number=number).generations
    assert len(set(generations)) == len(generations)
    assert 0 not in generations


def test_another_filter_under_the_same_number_is_another_subscription() -> None:
    feed = Feed(EPOCH)
    first = a_listener(feed)
    second = Listener(feed, filter=EventFilter(names=["mail"]))
    second.ticket = first.ticket
    second.ask()
    assert second.generations
    assert len(feed) == 1


def test_a_second_request_answers_the_first_with_nothing() -> None:
    feed = Feed(EPOCH)
    listener = a_listener(feed)
    (told,) = feed.ask(ANN, Ticket(9, 1), listener.asked, now=0.0)
    assert told.ticket == listener.ticket
    assert told.reply.events == []
    (told,) = publish(feed, a_task(1))
    assert told.ticket == Ticket(9, 1)


def test_who_leaves_is_told_no_more_and_its_request_is_answered() -> None:
    feed = Feed(EPOCH)
    listener = a_listener(feed)
    told = feed.ask(ANN, Ticket(9, 1), EventsAsked(1, ends=True), now=0.0)
    assert [each.ticket for each in told] == [listener.ticket, Ticket(9, 1)]
    assert publish(feed, a_task(1)) == []
    assert len(feed) == 0
    (told_again,) = feed.ask(ANN, Ticket(9, 1), EventsAsked(1, ends=True), now=0.0)
    assert told_again.reply.events == []


def test_too_many_subscriptions_are_refused_with_the_limit() -> None:
    feed = Feed(EPOCH)
    for number in range(MAX_SUBSCRIPTIONS_OF_A_SESSION):
        a_listener(feed, number=number)
    (told,) = feed.ask(ANN, Ticket(0, 1), EventsAsked(99), now=0.0)
    assert "4 streams of events of one client" in told.reply.problem
    for number in range(MAX_SUBSCRIPTIONS - MAX_SUBSCRIPTIONS_OF_A_SESSION):
        a_listener(feed, session=number.to_bytes(16, "big"))
    (told,) = feed.ask(BOB, Ticket(0, 1), EventsAsked(1), now=0.0)
    assert "128 streams of events of all clients" in told.reply.problem
    feed.check(lambda session, ticket: True)
    feed.end_session(ANN)
    (told,) = feed.ask(BOB, Ticket(0, 2), EventsAsked(1), now=0.0)
    assert not told.reply.problem


# --- any listeners, in any order -----------------------------------------------


class Listeners(RuleBasedStateMachine):
    """Listeners come, ask, lose answers and leave, while tasks change."""

    @initialize()
    def begin(self) -> None:
        self.feed = Feed(EPOCH)
        self.now = 0.0
        self.number = 0
        self.listeners: dict[tuple[bytes, int], Listener] = {}
        self.published: dict[tuple[bytes, int], list[str]] = {}
        self.told_at: dict[tuple[bytes, int], float] = {}

    @rule(
        session=st.sampled_from([ANN, EVE]),
        number=st.integers(1, 3),
        max_kept=st.integers(1, 5),
        interval=st.sampled_from([0, 100, 1_000]),
        names=st.sampled_from([[], ["add"], ["mail"]]),
        states=st.sampled_from([[], [StoredState.SUCCESS]]),
    )
    def come(
        self,
        session: bytes,
        number: int,
        max_kept: int,
        interval: int,
        names: list[str],
        states: list[StoredState],
    ) -> None:
        key = session, number
        if key in self.listeners:
            return
        listener = Listener(
            self.feed,
            session,
            number,
            filter=EventFilter(states, names),
            max_kept=max_kept,
            interval=interval,
        )
        listener.ask(self.now)
        self.listeners[key] = listener
        self.published[key] = []
        self.told_at[key] = -math.inf

    @rule(index=st.integers(0, 5), is_lost=st.booleans())
    def ask(self, index: int, is_lost: bool) -> None:
        keys = list(self.listeners)
        if index < len(keys):
            listener = self.listeners[keys[index]]
            before = self.feed._all[keys[index]].told_at
            listener.ask(self.now, is_lost=is_lost)
            self.note_told(keys[index], before)

    @rule(
        states=st.lists(
            st.tuples(st.sampled_from(NAMES), st.sampled_from(StoredState)), max_size=8
        ),
        is_lost=st.booleans(),
    )
    def change(self, states: list[tuple[str, StoredState]], is_lost: bool) -> None:
        tasks = []
        for name, state in states:
            self.number += 1
            tasks.append(a_task(self.number, state, name=name))
        for key, listener in self.listeners.items():
            wanted = listener.asked.filter
            self.published[key] += [
                t.spec.id
                for t in tasks
                if (not wanted.names or t.spec.name in wanted.names)
                and (not wanted.states or t.state in wanted.states)
            ]
        self.tell(lambda: self.feed.publish(tasks, now=self.now), is_lost)

    @rule(seconds=st.sampled_from([0.01, 0.1, 2.0]), is_lost=st.booleans())
    def pass_time(self, seconds: float, is_lost: bool) -> None:
        self.now += seconds
        if self.feed.next_deadline() <= self.now:
            self.tell(lambda: self.feed.pass_deadline(now=self.now), is_lost)
            assert self.feed.next_deadline() > self.now, "the alarm would spin"

    @rule(index=st.integers(0, 5))
    def leave(self, index: int) -> None:
        keys = list(self.listeners)
        if index < len(keys):
            session, number = key = keys[index]
            self.feed.ask(session, Ticket(15, 1), EventsAsked(number, ends=True), now=self.now)
            del self.listeners[key]

    @rule(session=st.sampled_from([ANN, EVE]))
    def end_session(self, session: bytes) -> None:
        self.feed.end_session(session)
        self.listeners = {k: v for k, v in self.listeners.items() if k[0] != session}

    def tell(self, act: Callable[[], list[Told]], is_lost: bool) -> None:
        before = {key: each.told_at for key, each in self.feed._all.items()}
        told = act()
        for key, listener in self.listeners.items():
            if not is_lost:
                listener.hear(told)
            self.note_told(key, before[key])

    def note_told(self, key: tuple[bytes, int], before: float) -> None:
        told_at = self.feed._all[key].told_at
        if told_at != before:
            interval = self.listeners[key].asked.interval / 1000
            assert told_at >= before + interval, "it was told too soon"

    @invariant()
    def everything_holds(self) -> None:
        self.feed.check(lambda session, ticket: True)
        assert set(self.feed._all) == set(self.listeners)
        for key, listener in self.listeners.items():
            published = self.published[key]
            upto = listener.asked.cursor
            assert listener.dropped + len(listener.heard) == upto <= len(published)
            heard = iter(published[:upto])
            assert all(each in heard for each in listener.heard), "not in order"

    def teardown(self) -> None:
        """In the end everybody hears of the latest, and nothing is left of who leaves."""
        if not hasattr(self, "feed"):
            return
        for key, listener in self.listeners.items():
            for _ in range(3):
                self.now += 100.0
                listener.ask(self.now)
            assert listener.asked.cursor == len(self.published[key])
        for session in (ANN, EVE):
            self.feed.end_session(session)
        assert len(self.feed) == 0
        assert self.feed._by_session == {}
        assert self.feed.next_deadline() == math.inf


TestListeners = Listeners.TestCase
TestListeners.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


# --- inside the control plane ----------------------------------------------------


def replies(frames: list[Frame]) -> list[EventsReply]:
    return [decode_body(EventsReply, f.body) for f in frames if isinstance(f, Reply)]


class Ear:
    """Ann, who listens in slot 5."""

    def __init__(self, hall: Hall, interval: int = 0) -> None:
        self.hall = hall
        self.interval = interval
        self.generation = self.cursor = 0
        (reply,) = replies(self.ask())
        self.generation = reply.generation

    def ask(self, slot: int = 5, sequence: int | None = None) -> list[Frame]:
        asked = EventsAsked(1, self.cursor, interval=self.interval, generation=self.generation)
        return self.hall.ask(ANN_PIPE, ANN, Kind.EVENTS, encode(asked), slot, sequence)

    def heard(self) -> list[tuple[str, str]]:
        """What was told since the last time."""
        found = []
        for pipe, frame in self.hall.sent:
            if pipe == ANN_PIPE and isinstance(frame, Reply) and frame.slot == 5:
                reply = decode_body(EventsReply, frame.body)
                self.cursor = reply.cursor
                found += [(row.task_id, row.state.name) for row in reply.events]
        self.hall.sent.clear()
        return found


def open_hall() -> Hall:
    hall = Hall()
    hall.hello(ANN_PIPE, ANN, Role.CLIENT)
    hall.hello(BOB_PIPE, BOB, Role.SUBWORKER)
    return hall


def test_a_change_is_told_only_once_it_is_durable() -> None:
    hall = open_hall()
    ear = Ear(hall)
    ear.ask()
    batches: list[AppendRecords] = []
    obey = hall.obey

    def hold(command: Any) -> None:
        if isinstance(command, AppendRecords):
            batches.append(command)
        else:
            obey(command)

    hall.obey = hold  # type: ignore[method-assign]
    spec = TaskSpec("a1", "add", 2, 1, b"()", 0.0)
    hall.ask(ANN_PIPE, ANN, Kind.SUBMIT, Submit([spec]))
    assert ear.heard() == []
    (batch,) = batches
    obey(batch)
    assert ear.heard() == [("a1", "QUEUED")]


def test_several_changes_within_one_transaction_come_as_one() -> None:
    hall = open_hall()
    ear = Ear(hall)
    ear.ask()
    hall.ask(BOB_PIPE, BOB, Kind.LEASE, Lease(0, {"thread": 1}))
    spec = TaskSpec("a1", "add", 2, 1, b"()", 0.0)
    hall.ask(ANN_PIPE, ANN, Kind.SUBMIT, Submit([spec]))
    assert ear.heard() == [("a1", "LEASED")], "queued and leased at once"
    ear.ask()
    started = [StartedAttempt("a1", 1, 1.0)]
    ended = [EndedAttempt("a1", 1, WireStatus.SUCCESS, 1.0, 2.0, 1.0, 1, b"3")]
    hall.ask(BOB_PIPE, BOB, Kind.REPORT, Report(EPOCH, started=started, ended=ended), slot=2)
    assert ear.heard() == [("a1", "SUCCESS")], "started and ended at once"


def test_a_repeated_request_is_answered_once_more_and_nothing_is_lost() -> None:
    hall = open_hall()
    ear = Ear(hall)
    hall.sent.clear()
    ear.ask(sequence=2)
    hall.ask(ANN_PIPE, ANN, Kind.SUBMIT, Submit([TaskSpec("a1", "add", 2, 1, b"()", 0.0)]))
    cursor = ear.cursor
    assert ear.heard() == [("a1", "QUEUED")]
    ear.cursor = cursor
    ear.ask(sequence=2)
    assert ear.heard() == [("a1", "QUEUED")]


def test_a_slot_that_is_used_for_something_else_waits_for_events_no_more() -> None:
    hall = open_hall()
    ear = Ear(hall, interval=1_000)
    ear.ask(sequence=2)
    spec = TaskSpec("a1", "add", 2, 1, b"()", 0.0)
    hall.ask(ANN_PIPE, ANN, Kind.SUBMIT, Submit([spec]))
    ear.ask(sequence=2)  # a late copy: it waits in its slot until the interval is over
    assert hall.state._feed._all[ANN, 1].ticket == Ticket(5, 2)
    hall.ask(ANN_PIPE, ANN, Kind.POLL, Poll(0), slot=5, sequence=3)
    assert hall.state._feed._all[ANN, 1].ticket is None


def test_a_session_that_ends_leaves_no_subscription_behind() -> None:
    hall = open_hall()
    Ear(hall).ask()
    assert len(hall.state._feed) == 1
    hall.ask(ANN_PIPE, ANN, Kind.BYE, Nothing(), slot=15)
    assert len(hall.state._feed) == 0
    hall.hello(EVE_PIPE, EVE, Role.CLIENT)
    hall.ask(EVE_PIPE, EVE, Kind.EVENTS, encode(EventsAsked(1)))
    assert len(hall.state._feed) == 1
    hall.pass_time(100.0)
    assert len(hall.state._feed) == 0


def test_a_store_that_fails_tells_nothing_until_it_has_it() -> None:
    hall = open_hall()
    hall.ask(ANN_PIPE, ANN, Kind.SUBMIT, Submit([TaskSpec("a1", "add", 2, 1, b"()", 0.0)]))
    ear = Ear(hall)
    hall.sent.clear()
    ear.ask()
    obey = hall.obey

    def fail(command: Any) -> None:
        if isinstance(command, AppendRecords):
            hall.handle(RecordsFailed(command.batch, "no space"))
        else:
            obey(command)

    hall.obey = fail  # type: ignore[method-assign]
    hall.ask(BOB_PIPE, BOB, Kind.LEASE, Lease(0, {"thread": 1}))
    assert ear.heard() == []
    hall.obey = obey  # type: ignore[method-assign]
    hall.handle(StoreRecovered())
    hall.handle(Flush())
    assert ear.heard() == [("a1", "LEASED")]


@pytest.mark.parametrize(
    "body",
    [
        [1, 0, [], 0],  # keeps nothing
        [1, 0, [], MAX_KEPT_EVENTS + 1],
        [1, 0, [], 1, -1],
        [1, 0, [], 1, 10**9],
        [1, 0, [], 1, float("nan")],
        [-1],
        [1, 0, [[99]]],
        [1, 0, [[], ["x"] * 1_001]],
        [1, 0, [[], [""]]],
        [1, 0, [[], [], "w" * 300]],
        [1, 0, [[], [], "", [], [7]]],
    ],
)
def test_a_body_that_is_no_question_is_refused(body: list[object]) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_body(EventsAsked, msgspec.msgpack.encode(body))


def test_an_end_tells_who_ran_it_and_how_it_failed() -> None:
    feed = Feed(EPOCH)
    ended = StoredTask(
        7,
        TaskSpec("t7", "add", 2, 1, b"()", 5.0),
        StoredState.FAILURE,
        StoredLife(worker="w0"),
        9.0,
        TaskEvent("t7", WireStatus.FAILURE, error="ValueError: x", worker_id="w1", attempts=2),
    )
    a_listener(feed, filter=EventFilter(worker="w1"))
    (told,) = publish(feed, ended)
    (row,) = told.reply.events
    assert (row.worker, row.error, row.attempts) == ("w1", "ValueError: x", 2)
    assert (row.created, row.changed, row.sequence) == (5.0, 9.0, 7)
