"""Hearing of changes of tasks while they happen: ``client.events()``."""

from __future__ import annotations

from datetime import UTC
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from fastworker import (
    Client,
    ClientClosed,
    ControlPlaneUnreachable,
    LinkBroken,
    LocalProtocolError,
    TaskChange,
    TaskPriority,
    TaskStatus,
)
from fastworker._core import _feed
from fastworker._core._messages import Kind
from tests.kept_store import KeptStore
from tests.shell.cancel_steps import TRIO_SWEEP, assert_idle, cancelled_at, sweep
from tests.shell.world import BASE, World, open_world, settle

pytestmark = pytest.mark.trio


async def hears_nothing(events: Any) -> bool:
    with trio.move_on_after(1):
        changes = await events.read()
        assert changes == []
        return False
    return True


def count_listeners(world: World) -> int:
    assert world.plane._state is not None
    return len(world.plane._state._feed)


# --- what is told ---------------------------------------------------------------


async def test_the_life_of_a_task_is_told_as_it_happens(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:
        async with client.events(min_interval=0) as events:
            task_id = await client.delay("wait", "x", priority="high")
            told: list[TaskChange] = []
            async for change in events:
                told.append(change)
                if change.status is TaskStatus.STARTED:
                    world.let_go("x")
                if change.status.is_terminal:
                    break
        assert {change.task_id for change in told} == {task_id}
        assert {change.priority for change in told} == {TaskPriority.HIGH}
        assert [change.state for change in told] == ["leased", "started", "success"]
        last = told[-1]
        assert (last.name, last.status, last.worker_id, last.attempts) == (
            "wait",
            TaskStatus.SUCCESS,
            "w1",
            1,
        )
        assert last.created_at.tzinfo is UTC
        assert last.started_at is not None
        assert (last.number, last.error, last.cancel_requested) == (1, None, False)
        assert (events.dropped, events.interruptions) == (0, 0)


async def test_everybody_hears_of_the_tasks_of_all_clients(autojump_clock: MockClock) -> None:
    async with (
        open_world() as world,
        world.client() as mine,
        world.client() as other,
        mine.events() as first,
        mine.events() as second,
    ):
        await other.submit_task("fail", ("no luck",))
        for events in (first, second):
            (change,) = [c for c in await read_ends(events, 1) if c.status.is_terminal]
            assert change.status is TaskStatus.FAILURE
            assert change.error is not None
            assert "no luck" in change.error


async def read_ends(events: Any, count: int) -> list[TaskChange]:
    ends: list[TaskChange] = []
    while len(ends) < count:
        ends += [change for change in await events.read() if change.status.is_terminal]
    return ends


async def test_whatever_changes_once_the_block_is_entered_is_told(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client:
        await client.submit_task("note", ("before",))
        async with client.events(statuses="success") as events:
            ids = [(await client.submit_task("note", (n,))).task_id for n in range(3)]
            await trio.sleep(100)
            told: list[str] = []
            while len(told) < 3:
                told += [change.task_id for change in await events.read()]
            assert told == ids


@pytest.mark.parametrize(
    ("wanted", "heard"),
    [
        ({"statuses": ["failure", TaskStatus.SUCCESS]}, ["note", "fail", "add"]),
        ({"statuses": TaskStatus.FAILURE}, ["fail"]),
        ({"statuses": "success", "names": ["note", "fail"]}, ["note"]),
        ({"statuses": "success", "names": "add"}, ["add"]),
        ({"statuses": "success", "priorities": "low"}, ["add"]),
        ({"statuses": "success", "priorities": [2, TaskPriority.HIGH]}, ["note"]),
        ({"statuses": "success", "worker": "w1"}, ["note", "add"]),
        ({"statuses": "success", "worker": "w2"}, []),
        ({"statuses": "success", "task_ids": ["nobody's"]}, []),
    ],
)
async def test_only_what_was_asked_for_is_told(
    wanted: dict[str, Any], heard: list[str], autojump_clock: MockClock
) -> None:
    async with (
        open_world() as world,
        world.client() as client,
        client.events(**wanted) as events,
    ):
        await client.submit_task("note", (1,))
        await client.submit_task("fail")
        await client.submit_task("add", (1, 2), priority="low")
        await trio.sleep(1)
        if heard:
            assert await names_of(events, len(heard)) == heard
        assert await hears_nothing(events)


async def test_a_task_function_and_a_task_id_choose_too(autojump_clock: MockClock) -> None:
    async with (
        open_world() as world,
        world.client() as client,
        client.events(names=world.note, statuses="success") as by_name,
        client.events(task_ids="mine", statuses="success") as by_id,
    ):
        await client.submit_task("add", (1, 2))
        await client.options(task_id="mine").submit_task("note", (1,))
        assert [change.task_id for change in await by_name.read()] == ["mine"]
        assert [change.task_id for change in await by_id.read()] == ["mine"]


async def test_a_cancelled_task_tells_that_it_is_to_stop(autojump_clock: MockClock) -> None:
    async with (
        open_world() as world,
        world.client() as client,
        client.events(min_interval=0) as events,
    ):
        task_id = await client.delay("wait", "x")
        await settle()
        await client.cancel(task_id)
        (end,) = await read_ends(events, 1)
        assert end.status is TaskStatus.CANCELLED


async def names_of(events: Any, count: int) -> list[str]:
    names: list[str] = []
    while len(names) < count:
        names += [change.name for change in await events.read()]
    return names


# --- in bounds -------------------------------------------------------------------


async def test_of_what_is_not_read_in_time_the_oldest_is_dropped_and_counted(
    autojump_clock: MockClock,
) -> None:
    async with (
        open_world() as world,
        world.client() as client,
        client.events(max_buffered=3, statuses="success") as events,
    ):
        for number in range(10):
            await client.options(task_id=f"t{number}").submit_task("note", (number,))
        assert events.dropped == 0
        assert [c.task_id for c in await events.read()] == ["t0"], "it was on its way"
        assert [c.task_id for c in await events.read()] == ["t7", "t8", "t9"]
        assert events.dropped == 6


async def test_a_fast_load_costs_a_few_frames_a_second(autojump_clock: MockClock) -> None:
    async with (
        open_world() as world,
        world.client() as client,
        client.events(min_interval=0.5, statuses="success") as events,
    ):
        asked: list[Kind] = []
        state = world.plane._state
        assert state is not None
        execute = state._execute

        def count(session: Any, request: Any, *rest: Any) -> None:
            asked.append(request.kind)
            execute(session, request, *rest)

        state._execute = count  # type: ignore[method-assign]
        told: list[TaskChange] = []
        with trio.move_on_after(10):
            async with trio.open_nursery() as nursery:

                async def load() -> None:
                    for number in range(200):
                        await client.submit_task("note", (number,))
                        await trio.sleep(0.04)

                nursery.start_soon(load)
                async for change in events:
                    told.append(change)
        assert len(told) == 200
        assert 15 <= asked.count(Kind.EVENTS) <= 22
        assert events.dropped == 0


async def test_a_slow_reader_holds_up_nobody(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client, client.events() as events:
        began = trio.current_time()
        for number in range(100):
            await client.submit_task("note", (number,))
        assert trio.current_time() - began < 5
        assert await events.read()


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"statuses": "done"}, "status 'done': use a TaskStatus, or 'pending'"),
        ({"statuses": ["failure", 7]}, "status 7"),
        ({"names": [""]}, "names: ''"),
        ({"worker": "w" * 300}, "worker: 'www"),
        ({"task_ids": [f"t{n}" for n in range(1_001)]}, "1,001 are too many"),
        ({"priorities": "urgent"}, "priority 'urgent'"),
        ({"max_buffered": 0}, "max_buffered=0: use 1 to 10,000"),
        ({"min_interval": -1}, "min_interval=-1: use 0 to 60 seconds"),
        ({"min_interval": float("nan")}, "min_interval=nan"),
    ],
)
async def test_what_cannot_be_asked_for_is_said_at_once(
    wanted: dict[str, Any], said: str, autojump_clock: MockClock
) -> None:
    async with open_world() as world, world.client() as client:
        with pytest.raises(ValueError, match=r"use|too many") as caught:
            client.events(**wanted)
        assert said in str(caught.value)


