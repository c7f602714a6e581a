"""The callbacks' machine in conversations: what happens, and what it wants done then."""

from __future__ import annotations

import json
import random
from typing import Any

import msgspec
import pytest

from fastworker._core._callback_events import (
    CallbackCommand,
    CallbackDue,
    Deliver,
    DeliveryEnded,
    Disconnect,
    Settled,
)
from fastworker._core._callbacks import CallbackLimits, CallbackState, CallbackStatistics
from fastworker._core._codec import decode_body, encode
from fastworker._core._messages import Callback, Submit, TaskEvent, TaskSpec, WireStatus
from fastworker._core._pipes import DeadlinePassed
from fastworker._core._task_states import TaskRecord, content_digest

A, B, C = "tcp://a:1", "tcp://b:2", "tcp://c:3"


class Talk:
    """A machine, a clock, and short words for what happens."""

    def __init__(self, seed: int = 0, **limits: Any) -> None:
        self.state = CallbackState(rng=random.Random(seed), limits=CallbackLimits(**limits))
        self.now = 0.0
        self.settled: list[str] = []

    def due(self, task_id: str, address: str = A, size: int = 0) -> list[Any]:
        event = TaskEvent(task_id, WireStatus.SUCCESS, 1, b'"' + b"x" * size + b'"')
        return self._handle(CallbackDue(Callback(address, f"event of {task_id}"), event))

    def arrived(self, count: int = 1, address: str = A) -> list[Any]:
        return self._handle(DeliveryEnded(address, count))

    def failed(
        self, address: str = A, error: str = "nobody there", after: int = 0
    ) -> list[Any]:
        return self._handle(DeliveryEnded(address, after, error))

    def next_deadline(self) -> list[Any]:
        """Let time pass until something is due."""
        self.now = self.state.next_deadline()
        commands = self._handle(DeadlinePassed())
        assert self.state.next_deadline() > self.now
        return commands

    def statistics(self) -> CallbackStatistics:
        return self.state.statistics()

    def _handle(self, event: Any) -> list[Any]:
        commands = self.state.handle(event, now=self.now)
        self.state.check()
        for command in commands:
            if isinstance(command, Settled):
                self.settled += command.task_ids
        told = self.statistics()
        assert len(self.settled) == told.delivered + told.dropped, "the store has to know"
        return [shown(each) for each in commands if not isinstance(each, Settled)]


def shown(command: CallbackCommand) -> Any:
    match command:
        case Deliver(address=address, payloads=payloads):
            return address, [json.loads(payload)["task_id"] for payload in payloads]
        case Disconnect(address=address):
            return "disconnect", address


def test_a_callback_is_delivered_at_once() -> None:
    talk = Talk()
    assert talk.due("t1") == [(A, ["t1"])]
    assert talk.arrived() == []
    assert talk.statistics() == CallbackStatistics(due=1, delivered=1, connections=1)


def test_what_comes_while_a_delivery_is_under_way_goes_together_and_in_order() -> None:
    talk = Talk()
    talk.due("t1")
    for task_id in ("t2", "t3", "t4"):
        assert talk.due(task_id) == []
    assert talk.arrived() == [(A, ["t2", "t3", "t4"])]
    assert talk.due("t5") == []
    assert talk.arrived(3) == [(A, ["t5"])]


def test_a_batch_is_cut_by_count_and_by_bytes_but_never_empty() -> None:
    talk = Talk(batch=2)
    for number in range(5):
        talk.due(f"t{number}")
    assert talk.arrived() == [(A, ["t1", "t2"])]
    assert talk.arrived(2) == [(A, ["t3", "t4"])]

    talk = Talk(batch_bytes=5_000)
    for number in range(4):
        talk.due(f"t{number}", size=3_000 if number < 3 else 9_000)
    assert talk.arrived() == [(A, ["t1"])]
    assert talk.arrived() == [(A, ["t2"])]
    assert talk.arrived() == [(A, ["t3"])]


def test_an_idle_connection_is_closed_after_ten_seconds() -> None:
    talk = Talk()
    talk.due("t1")
    talk.now = 5.0
    talk.arrived()
    assert talk.state.next_deadline() == 15.0
    assert talk.next_deadline() == [("disconnect", A)]
    assert talk.statistics().connections == 0
    assert talk.state.next_deadline() == float("inf")


def test_work_keeps_a_connection_open() -> None:
    talk = Talk()
    talk.due("t1")
    talk.arrived()
    talk.now = 9.0
    assert talk.due("t2") == [(A, ["t2"])]
    assert talk.state.next_deadline() == float("inf")
    talk.arrived()
    assert talk.state.next_deadline() == 19.0


