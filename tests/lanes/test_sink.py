"""The sink brings events from any thread into one Trio loop, each exactly once."""

from __future__ import annotations

import threading

import pytest
import trio
import trio.testing

from fastworker._lanes._abc import AttemptKey, AttemptStarted, LaneEvent
from fastworker._lanes._sink import TrioSink
from tests.lanes.lane_world import GUARD

pytestmark = pytest.mark.trio


def event(number: int) -> AttemptStarted:
    return AttemptStarted(AttemptKey("task", 1, number), float(number))


async def test_events_arrive_together_and_in_order() -> None:
    sink = TrioSink()
    for number in range(5):
        sink.post(event(number))

    assert await sink.receive() == [event(number) for number in range(5)]
    assert sink.receive_nowait() == []


async def test_the_reader_sleeps_until_something_comes(nursery: trio.Nursery) -> None:
    sink = TrioSink()
    received: list[LaneEvent] = []

    async def read() -> None:
        received.extend(await sink.receive())

    nursery.start_soon(read)
    await trio.testing.wait_all_tasks_blocked()
    assert received == []
    thread = threading.Thread(target=sink.post, args=(event(1),))
    thread.start()
    with trio.fail_after(GUARD):
        while not received:
            await trio.testing.wait_all_tasks_blocked(0.001)
    thread.join()
    assert received == [event(1)]


async def test_a_wake_up_for_what_was_taken_already_is_no_event() -> None:
    sink = TrioSink()
    sink.post(event(1))
    assert sink.receive_nowait() == [event(1)]

    with trio.move_on_after(0.01) as scope:
        await sink.receive()
    assert scope.cancelled_caught
    sink.post(event(2))
    assert await sink.receive() == [event(2)]


async def test_a_cancelled_receive_has_taken_nothing() -> None:
    sink = TrioSink()
    sink.post(event(1))

    with trio.CancelScope() as scope:
        scope.cancel()
        await sink.receive()
    assert scope.cancelled_caught
    assert await sink.receive() == [event(1)]


async def test_cancelling_while_events_arrive_loses_none() -> None:
    sink = TrioSink()
    total = 2_000
    received: list[LaneEvent] = []

    def post_all() -> None:
        for number in range(total):
            sink.post(event(number))

    thread = threading.Thread(target=post_all)
    thread.start()
    with trio.fail_after(GUARD):
        while len(received) < total:
            with trio.move_on_after(0.0001):
                received += await sink.receive()
    thread.join()
    assert received == [event(number) for number in range(total)]


async def test_many_posters_lose_nothing_and_keep_their_own_order() -> None:
    sink = TrioSink()
    per_thread, count = 500, 4

    def post_all(first: int) -> None:
        for number in range(first, first + per_thread):
            sink.post(event(number))

    threads = [
        threading.Thread(target=post_all, args=(number * per_thread,))
        for number in range(count)
    ]
    for thread in threads:
        thread.start()
    received: list[int] = []
    with trio.fail_after(GUARD):
        while len(received) < per_thread * count:
            received += [each.key.attempt for each in await sink.receive()]
    for thread in threads:
        thread.join()
    for number in range(count):
        own = range(number * per_thread, (number + 1) * per_thread)
        assert [each for each in received if each in own] == list(own)


async def test_a_full_batch_costs_one_wake_up() -> None:
    sink = TrioSink()
    wake_ups = 0
    wake = sink._wake

    def count() -> None:
        nonlocal wake_ups
        wake_ups += 1
        wake()

    sink._wake = count  # type: ignore[method-assign]
    for number in range(1_000):
        sink.post(event(number))
    assert len(await sink.receive()) == 1_000
    await trio.testing.wait_all_tasks_blocked()
    assert wake_ups == 1


async def test_posting_after_the_loop_has_ended_is_dropped() -> None:
    async def make() -> TrioSink:
        return TrioSink()

    sink = await trio.to_thread.run_sync(trio.run, make)
    for number in range(3):
        sink.post(event(number))
    assert sink.receive_nowait() == []
