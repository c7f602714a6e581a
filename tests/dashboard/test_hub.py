"""One sampler and one subscription feed all browsers, whatever the control plane does."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from fastworker import Client
from fastworker._client_operations import Operations
from fastworker._errors import ControlPlaneUnreachable
from fastworker.dashboard import _hub
from fastworker.dashboard._hub import Connection, Hub, TooManyBrowsers
from tests.shell.world import BASE, DISCOVERY, World, open_world, settle

pytestmark = pytest.mark.trio


def hub_of(client: Client) -> Hub:
    async def get_client() -> Client:
        return client

    return Hub(get_client)


@asynccontextmanager
async def open_hub(**settings: Any) -> AsyncIterator[tuple[World, Client, Hub]]:
    """A cluster, a client that a hub asks by, and the hub."""
    async with open_world(**settings) as world, world.client() as client:
        hub = hub_of(client)
        hub.start()
        yield world, client, hub
        await hub.aclose()


async def next_of(connection: Connection, *types: str) -> dict[str, Any]:
    """The next message of one of these types; all others are read over."""
    with trio.fail_after(60):
        while True:
            message: dict[str, Any] = json.loads(await connection.next())
            if message["type"] in types:
                return message


async def next_with_tasks(connection: Connection) -> list[dict[str, Any]]:
    while True:
        update = await next_of(connection, "update")
        if update["tasks"]:
            tasks: list[dict[str, Any]] = update["tasks"]
            return tasks


async def test_a_browser_has_a_snapshot_at_once_and_an_update_each_second(
    autojump_clock: MockClock,
) -> None:
    async with open_hub(workers=2) as (_, client, hub):
        await client.submit_task("add", (1, 2))
        await trio.sleep(5.5)
        began = trio.current_time()
        with hub.connect() as connection:
            snapshot = await next_of(connection, "snapshot", "update", "beat")
            assert trio.current_time() - began < 0.3
            assert snapshot["type"] == "snapshot"
            assert snapshot["overview"]["succeeded"] == 1
            assert len(snapshot["workers"]) == 2
            assert len(snapshot["history"]) == 5
            times = []
            for _ in range(4):
                await next_of(connection, "update")
                times.append(trio.current_time() - began)
            assert times[-1] - times[0] == pytest.approx(3.0, abs=0.3)


async def test_a_new_task_is_seen_within_a_second(autojump_clock: MockClock) -> None:
    async with open_hub() as (_, client, hub):
        with hub.connect() as connection:
            hub.watch(connection, tasks=True)
            await next_of(connection, "snapshot")
            await trio.sleep(2)
            task_id = await client.delay("add", 1, 2)
            began = trio.current_time()
            tasks = await next_with_tasks(connection)
            assert trio.current_time() - began < 1.0
            assert tasks[-1]["task_id"] == task_id
            while tasks[-1]["status"] != "success":
                tasks = await next_with_tasks(connection)
            assert tasks[-1] == (await rows(client))[0]


async def rows(client: Client) -> list[dict[str, Any]]:
    from fastworker._core._stored import TasksAsked
    from fastworker._task_views import row_as_json

    page = await client._operations.list_tasks(TasksAsked(limit=5))
    return [row_as_json(row) for row in page.rows]


async def test_changes_of_tasks_are_listened_to_only_while_somebody_watches(
    autojump_clock: MockClock,
) -> None:
    async with open_hub() as (world, _, hub):
        assert subscriptions(world) == 0
        with hub.connect() as first, hub.connect() as second:
            await settle()
            assert subscriptions(world) == 0
            hub.watch(first, tasks=True)
            hub.watch(second, tasks=True)
            await settle()
            assert subscriptions(world) == 1
            hub.watch(first, tasks=False)
            await settle()
            assert subscriptions(world) == 1
        await settle()
        assert subscriptions(world) == 0


def subscriptions(world: World) -> int:
    state = world.plane._state
    assert state is not None
    return len(state._feed)


async def test_browsers_are_told_when_the_control_plane_is_away_and_when_it_is_back(
    autojump_clock: MockClock,
) -> None:
    async with open_hub() as (world, client, hub):
        with hub.connect() as connection:
            hub.watch(connection, tasks=True)
            await next_of(connection, "snapshot")
            began = trio.current_time()
            with world.restarting():
                lost = await next_of(connection, "lost")
                assert "does not answer" in lost["message"]
                assert trio.current_time() - began < 5
                await trio.sleep(20)
            await world.start_plane()
            update = await next_of(connection, "update")
            assert update["overview"]["submitted"] == 0
            await client.delay("add", 1, 2)
            assert (await next_with_tasks(connection))[0]["name"] == "add"


async def test_a_network_that_is_cut_for_a_while_leaves_a_gap_and_no_wrong_rate(
    autojump_clock: MockClock,
) -> None:
    async with open_hub() as (world, client, hub):
        with hub.connect() as connection:
            await trio.sleep(3)
            for address in (BASE, DISCOVERY):
                world.cut_off(address)
            await next_of(connection, "lost")
            await trio.sleep(10)
            for address in (BASE, DISCOVERY):
                world.network.heal(address)
            await next_of(connection, "update")
            await client.submit_task("add", (1, 2))
        assert all(point.submitted >= 0 for point in hub.history.points)
        gaps = [point.at for point in hub.history.points]
        assert max(later - at for at, later in itertools.pairwise(gaps)) > 9


async def test_a_flood_of_tasks_costs_no_more_than_four_messages_a_second(
    autojump_clock: MockClock,
) -> None:
    async with open_hub(slots=10) as (_, client, hub):
        with hub.connect() as connection:
            hub.watch(connection, tasks=True)
            await next_of(connection, "snapshot")
            count = 0

            async def read() -> None:
                nonlocal count
                while True:
                    await connection.next()
                    count += 1

            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                for number in range(500):
                    await client.delay("add", number, 1)
                    await trio.sleep(0.01)
                nursery.cancel_scope.cancel()
            assert 4 <= count <= 4 * 5 + 2


async def test_what_is_too_much_to_be_told_is_counted(autojump_clock: MockClock) -> None:
    async with open_hub(slots=100) as (_, client, hub):
        with hub.connect() as connection:
            hub.watch(connection, tasks=True)
            await next_of(connection, "snapshot")
            await settle()
            async with trio.open_nursery() as nursery:
                for number in range(500):
                    nursery.start_soon(client.delay, "add", number, 1)
            dropped = told = 0
            with trio.fail_after(30):
                while dropped + told < 500:
                    update = await next_of(connection, "update")
                    dropped += update["dropped"]
                    told += len(update["tasks"])
            assert dropped > 300


async def test_why_there_is_no_control_plane_is_told(autojump_clock: MockClock) -> None:
    async def get_client() -> Client:
        raise ControlPlaneUnreachable("tcp://127.0.0.1:5550", "nobody is there")

    hub = Hub(get_client)
    hub.start()
    with hub.connect() as connection:
        lost = await next_of(connection, "lost")
        assert "nobody is there" in lost["message"]
        assert (await next_of(connection, "lost", "beat"))["type"] == "beat"
    await hub.aclose()


async def test_a_browser_that_does_not_read_is_ended_and_the_others_go_on(
    autojump_clock: MockClock,
) -> None:
    async with open_hub() as (_, _, hub):
        with hub.connect() as slow, hub.connect() as quick:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(slow.ended.wait)
                for _ in range(12):
                    await next_of(quick, "update")
            assert slow.is_too_slow
            assert not quick.ended.is_set()
            await next_of(quick, "update")


async def test_there_are_so_many_browsers_and_no_more(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_hub, "MAX_BROWSERS", 2)
    async with open_hub() as (_, _, hub):
        with hub.connect(), hub.connect(), pytest.raises(TooManyBrowsers), hub.connect():
            pass
        with hub.connect() as connection:
            await next_of(connection, "snapshot")


async def test_in_the_background_it_runs_until_it_is_closed(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client:
        hub = hub_of(client)
        for _ in range(2):
            hub.start()
            hub.start()
            with hub.connect() as connection:
                await next_of(connection, "snapshot")
                await hub.aclose()
                assert connection.ended.is_set()
                assert not connection.is_too_slow
            # A browser that comes while the server stops does not start it again.
            hub.start_if_new()
            with hub.connect() as late:
                assert late.ended.is_set()
            count = len(hub.history.points)
            await trio.sleep(5)
            assert len(hub.history.points) == count


async def test_a_mistake_ends_the_feed_and_not_the_program(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    is_broken = True

    async with open_world() as world, world.client() as client:

        async def get_client() -> Client:
            if is_broken:
                raise RuntimeError("a mistake")
            return client

        hub = Hub(get_client)
        hub.start_if_new()
        with hub.connect() as connection:
            await connection.ended.wait()
        assert "a mistake" in caplog.text
        is_broken = False
        hub.start_if_new()
        with hub.connect() as connection:
            await next_of(connection, "snapshot")
        await hub.aclose()


async def test_without_browsers_only_numbers_are_asked_for(autojump_clock: MockClock) -> None:
    asked: list[str] = []

    class Counting(Operations):
        async def overview(self) -> Any:
            asked.append("overview")
            return await super().overview()

        async def workers(self) -> Any:
            asked.append("workers")
            return await super().workers()

        async def metrics(self) -> Any:
            asked.append("metrics")
            return await super().metrics()

    class CountingClient(Client):
        @property
        def _operations(self) -> Operations:
            return Counting(self._usable_session, self._in_time)

    async with (
        open_world() as world,
        CountingClient(transport=world.network, registry=world.registry) as client,
    ):
        hub = hub_of(client)
        hub.start()
        await trio.sleep(10.5)
        assert asked.count("overview") == 11
        assert asked.count("metrics") <= 2
        assert "workers" not in asked
        with hub.connect() as connection:
            await next_of(connection, "snapshot")
            assert asked.count("workers") == 1
        await hub.aclose()
