"""``ControlPlaneWorker`` and ``SubWorker``, started from asyncio and from Trio."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import anyio
import pytest

from fastworker import ControlPlaneWorker, SubWorker
from fastworker._registry import Registry
from tests.ports import free_port

pytestmark = [pytest.mark.nng, pytest.mark.anyio]

ANY_PORT = "tcp://127.0.0.1:0"


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def nothing() -> None: ...


@pytest.fixture
def registry() -> Registry:
    registry = Registry()
    registry.register(nothing)
    return registry


def new_control_plane(registry: Registry) -> ControlPlaneWorker:
    return ControlPlaneWorker(
        "plane", ANY_PORT, ANY_PORT, subworker_management_port=0, registry=registry
    )


async def test_start_tells_a_task_group_of_either_loop_that_it_is_ready(
    registry: Registry,
) -> None:
    worker = new_control_plane(registry)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            await group.start(worker.start)
            assert worker.epoch > 0  # it listens now
            subworker = SubWorker("joined", worker.management_address, registry=registry)
            await group.start(subworker.start)
            assert worker.get_subworker_status()["active"] == 2
            subworker.stop()
            worker.stop()
    assert worker.epoch == 0


async def test_an_error_before_it_is_ready_is_the_callers(registry: Registry) -> None:
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            worker = new_control_plane(registry)
            await group.start(worker.start)
            taken = ControlPlaneWorker(
                "other", worker.base_address, ANY_PORT, subworker_management_port=free_port()
            )
            with pytest.raises(ValueError, match=worker.base_address):
                await taken.start()
            worker.stop()


async def test_its_numbers_can_be_read_from_any_thread(registry: Registry) -> None:
    worker = new_control_plane(registry)
    seen: list[object] = []

    def read() -> None:
        seen.extend([worker.statistics(), worker.get_subworker_status()["total"]])

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            await group.start(worker.start)
            read()
            await anyio.to_thread.run_sync(read)
            worker.stop()
    read()
    assert [value is None for value in seen[::2]] == [False, False, True]
    assert seen[1::2] == [1, 1, 0]


async def test_it_stops_at_once_and_without_a_complaint(
    registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "fastworker")
    threads = threading.active_count()
    worker = new_control_plane(registry)
    started_at = 0.0
    async with anyio.create_task_group() as group:
        await group.start(worker.start)
        started_at = time.monotonic()
        worker.stop()
    # Its own lanes say goodbye to it, and it hears them: nobody waits in vain.
    assert time.monotonic() - started_at < 0.4
    assert caplog.messages == []
    await settle(lambda: threading.active_count() <= threads)


async def test_cancelling_its_caller_ends_it(registry: Registry) -> None:
    worker = new_control_plane(registry)
    async with anyio.create_task_group() as group:
        await group.start(worker.start)
        group.cancel_scope.cancel()
    assert worker.epoch == 0
    async with anyio.create_task_group() as group:  # and it can be started again
        await group.start(worker.start)
        worker.stop()


async def settle(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(5):
        while not condition():
            await anyio.sleep(0.01)