def test_a_failure_is_tried_again_after_a_backoff_that_doubles_up_to_a_minute() -> None:
    talk = Talk()
    talk.due("t1")
    waits = []
    for number in range(1, 10):
        assert talk.failed() == [("disconnect", A)]
        waits.append(talk.state.next_deadline() - talk.now)
        assert talk.next_deadline() == [(A, ["t1"])]
        assert talk.statistics().failed_deliveries == number
    longest = [0.5, 1, 2, 4, 8, 16, 32, 60, 60]
    for wait, most in zip(waits, longest, strict=True):
        assert most / 2 <= wait <= most


def test_the_jitter_comes_from_the_seed() -> None:
    def waits(seed: int) -> float:
        talk = Talk(seed)
        talk.due("t1")
        talk.failed()
        return talk.state.next_deadline()

    assert waits(1) == waits(1) != waits(2)


def test_every_try_has_the_same_event_id_and_counts_itself() -> None:
    talk = Talk()
    event = TaskEvent("t1", WireStatus.FAILURE, error="no luck")
    due = CallbackDue(Callback(A, "event of t1"), event)
    [command] = talk.state.handle(due, now=0.0)
    for number in range(1, 4):
        assert isinstance(command, Deliver)
        [payload] = map(json.loads, command.payloads)
        assert (payload["event_id"], payload["delivery"]) == ("event of t1", number)
        talk.failed()
        talk.now = talk.state.next_deadline()
        [command] = talk.state.handle(DeadlinePassed(), now=talk.now)


def test_after_ten_tries_it_is_parked_and_shown_and_the_next_one_has_its_turn() -> None:
    talk = Talk()
    talk.due("t1")
    talk.due("t2")
    for _ in range(9):
        talk.failed()
        assert talk.next_deadline() == [(A, ["t1"])]
    talk.failed(error="nobody there at all")
    statistics = talk.statistics()
    assert (statistics.parked, statistics.queued, statistics.delivered) == (1, 1, 0)
    [parked] = statistics.parked_callbacks
    assert (parked.task_id, parked.event_id) == ("t1", "event of t1")
    assert (parked.address, parked.tries, parked.error) == (A, 10, "nobody there at all")
    assert talk.next_deadline() == [(A, ["t2"])]


def test_the_last_one_parked_leaves_nothing_of_its_address_behind() -> None:
    talk = Talk()
    talk.due("t1")
    for _ in range(9):
        talk.failed()
        talk.next_deadline()
    assert talk.failed() == [("disconnect", A)]
    assert talk.state.next_deadline() == float("inf")
    assert talk.due("t2") == [(A, ["t2"])]


def test_a_dead_address_delays_nothing_else() -> None:
    talk = Talk()
    assert talk.due("t1", A) == [(A, ["t1"])]
    assert talk.due("t2", B) == [(B, ["t2"])]
    talk.failed(A)
    assert talk.due("t3", A) == []
    assert talk.due("t4", B) == []
    assert talk.arrived(address=B) == [(B, ["t4"])]


def test_after_a_failure_the_first_goes_alone_until_something_arrives() -> None:
    talk = Talk()
    talk.due("t1")
    talk.arrived()
    talk.due("t2")
    for task_id in ("t3", "t4", "t5"):
        talk.due(task_id)
    assert talk.arrived() == [(A, ["t3", "t4", "t5"])]
    talk.failed()
    assert talk.next_deadline() == [(A, ["t3"])]
    assert talk.arrived() == [(A, ["t4", "t5"])]


def test_only_the_first_of_a_batch_uses_up_a_try() -> None:
    talk = Talk()
    talk.due("t1")
    for number in range(2, 31):
        talk.due(f"t{number}")
    for number in range(1, 30):
        talk.failed()
        assert talk.next_deadline() == [(A, [f"t{number}"])]
        talk.arrived()
    assert talk.statistics().parked == 0
    assert talk.statistics().delivered == 29


def test_what_arrived_before_a_failure_is_not_sent_again() -> None:
    talk = Talk()
    talk.due("t1")
    for task_id in ("t2", "t3", "t4"):
        talk.due(task_id)
    talk.arrived()
    assert talk.failed(after=2) == [("disconnect", A)]
    assert talk.statistics().delivered == 3
    assert talk.next_deadline() == [(A, ["t4"])]


def test_a_full_queue_parks_what_comes_and_keeps_what_it_has() -> None:
    talk = Talk(address_queue=2)
    for task_id in ("t1", "t2", "t3"):
        talk.due(task_id)
    assert talk.statistics().queued == 2
    [parked] = talk.statistics().parked_callbacks
    assert (parked.task_id, parked.tries) == ("t3", 0)
    assert parked.error == "2 others wait for this address already"
    assert talk.due("t4", B) == [(B, ["t4"])]


def test_one_address_may_hold_so_many_bytes_and_always_one_callback() -> None:
    talk = Talk(address_bytes=10_000)
    assert talk.due("huge", size=50_000) == [(A, ["huge"])]
    talk.due("t2")
    assert talk.statistics().parked == 1