async def test_a_client_has_four_streams_and_then_one_more_once_one_is_left(
    autojump_clock: MockClock,
) -> None:
    async with (
        open_world() as world,
        world.client() as client,
        client.events(),
        client.events(),
        client.events(),
    ):
        async with client.events():
            with pytest.raises(LocalProtocolError, match="4 streams of events"):
                async with client.events():
                    pass
            assert (await client.submit_task("add", (1, 2))).result == 3
            assert len(await client.list_task_functions()) > 1
        async with client.events() as events:
            await client.submit_task("note", (1,))
            assert await events.read()


async def test_streams_that_come_and_go_leave_room_for_questions(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client:

        async def come_and_go() -> None:
            for _ in range(20):
                async with client.events() as events:
                    with trio.move_on_after(0.01):
                        await events.read()

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(come_and_go)
            for _ in range(20):
                await client.list_task_functions()
        await settle()
        assert count_listeners(world) == 0
        assert_idle(world, client)


async def test_too_many_listeners_are_told_so(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_feed, "MAX_SUBSCRIPTIONS", 1)
    async with open_world() as world, world.client() as one, world.client() as two:
        async with one.events():
            with pytest.raises(LinkBroken, match="1 streams of events of all clients"):
                async with two.events():
                    pass
        await settle()
        async with two.events():
            pass


# --- in trouble --------------------------------------------------------------------


async def test_a_lost_connection_loses_no_change(autojump_clock: MockClock) -> None:
    async with (
        open_world() as world,
        world.client() as client,
        world.client() as other,
        client.events(statuses="success") as events,
    ):
        await other.submit_task("note", (1,))
        assert len(await events.read()) == 1
        for number in range(5):
            world.network.reset_pipes(BASE)
            await other.submit_task("note", (number,))
        await trio.sleep(2)
        assert len(await names_of(events, 5)) == 5
        assert (events.dropped, events.interruptions) == (0, 0)


async def test_a_control_plane_that_was_started_again_is_an_interruption(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client:
        store = KeptStore()
        with world.restarting():
            await trio.sleep(2)
            await world.start_plane(store=store)
        await trio.sleep(3)
        async with client.events(statuses=["success"]) as events:
            await client.submit_task("note", (1,))
            assert len(await events.read()) == 1
            before = events.interruptions
            async with trio.open_nursery() as nursery:

                async def restart() -> None:
                    await trio.sleep(1)
                    with world.restarting():
                        await trio.sleep(2)
                        await world.start_plane(store=store)

                nursery.start_soon(restart)
                assert await events.read() == [], "an interruption is told at once"
            assert events.interruptions == before + 1
            assert count_listeners(world) == 1
            await trio.sleep(3)
            await client.submit_task("note", (2,))
            assert [change.status for change in await events.read()] == [TaskStatus.SUCCESS]
            assert events.interruptions == before + 1


async def test_an_interruption_ends_no_loop(autojump_clock: MockClock) -> None:
    async with (
        open_world() as world,
        world.client() as client,
        client.events(statuses="success") as events,
    ):
        with world.restarting():
            await trio.sleep(2)
            await world.start_plane()
        await trio.sleep(3)
        await client.submit_task("note", (1,))
        async for change in events:
            assert change.name == "note"
            break
        assert events.interruptions == 1


async def test_who_is_out_of_reach_for_long_hears_of_the_interruption(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client, client.events() as events:
        world.cut_off(BASE)
        await trio.sleep(100)
        assert count_listeners(world) == 0, "it ends with its session"
        world.network.heal(BASE)
        assert await events.read() == []
        assert events.interruptions == 1


async def test_without_a_control_plane_a_block_is_not_entered(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client(timeout=5) as client:
        world.cut_off(BASE)
        with pytest.raises(ControlPlaneUnreachable, match="no answer within 5 s"):
            async with client.events():
                pass
        world.network.heal(BASE)
        await trio.sleep(20)
        assert count_listeners(world) == 0
        assert_idle(world, client)


async def test_a_client_that_stops_ends_its_streams(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        async with (
            world.client() as client,
            client.events() as events,
            trio.open_nursery() as nursery,
        ):

            async def stop() -> None:
                await trio.sleep(1)
                client.stop()

            nursery.start_soon(stop)
            with pytest.raises(ClientClosed):
                await events.read()
        await settle()
        assert count_listeners(world) == 0


async def test_a_block_that_was_left_gives_nothing_more(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:
        async with client.events() as events:
            pass
        with pytest.raises(LocalProtocolError, match="has been left"):
            await events.read()
        with pytest.raises(LocalProtocolError, match="has been left"):
            await events.__anext__()
        await settle()
        assert count_listeners(world) == 0


async def test_a_stream_has_one_reader(autojump_clock: MockClock) -> None:
    async with (
        open_world() as world,
        world.client() as client,
        client.events() as events,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(hears_nothing, events)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(LocalProtocolError, match="has a reader"):
            await events.read()


async def test_a_client_that_is_not_started_has_no_events(autojump_clock: MockClock) -> None:
    client = Client()
    with pytest.raises(ClientClosed):
        async with client.events():
            pass


async def test_a_reader_that_waits_in_short_steps_hears_everything_once(
    autojump_clock: MockClock,
) -> None:
    async with (
        open_world() as world,
        world.client() as client,
        client.events(statuses="success", min_interval=0.05) as events,
    ):
        told: list[int] = []

        async def load() -> None:
            for number in range(100):
                await client.submit_task("note", (number,))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(load)
            while len(told) < 100:
                with trio.move_on_after(0.003):
                    told += [change.number for change in await events.read()]
        assert told == sorted(set(told))


@pytest.mark.slow
@TRIO_SWEEP.covers("Client.events", "EventStream.read", "EventStream.__anext__")
@pytest.mark.parametrize("way", ["read", "iterate"])
async def test_a_reader_that_is_cancelled_at_any_step(
    way: str, autojump_clock: MockClock
) -> None:
    async with open_world() as world, world.client() as client:

        async def attempt(steps: int) -> bool:
            got: list[int] = []

            async def read() -> None:
                async with client.events(statuses="success", min_interval=0) as events:
                    for number in (1, 2):
                        await client.submit_task("note", (number,))
                    while len(got) < 2:
                        if way == "read":
                            got.extend([c.number for c in await events.read()])
                        else:
                            got.append((await events.__anext__()).number)

            was_cancelled, _ = await cancelled_at(steps, read)
            assert got == sorted(set(got))
            assert was_cancelled or len(got) == 2
            await trio.sleep(0.2)
            assert count_listeners(world) == 0
            assert client._usable_session().questions._listeners == 0
            assert_idle(world, client)
            return was_cancelled

        await sweep(attempt)
