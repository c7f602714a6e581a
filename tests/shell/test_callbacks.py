"""``delay_with_callback``: from the call to the listener, on a network in memory."""

from __future__ import annotations

import base64
import json
import logging
import pickle
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from random import Random
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from fastworker import (
    Client,
    ConfigurationError,
    ControlPlaneUnreachable,
    NotEncodable,
    PayloadTooLarge,
    TaskStatus,
    UnknownTask,
    _client,
    _client_callback,
)
from fastworker._core._callbacks import CallbackStatistics
from fastworker._core._client_events import TaskAbandoned
from fastworker._core._control_plane_events import AppendRecords
from fastworker._core._messages import Callback
from fastworker._errors import LinkError
from fastworker._store._memory import MemoryStore
from fastworker._task_function import TaskOptions
from fastworker._transport._memory_ends import MemoryLink
from tests.shell.callback_listener import HERE, NOWHERE, listening
from tests.shell.world import World, open_world, settle

pytestmark = pytest.mark.trio


@asynccontextmanager
async def open_plane(**settings: Any) -> AsyncIterator[World]:
    """As ``open_world``, for a control plane that is not like the others."""
    async with trio.open_nursery() as nursery:
        world = World(nursery, 0)
        await world.start_plane(**settings)
        await world.start_worker()
        yield world
        nursery.cancel_scope.cancel()
    assert world.count_links() == 0


def callbacks(world: World) -> CallbackStatistics:
    statistics = world.plane.statistics()
    assert statistics is not None
    return statistics.callbacks


# --- what is told ---


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


# --- what is refused at once ---


@pytest.mark.parametrize(
    "address",
    [
        "ipc:///tmp/x",
        "inproc://x",
        "ws://127.0.0.1:9000",
        "tls+tcp://127.0.0.1:9000",
        "memory://x",
        "http://169.254.169.254/",
        "tcp://127.0.0.1:0",
        "tcp://127.0.0.1:65536",
        "tcp://127.0.0.1",
        "tcp://127.0.0.1:9000/path",
        "127.0.0.1:9000",
        " tcp://127.0.0.1:9000",
        "tcp://127.0.0.1:9000\n",
        "tcp://" + "h" * 300 + ":9000",
        "",
        None,
        9000,
    ],
)
async def test_an_address_that_is_no_tcp_port_is_refused_and_nothing_is_sent(
    address: Any, autojump_clock: MockClock
) -> None:
    async with open_world() as world, world.client() as client:
        with pytest.raises(ConfigurationError) as caught:
            await client.delay_with_callback("add", address, 1, 2)
        assert isinstance(caught.value, ValueError)
        assert repr(address)[:50].rstrip("'") in str(caught.value)
        assert client.statistics().waiting == 0
        assert world.tasks().submitted == 0


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"a": {"b": [1, object()]}}, r"callback_data\['a'\]\['b'\]\[1\] is of type object"),
        ({"a": float("nan")}, r"callback_data\['a'\] is nan"),
        ({1: 2}, "callback_data has the key 1 of type int"),
        ({"a": "\ud800"}, r"callback_data\['a'\] holds a lone surrogate"),
        ([1], "callback_data is of type list; pass a dict"),
        ("text", "callback_data is of type str; pass a dict"),
    ],
    ids=str,
)
async def test_data_that_json_cannot_say_is_refused_with_its_path(
    data: Any, words: str, autojump_clock: MockClock
) -> None:
    async with open_world() as world, world.client(serialization_format="pickle") as client:
        with pytest.raises(NotEncodable, match=words):
            await client.delay_with_callback("add", HERE, 1, 2, callback_data=data)
        assert world.tasks().submitted == 0


