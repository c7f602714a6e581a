"""Attempts that wait for others lend their slots, so that those find a place to run."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import trio

from fastworker._lanes._abc import OUTCOME_CANCELLED, OUTCOME_SUCCESS, AttemptKey
from fastworker._lanes._context import progress, waiting_for_others
from tests.lanes.lane_world import GUARD, KINDS, Gate, World, open_world

pytestmark = pytest.mark.trio


async def joined(thread: threading.Thread) -> bool:
    await trio.to_thread.run_sync(thread.join, GUARD)
    return not thread.is_alive()


async def test_with_one_slot_a_parent_waits_for_a_child_that_waits_five_deep(
    world: World,
) -> None:
    token = trio.lowlevel.current_trio_token()
    gates = [world.gate() for _ in range(6)]
    ended: list[int] = []

    def submit(depth: int) -> AttemptKey:
        def close() -> int:
            ended.append(depth)
            gates[depth].open()
            return depth

        if depth == 5:
            return world.submit(world.function(close))

        def ask() -> None:
            token.run_sync_soon(submit, depth + 1)

        return world.submit(world.lending(gates[depth + 1], ask=ask, body=close))

    end = await world.end_of(submit(0))
    assert (end.kind, end.payload) == (OUTCOME_SUCCESS, b"0")
    assert ended == [5, 4, 3, 2, 1, 0]


@pytest.mark.parametrize("kind", KINDS)
async def test_two_hundred_parents_find_places_for_their_children_in_two_slots(
    kind: str,
) -> None:
    async with open_world(kind, slots=2) as world:
        token = trio.lowlevel.current_trio_token()
        threads: set[threading.Thread] = set()

        def parent() -> Callable[..., Any]:
            gate = world.gate()

            def child() -> None:
                threads.add(threading.current_thread())
                gate.open()

            def submit() -> None:
                world.submit(world.function(child))

            def ask() -> None:
                threads.add(threading.current_thread())
                token.run_sync_soon(submit)

            return world.lending(gate, ask=ask)

        world.submit_many([parent() for _ in range(200)])
        await world.receive_until(lambda: len(world.ended) == 400)
        assert {end.kind for end in world.ended.values()} == {OUTCOME_SUCCESS}
        if kind == "thread":
            # Two attempts hold the threads that stay. All others end.
            gate, staying = world.gate(), list[threading.Thread]()
            world.submit_many([holding_thread(gate, staying)] * 2)
            await world.receive_until(lambda: len(world.progressed) == 2)
            for thread in threads - set(staying):
                assert await joined(thread), "an extra thread lives on"
            gate.open()
            await world.all_accounted_for()


def holding_thread(gate: Gate, threads: list[threading.Thread]) -> Callable[[], None]:
    def hold() -> None:
        threads.append(threading.current_thread())
        progress(1)  # its start was told before it was in here
        gate.wait_in_thread()

    return hold


async def test_when_a_parent_goes_on_its_slot_is_lent_no_more(world: World) -> None:
    """S16: nothing new starts until one of the two has ended, however much there is."""
    child_ends, parent_ends, parent_resumes = world.gate(), world.gate(), world.gate()
    threads: list[threading.Thread] = []
    parent = world.submit(world.lending(parent_resumes, then=parent_ends))
    await world.pause_of(parent)
    if world.kind == "thread":
        child = world.submit(holding_thread(child_ends, threads))
        await world.receive_until(lambda: len(world.progressed) == 1)
    else:
        child = world.submit(world.holding(child_ends))
        await world.start_of(child)
    last = world.submit_many([world.function(lambda: None)] * 3)
    parent_resumes.open()
    await world.resumption_of(parent)
    child_ends.open()
    await world.end_of(child)
    if threads:
        assert await joined(threads[0]), "it went on to the next attempt"
    assert not set(last) & set(world.started)
    parent_ends.open()
    await world.all_accounted_for()
    assert list(world.ended) == [child, parent, *last]


async def test_of_several_waits_at_once_the_first_and_the_last_count(world: World) -> None:
    def wait_thrice() -> None:
        with waiting_for_others(), waiting_for_others(), waiting_for_others():
            pass
        with waiting_for_others():
            pass

    # That it is told in turn, and of the start first, is the referee's to see.
    key = world.submit(world.function(wait_thrice))
    await world.end_of(key)
    assert key in world.lent
    assert world.waiting == set()


async def test_an_attempt_that_ends_and_waits_still_has_its_slot_back(world: World) -> None:
    """Its own thread may be waiting, say; nobody else is to pay for that."""
    left_open: list[AbstractContextManager[None]] = []

    def leave_it_open() -> None:
        waiting = waiting_for_others()
        waiting.__enter__()
        left_open.append(waiting)

    for _ in range(3):
        await world.outcome(world.function(leave_it_open))
    assert world.lane._lent == 0  # type: ignore[attr-defined]
    for waiting in left_open:
        waiting.__exit__(None, None, None)  # which is told to nobody any more
    assert world.lane._lent == 0  # type: ignore[attr-defined]
    assert await world.result(world.function(lambda: "next")) == "next"


async def test_what_is_said_after_the_end_is_told_to_nobody(world: World) -> None:
    contexts: list[contextvars.Context] = []
    await world.outcome(world.function(lambda: contexts.append(contextvars.copy_context())))
    contexts[0].run(progress, 0.5)
    await world.outcome(world.function(lambda: None))
    assert world.progressed == []


async def test_an_attempt_that_waits_is_cancelled(world: World) -> None:
    gate = world.gate()
    key = world.submit(world.lending(gate, body=check_nothing))
    await world.pause_of(key)
    world.lane.cancel(key)
    if world.kind == "thread":
        gate.open()
    end = await world.end_of(key)
    assert end.kind == (OUTCOME_SUCCESS if world.kind == "thread" else OUTCOME_CANCELLED)
    assert world.waiting == set()
    assert await world.result(world.function(lambda: "next")) == "next"


def check_nothing() -> None:
    """A ``def`` function that does not ask is not stopped."""


async def test_a_lane_closes_while_an_attempt_waits(world: World) -> None:
    gate = world.gate()
    key = world.submit(world.lending(gate))
    await world.pause_of(key)
    await world.finish()
    assert world.lane.join(0)
    assert key in world.ended


async def test_outside_of_a_task_to_wait_for_others_means_nothing() -> None:
    with waiting_for_others():
        pass


async def test_without_a_thread_to_lend_an_attempt_waits_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """R4: the machine has no more threads; user code is not to see that."""
    async with open_world("thread") as world:
        gate = world.gate()
        start = threading.Thread.start

        def refuse(thread: threading.Thread) -> None:
            if thread.name.startswith("fastworker-"):
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", refuse)
        key = world.submit(world.lending(gate))
        await world.pause_of(key)
        gate.open()
        assert (await world.end_of(key)).kind == OUTCOME_SUCCESS
        monkeypatch.undo()
        assert await world.result(lambda: "next") == "next"
        assert world.lane.join(0) is False
