"""``delay_with_callback``: what a listener hears, on a network in memory."""

from __future__ import annotations

import base64
import pickle
from datetime import datetime, timedelta

import pytest
import trio
from trio.testing import MockClock

from fastworker import (
    Client,
    TaskStatus,
    UnknownTask,
)
from fastworker._core._client_events import TaskAbandoned
from fastworker._task_function import TaskOptions
from tests.shell.callback_listener import HERE, callbacks, listening
from tests.shell.world import open_world, settle

pytestmark = pytest.mark.trio


async def test_a_listener_hears_of_a_success(autojump_clock: MockClock) -> None:
    async with (
        open_world() as world,
        world.client() as client,
        listening(world.network) as listener,
    ):
        task_id = await client.delay_with_callback(
            "add", HERE, 1, b=2, callback_data={"order": 7}
        )
        await settle()
        [payload] = listener.heard
        result = client.get_result(task_id)
    assert result is not None
    assert result.started_at is not None
    assert result.completed_at is not None
    assert payload == {
        "event_id": payload["event_id"],
        "task_id": task_id,
        "status": "success",
        "result": 3,
        "error": None,
        "started_at": result.started_at.isoformat(),
        "completed_at": result.completed_at.isoformat(),
        "callback_data": {"order": 7},
        "attempts": 1,
        "delivery": 1,
    }
    assert datetime.fromisoformat(payload["completed_at"]).utcoffset() == timedelta(0)


async def test_a_listener_hears_of_a_failure(autojump_clock: MockClock) -> None:
    async with (
        open_world() as world,
        world.client() as client,
        listening(world.network) as listener,
    ):
        await client.delay_with_callback("fail", HERE, "no luck")
        await settle()
        [payload] = listener.heard
    assert payload["status"] == "failure"
    assert payload["error"] == "ValueError: no luck"
    assert payload["result"] is None
    assert payload["callback_data"] is None


async def test_a_listener_hears_of_a_task_that_was_cancelled(
    autojump_clock: MockClock,
) -> None:
    async with (
        open_world() as world,
        world.client() as client,
        listening(world.network) as listener,
    ):
        await client.delay("wait", "first")
        task_id = await client.delay_with_callback("wait", HERE, "second")
        cancel(client, task_id)
        await settle()
        [payload] = listener.heard
    assert (payload["task_id"], payload["status"]) == (task_id, "cancelled")
    assert payload["started_at"] is payload["completed_at"] is None
    assert payload["attempts"] == 0


async def test_a_listener_hears_of_a_task_that_was_lost(autojump_clock: MockClock) -> None:
    async with open_world(workers=0) as world, world.client() as client:
        world.registry.register(world.sleep, name="once", options=TaskOptions(on_lost="fail"))
        await world.start_worker()
        async with listening(world.network) as listener:
            await client.delay_with_callback("once", HERE, "long", 3600)
            await settle()
            world.cut_off(world.plane.management_address)
            await trio.sleep(60)
            [payload] = listener.heard
    assert payload["status"] == "failure"
    assert payload["error"].startswith("lost: ")


async def test_a_task_that_was_never_queued_makes_no_callback(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client:
        async with listening(world.network) as listener:
            with pytest.raises(UnknownTask):
                await client.delay_with_callback("ad", HERE, 1, 2)
            await trio.sleep(60)
            assert listener.heard == []
        assert callbacks(world).due == 0


async def test_a_pickled_result_arrives_as_it_is(autojump_clock: MockClock) -> None:
    async with open_world(workers=0) as world:
        await world.start_worker(serialization_format="pickle")
        async with (
            world.client(serialization_format="pickle") as client,
            listening(world.network) as listener,
        ):
            await client.delay_with_callback(
                "add", HERE, 1, 2j, callback_data={"in": ["plain", "JSON"]}
            )
            await settle()
            [payload] = listener.heard
    assert payload["result"] is None
    assert payload["result_format"] == "pickle"
    assert pickle.loads(base64.b64decode(payload["result_base64"])) == 1 + 2j
    assert payload["callback_data"] == {"in": ["plain", "JSON"]}


async def test_a_function_gets_all_keywords_itself(autojump_clock: MockClock) -> None:
    async with (
        open_world() as world,
        world.client() as client,
        listening(world.network) as listener,
    ):
        await client.delay_with_callback(world.echo, HERE, 1, callback_data=2, priority="low")
        await settle()
        [payload] = listener.heard
    assert payload["result"] == [[1], {"callback_data": 2, "priority": "low"}]
    assert payload["callback_data"] is None


async def test_a_priority_goes_ahead(autojump_clock: MockClock) -> None:
    async with (
        open_world() as world,
        world.client() as client,
        listening(world.network) as listener,
    ):
        await client.delay("wait", "first")
        for priority in ("low", "normal", "critical"):
            await client.delay_with_callback("note", HERE, priority, priority=priority)
        world.let_go("first")
        await trio.sleep(1)
        assert [p["result"] for p in listener.heard] == ["critical", "normal", "low"]


async def test_client_and_listener_hear_the_same(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:
        before = client.statistics()
        async with listening(world.network) as listener:
            task_id = await client.delay_with_callback("add", HERE, 1, 2)
            await settle()
            assert client.get_status(task_id) is TaskStatus.SUCCESS
            asked = await client.get_task_result(task_id)
            assert asked is not None
            assert asked.result == listener.heard[0]["result"] == 3
        assert type(client.statistics()) is type(before)


def cancel(client: Client, task_id: str) -> None:
    """What cancelling a task does, once it has a name for it."""
    session = client._session
    assert session is not None
    session._apply(TaskAbandoned(task_id))
    session._connection.wake()
