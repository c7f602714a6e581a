"""What operators ask of a running control plane, through the shells."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from fastworker import Client, ControlPlaneUnreachable, TaskResult
from fastworker._core import _live_functions
from fastworker._core._messages import CallbackPhase, CallbacksAsked, CallbackView
from fastworker._outcomes import Absence
from fastworker._registry import Registry
from tests.shell.callback_listener import HERE, NOWHERE, listening
from tests.shell.world import open_world, settle

pytestmark = pytest.mark.trio


async def test_the_task_functions_of_live_workers_are_listed(autojump_clock: MockClock) -> None:
    async with open_world(workers=2) as world, world.client() as client:
        functions = await client.list_task_functions()
        names = [function.name for function in functions]
        assert names == sorted(world.registry.names())
        add = next(function for function in functions if function.name == "add")
        assert add.signature == "(a: int, b: int) -> int"
        assert (add.workers, add.worker_count) == (("w1", "w2"), 2)
        assert (add.lane, add.on_lost) == ("thread", "retry")
        wait = next(function for function in functions if function.name == "wait")
        assert wait.doc == "Run until :meth:`let_go`."


async def test_what_only_a_lost_worker_knew_is_not_listed(autojump_clock: MockClock) -> None:
    async with open_world(workers=0) as world, world.client() as client:
        assert await client.list_task_functions() == []
        special = Registry()
        special.register(world.add, name="special")
        worker = await world.start_worker("w9", registry=special)
        assert [f.name for f in await client.list_task_functions()] == ["special"]
        worker.stop()
        await settle()
        assert await client.list_task_functions() == []


async def test_pages_are_put_together(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_live_functions, "PAGE", 3)
    async with open_world() as world, world.client() as client:
        functions = await client.list_task_functions()
        assert [function.name for function in functions] == world.registry.names()


@pytest.mark.parametrize("question", ["functions", "callbacks"])
async def test_no_answer_within_the_timeout_raises_and_the_next_question_is_answered(
    autojump_clock: MockClock, question: str
) -> None:
    async def ask(client: Client) -> object:
        if question == "functions":
            return await client.list_task_functions()
        return await client._operations.list_callbacks(CallbacksAsked())

    async with open_world() as world, world.client(timeout=3) as client:
        world.network.partition(world.plane.base_address)
        before = trio.current_time()
        with pytest.raises(ControlPlaneUnreachable, match="no answer within 3 s"):
            await ask(client)
        assert trio.current_time() - before == 3
        world.network.heal(world.plane.base_address)
        assert await ask(client)


async def list_callbacks(client: Client, *phases: CallbackPhase) -> list[CallbackView]:
    return (await client._operations.list_callbacks(CallbacksAsked(list(phases)))).callbacks


async def test_a_callback_is_seen_waiting_and_then_parked(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:
        task_id = await client.delay_with_callback("add", NOWHERE, 1, 2)
        await trio.sleep(30)
        (view,) = await list_callbacks(client)
        assert (view.phase, view.task_id) == (CallbackPhase.RETRYING, task_id)
        assert view.address == NOWHERE
        assert view.tries >= 1
        assert view.error
        await trio.sleep(3600)
        (parked,) = await list_callbacks(client, CallbackPhase.PARKED)
        assert (parked.event_id, parked.tries) == (view.event_id, 10)
        assert parked.error
        assert await list_callbacks(client, CallbackPhase.QUEUED) == []


async def test_what_has_arrived_is_only_counted(autojump_clock: MockClock) -> None:
    async with (
        open_world() as world,
        world.client() as client,
        listening(world.network) as listener,
    ):
        await client.delay_with_callback("add", HERE, 1, 2)
        await settle()
        assert len(listener.heard) == 1
        reply = await client._operations.list_callbacks(CallbacksAsked())
        assert (reply.due, reply.delivered, reply.callbacks) == (1, 1, [])


async def test_evicted_and_unknown_are_told_apart(autojump_clock: MockClock) -> None:
    async with open_world(workers=0) as world:
        world.plane.stop()
        await settle()
        await world.start_plane(result_cache_max_size=1)
        await world.start_worker()
        async with world.client() as client:
            first = await client.submit_task("note", (1,))
            second = await client.submit_task("note", (2,))
            assert await client._describe(first.task_id) is Absence.EVICTED
            assert await client._describe("never heard of") is Absence.UNKNOWN
            kept = await client._describe(second.task_id)
            assert isinstance(kept, TaskResult)
