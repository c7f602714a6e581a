"""How much there is for the garbage collector of a client: everybody waits while it looks."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import CoroutineType

import pytest
import trio
from trio.testing import MockClock

from fastworker import Client
from fastworker._client_call import Call
from fastworker._client_watch import Watch
from fastworker._core._task_states import TaskRecord
from fastworker._task_handle import TaskHandle
from tests.shell.world import open_world

pytestmark = pytest.mark.trio

OF_CLIENT = ("fastworker", "contextlib")


class Objects:
    """Those that the collector looks at, by kind, beyond what there was at first."""

    def __init__(self) -> None:
        self._before = Counter(type(each) for each in gc.get_objects())
        self.more = Counter[type]()

    def count(self) -> None:
        self.more = Counter(type(each) for each in gc.get_objects())
        self.more.subtract(self._before)

    def many(self) -> dict[type, int]:
        """Of what there is one for each task, but for what the control plane has made."""
        many = {kind: count for kind, count in self.more.items() if count >= 900}
        many.pop(TaskRecord, None)
        return many


@asynccontextmanager
async def a_client() -> AsyncIterator[tuple[Client, Objects]]:
    """A client that has done what it does only once."""
    async with open_world(slots=1) as world, world.client() as client:
        await client.submit_task("note", (0,))
        gc.collect()
        gc.disable()
        try:
            yield client, Objects()
        finally:
            gc.enable()


async def wait_until(is_so: Callable[[], bool]) -> None:
    while not is_so():
        await trio.lowlevel.cancel_shielded_checkpoint()


async def test_a_task_under_way_is_two_objects(autojump_clock: MockClock) -> None:
    async with (
        a_client() as (client, objects),
        client.map("note", range(1000), max_in_flight=1000) as values,
    ):
        await wait_until(lambda: len(values._handles) == 1000)
        objects.count()
        await values.collect()
    assert objects.many() == {TaskHandle: 1000, Watch: 1000}


async def test_a_call_that_waits_is_one_object_and_its_coroutines_and_their_event(
    autojump_clock: MockClock,
) -> None:
    async with a_client() as (client, objects), trio.open_nursery() as nursery:
        for number in range(1000):
            nursery.start_soon(client.submit_task, "note", (number,))
        await wait_until(lambda: len(client._usable_session()._submits) == 1000)
        objects.count()
    ours = {kind for kind in objects.many() if kind.__module__.startswith(OF_CLIENT)}
    assert ours == {Call}
    # submit_task, the hand-in, and two of Trio's.
    assert round(objects.more[CoroutineType] / 1000) == 4