def test_all_addresses_together_are_bounded_by_count_and_bytes() -> None:
    talk = Talk(queue=2)
    for number, address in enumerate((A, B, C)):
        talk.due(f"t{number}", address)
    [parked] = talk.statistics().parked_callbacks
    assert (parked.address, parked.error) == (C, "2 other callbacks wait already")

    talk = Talk(queue_bytes=10_000)
    talk.due("t1", A, size=9_000)
    talk.due("t2", B, size=2_000)
    assert talk.statistics().parked == 1


def test_parked_ones_are_kept_up_to_a_count_and_the_oldest_go_first() -> None:
    talk = Talk(address_queue=1, parked=3)
    for number in range(10):
        talk.due(f"t{number}")
    statistics = talk.statistics()
    assert [parked.task_id for parked in statistics.parked_callbacks] == ["t7", "t8", "t9"]
    assert (statistics.due, statistics.parked, statistics.dropped) == (10, 3, 6)


def test_parked_ones_are_kept_up_to_some_bytes() -> None:
    talk = Talk(address_queue=1, parked_bytes=2_000)
    for number in range(100):
        talk.due(f"t{number}")
    statistics = talk.statistics()
    assert 0 < sum(parked.size for parked in statistics.parked_callbacks) <= 2_000
    assert statistics.parked + statistics.dropped == 99


def test_with_all_connections_in_use_addresses_take_turns() -> None:
    talk = Talk(connections=1)
    assert talk.due("a1", A) == [(A, ["a1"])]
    assert talk.due("b1", B) == []
    assert talk.due("a2", A) == []
    assert talk.due("c1", C) == []
    assert talk.arrived(address=A) == [("disconnect", A), (B, ["b1"])]
    assert talk.arrived(address=B) == [("disconnect", B), (C, ["c1"])]
    assert talk.failed(C) == [("disconnect", C), (A, ["a2"])]


def test_an_idle_connection_gives_way_to_an_address_with_work() -> None:
    talk = Talk(connections=2)
    talk.due("a1", A)
    talk.due("b1", B)
    talk.arrived(address=B)
    talk.arrived(address=A)
    assert talk.due("c1", C) == [("disconnect", B), (C, ["c1"])]
    assert talk.statistics().connections == 2


def test_a_backoff_holds_no_connection() -> None:
    talk = Talk(connections=1)
    talk.due("a1", A)
    talk.due("b1", B)
    assert talk.failed(A) == [("disconnect", A), (B, ["b1"])]
    assert talk.next_deadline() == []
    assert talk.arrived(address=B) == [("disconnect", B), (A, ["a1"])]


def test_it_is_busy_while_anything_could_arrive_without_a_pause() -> None:
    talk = Talk(connections=1)
    assert not talk.state.is_busy
    talk.due("a1", A)
    talk.due("b1", B)
    assert talk.state.is_busy
    talk.failed(A)
    assert talk.state.is_busy
    talk.arrived(address=B)
    assert not talk.state.is_busy
    assert talk.statistics().queued == 1


@pytest.mark.parametrize("delivered", [-1, 2])
def test_a_report_of_what_was_not_under_way_is_our_own_error(delivered: int) -> None:
    talk = Talk()
    talk.due("t1")
    with pytest.raises(AssertionError):
        talk.arrived(delivered)


# --- as a part of a task ---


def a_spec(callback: Callback | None) -> TaskSpec:
    return TaskSpec("t1", "add", 2, 1, b"[[1,2],{}]", 1.0, callback=callback)


@pytest.mark.parametrize(
    "other",
    [None, Callback(B, "e1", b"{}"), Callback(A, "e1", b"null")],
    ids=str,
)
def test_another_callback_makes_another_task(other: Callback | None) -> None:
    spec = a_spec(Callback(A, "e1", b"{}"))
    record = TaskRecord(spec, 1, None)
    assert record.has_content(a_spec(Callback(A, "e1", b"{}")))
    assert content_digest(spec) == content_digest(a_spec(Callback(A, "e1", b"{}")))
    # Each call makes an event of its own, also to submit the same task again.
    assert record.has_content(a_spec(Callback(A, "e2", b"{}")))
    assert not record.has_content(a_spec(other))
    assert content_digest(spec) != content_digest(a_spec(other))


def test_a_task_weighs_at_least_what_its_bytes_do() -> None:
    callback = Callback("tcp://" + "h" * 200 + ":1", "e" * 256, b"1" * 1_000)
    for spec in (a_spec(None), a_spec(callback)):
        assert len(encode(Submit([spec]))) <= spec.size + 50


def test_a_peer_that_knows_no_callbacks_is_understood() -> None:
    old = msgspec.msgpack.encode([[["t1", "add", 2, 1, b"[[1,2],{}]", 1.0, False]], True])
    assert decode_body(Submit, old).tasks == [a_spec(None)]