async def test_data_of_more_than_256_kib_is_refused(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:
        async with listening(world.network) as listener:
            fits = {"a": "x" * (256 * 1024 - 8)}
            await client.delay_with_callback("add", HERE, 1, 2, callback_data=fits)
            await settle()
            assert listener.heard[0]["callback_data"] == fits
        too_long = {"a": "x" * (256 * 1024 - 7)}
        with pytest.raises(PayloadTooLarge, match="callback_data: 262,145 bytes"):
            await client.delay_with_callback("add", HERE, 1, 2, callback_data=too_long)
        assert world.tasks().submitted == 1


# --- how it gets there ---


async def test_a_hundred_callbacks_arrive_in_order(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:
        async with listening(world.network) as listener:
            for number in range(100):
                await client.delay_with_callback("add", HERE, number, 0)
            await trio.sleep(2)
            assert [payload["result"] for payload in listener.heard] == list(range(100))
        assert callbacks(world).delivered == 100


async def test_a_dead_address_delays_nothing_else(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:
        async with listening(world.network) as listener:
            for number in range(20):
                await client.delay_with_callback("add", NOWHERE, 0, number)
                await client.delay_with_callback("add", HERE, 1, number)
            before = trio.current_time()
            while len(listener.heard) < 20:
                await trio.sleep(0.05)
            assert trio.current_time() - before < 1
            await settle()
        assert (await client.submit_task("add", (1, 2))).result == 3
        assert callbacks(world).queued == 20


async def test_a_listener_that_comes_up_late_hears_everything(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client:
        ids = [await client.delay_with_callback("add", HERE, 1, n) for n in range(5)]
        await trio.sleep(30)
        async with listening(world.network) as listener:
            await trio.sleep(30)
            assert listener.task_ids == ids
            assert listener.heard[0]["delivery"] > 1
            assert len({payload["event_id"] for payload in listener.heard}) == 5
        assert callbacks(world).queued == 0


async def test_a_listener_that_restarts_hears_what_came_before_and_after(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client:
        async with listening(world.network) as before:
            first = await client.delay_with_callback("add", HERE, 1, 1)
            await settle()
        second = await client.delay_with_callback("add", HERE, 2, 2)
        await trio.sleep(1)
        async with listening(world.network) as after:
            await trio.sleep(10)
        assert before.task_ids == [first]
        assert after.task_ids == [second]


async def test_a_listener_with_another_peer_hears_of_it_when_that_one_has_left(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client:
        async with listening(world.network) as listener:
            listener.is_taken = True
            task_id = await client.delay_with_callback("add", HERE, 1, 2)
            await trio.sleep(5)
            assert listener.turned_away > 1
            assert callbacks(world).delivered == 0
            listener.is_taken = False
            await trio.sleep(20)
            assert listener.task_ids[-1] == task_id
        assert callbacks(world).delivered == 1


async def test_after_ten_tries_a_callback_is_parked_and_shown(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client:
        task_id = await client.delay_with_callback("add", NOWHERE, 1, 2)
        await trio.sleep(60)
        assert (callbacks(world).queued, callbacks(world).parked) == (1, 0)
        await trio.sleep(300)
        [parked] = callbacks(world).parked_callbacks
        assert (parked.task_id, parked.address, parked.tries) == (task_id, NOWHERE, 10)
        assert "no listener was reached" in parked.error
        assert callbacks(world).failed_deliveries == 10
        assert callbacks(world).queued == 0


async def test_an_idle_connection_is_closed_after_ten_seconds(
    autojump_clock: MockClock,
) -> None:
    async with (
        open_world() as world,
        world.client() as client,
        listening(world.network) as listener,
    ):
        links = world.count_links()
        await client.delay_with_callback("add", HERE, 1, 2)
        await trio.sleep(9)
        assert len(listener.pipes) == 1
        assert world.count_links() == links + 1
        await trio.sleep(2)
        assert listener.pipes == []
        assert world.count_links() == links


async def test_nothing_is_told_before_its_record_is_durable(
    autojump_clock: MockClock,
) -> None:
    class SlowStore(MemoryStore):
        def __init__(self) -> None:
            super().__init__()
            self.pending: list[tuple[AppendRecords, Callable[[int], None]]] = []

        def append(self, records: AppendRecords, done: Callable[[int], None]) -> None:
            if not records.ended:
                done(records.batch)
            else:
                self.pending.append((records, done))

    store = SlowStore()
    async with (
        open_plane(store=store) as world,
        world.client() as client,
        listening(world.network) as listener,
    ):
        task_id = await client.delay_with_callback("add", HERE, 1, 2)
        await trio.sleep(5)
        [(records, done)] = store.pending
        assert listener.heard == []
        done(records.batch)
        await settle()
        assert listener.task_ids == [task_id]


async def test_a_network_that_fails_is_tried_again(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors: list[Exception] = [OSError("no descriptors"), LinkError("no memory")]

    async with open_world() as world, world.client() as client:
        dial = world.network.dial_pair

        def dial_pair(address: str) -> MemoryLink:
            if errors:
                raise errors.pop()
            return dial(address)

        monkeypatch.setattr(world.network, "dial_pair", dial_pair)
        async with listening(world.network) as listener:
            await client.delay_with_callback("add", HERE, 1, 2)
            await trio.sleep(10)
            [payload] = listener.heard
            assert payload["delivery"] == 3


async def test_the_same_seed_makes_the_same_tries(autojump_clock: MockClock) -> None:
    async def tries(seed: int) -> list[float]:
        times: list[float] = []
        async with open_plane(rng=Random(seed)) as world:
            dial = world.network.dial_pair
            start = trio.current_time()

            def dial_pair(address: str) -> MemoryLink:
                times.append(round(trio.current_time() - start, 3))
                return dial(address)

            world.network.dial_pair = dial_pair  # type: ignore[method-assign]
            async with world.client() as client:
                await client.delay_with_callback("add", NOWHERE, 1, 2)
                await trio.sleep(100)
        return times

    assert await tries(1) == await tries(1) != await tries(2)


# --- when the control plane stops ---


async def test_draining_lets_the_last_callbacks_arrive(autojump_clock: MockClock) -> None:
    async with (
        open_plane() as world,
        listening(world.network) as listener,
        world.client() as client,
    ):
        task_id = await client.delay_with_callback("wait", HERE, "a")
        await settle()
        world.plane.drain()
        await settle()
        world.let_go("a")
        await trio.sleep(5)
        assert world.plane.epoch == 0, "it has ended"
        assert listener.task_ids == [task_id]


async def test_stopping_gives_what_is_on_its_way_a_moment_and_says_what_is_lost(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_plane() as world:
        plane = world.plane
        async with listening(world.network) as listener, world.client() as client:
            await client.delay_with_callback("add", NOWHERE, 1, 1)
            await client.delay_with_callback("add", NOWHERE, 2, 2)
            task_id = await client.delay_with_callback("add", HERE, 3, 3)
            while callbacks(world).due < 3:
                await trio.sleep(0.01)
            assert callbacks(world).delivered == 0
            before = trio.current_time()
            with caplog.at_level(logging.WARNING, "fastworker.callbacks"):
                plane.stop()
                while plane.epoch:
                    await trio.sleep(0.01)
            assert trio.current_time() - before == pytest.approx(1.0, abs=0.1)
            assert listener.task_ids == [task_id]
            assert "2 callbacks are lost: they were still to be sent" in caplog.messages


async def test_stopping_does_not_wait_for_the_next_try(autojump_clock: MockClock) -> None:
    async with open_plane() as world:
        plane = world.plane
        async with world.client() as client:
            await client.delay_with_callback("add", NOWHERE, 1, 1)
            await trio.sleep(5.2)  # the first try is over
            before = trio.current_time()
            plane.stop()
            while plane.epoch:
                await trio.sleep(0.01)
            assert trio.current_time() - before < 0.05


@pytest.mark.parametrize("seconds", [0.0, 0.05, 1.0, 5.5])
async def test_a_control_plane_that_is_cancelled_leaves_no_connection(
    seconds: float, autojump_clock: MockClock
) -> None:
    async with open_world() as world, world.client() as client, listening(world.network):
        for number in range(10):
            await client.delay_with_callback("add", HERE, number, 0)
            await client.delay_with_callback("add", NOWHERE, number, 0)
        await trio.sleep(seconds)
        world.nursery.cancel_scope.cancel()
        await trio.lowlevel.checkpoint_if_cancelled()


# --- a peer that is no client of ours ---


@pytest.mark.parametrize("address", ["ipc:///etc/x", "inproc://x", "tcp://h:0", "tcp://h:1\n"])
async def test_a_client_that_sends_another_address_loses_its_session_and_nobody_else_does(
    address: str, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        open_world() as world,
        world.client() as other,
        world.client(retries=0, timeout=1) as client,
    ):
        monkeypatch.setattr(_client, "make_callback", lambda *_: Callback(address, "e"))
        with pytest.raises(ControlPlaneUnreachable):
            await client.delay_with_callback("add", address, 1, 2)
        statistics = world.plane.statistics()
        assert statistics is not None
        assert statistics.closed_sessions >= 1
        assert statistics.callbacks.due == 0
        assert (await other.submit_task("add", (1, 2))).result == 3


async def test_bytes_that_are_no_json_cannot_forge_what_is_told(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    forged = b'1,"status":"failure"'
    monkeypatch.setattr(_client_callback, "encode_json_value", lambda *_: forged)
    async with (
        open_world() as world,
        world.client() as client,
        listening(world.network) as listener,
    ):
        await client.delay_with_callback("add", HERE, 1, 2, callback_data={})
        await settle()
        [payload] = listener.heard
    assert payload["status"] == "success"
    assert payload["callback_data"] is None
    assert json.dumps(payload).count("status") == 1


def cancel(client: Client, task_id: str) -> None:
    """What cancelling a task does, once it has a name for it."""
    session = client._session
    assert session is not None
    session._apply(TaskAbandoned(task_id))
    session._connection.wake()
