"""Changes of tasks on both event loops and without one, over real threads."""

from __future__ import annotations

import threading

import anyio
import pytest

import fastworker
from fastworker import ClientClosed, SyncClient, TaskChange, TaskStatus
from fastworker._registry import Registry
from tests.facade.plane import running_plane


def add(a: int, b: int) -> int:
    return a + b


def fail() -> None:
    raise ValueError("no luck")


@pytest.fixture
def registry() -> Registry:
    registry = Registry()
    registry.register(add)
    registry.register(fail)
    return registry


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.anyio
async def test_a_program_on_either_loop_hears_of_ends(registry: Registry) -> None:
    told: list[TaskChange] = []
    async with (
        fastworker.local(registry=registry) as client,
        client.events(statuses=["success", "failure"]) as events,
        anyio.create_task_group() as group,
    ):

        async def load() -> None:
            await client.submit_task("add", (1, 2))
            await client.submit_task("fail")

        group.start_soon(load)
        async for change in events:
            told.append(change)
            if len(told) == 2:
                break
    assert [(change.name, change.status) for change in told] == [
        ("add", TaskStatus.SUCCESS),
        ("fail", TaskStatus.FAILURE),
    ]
    assert told[1].error == "ValueError: no luck"


def test_a_thread_hears_of_changes_one_by_one() -> None:
    with running_plane() as plane, SyncClient(plane.address) as client:
        with client.events(statuses="success") as events:
            assert repr(events) == "<SyncEventStream: 0 changes wait, 0 dropped>"
            ids = [client.submit_task("add", (1, number)).task_id for number in range(3)]
            told = []
            for change in events:
                told.append(change.task_id)
                if len(told) == 3:
                    break
        assert told == ids
        assert (events.dropped, events.interruptions) == (0, 0)


def test_a_thread_waits_no_longer_than_it_wants_to() -> None:
    with (
        running_plane() as plane,
        SyncClient(plane.address) as client,
        client.events(statuses="success", max_buffered=2) as events,
    ):
        assert events.read(0.01) == []
        assert events.read(0) == []
        for number in range(5):
            client.submit_task("add", (1, number))
        told: list[TaskChange] = []
        while len(told) + events.dropped < 5:
            told += events.read(5)
        assert events.dropped == 2


def test_a_thread_that_waits_hears_that_its_client_was_closed() -> None:
    with running_plane() as plane:
        client = SyncClient(plane.address)
        client.start()
        closing = threading.Thread(target=client.close)
        with pytest.raises(ClientClosed):
            _read_while(client, closing)
        closing.join()


def _read_while(client: SyncClient, closing: threading.Thread) -> None:
    with client.events() as events:
        closing.start()
        events.read()


def test_a_value_that_cannot_be_asked_for_is_said_at_once() -> None:
    with (
        running_plane() as plane,
        SyncClient(plane.address) as client,
        pytest.raises(ValueError, match="max_buffered=0"),
    ):
        client.events(max_buffered=0)
