"""What a large message brings goes on its way while the rest of it is looked at."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CoroutineType

import pytest
import trio
from trio.testing import MockClock

from fastworker._client_session import Call, Watch
from fastworker._core._control_plane_events import FrameArrived
from fastworker._core._task_states import TaskRecord
from fastworker._task_handle import TaskHandle
from fastworker._transport._limits import PAUSE_BYTES, PORTION_BYTES
from tests.shell.world import World, open_world

pytestmark = pytest.mark.trio


def log_plane(world: World) -> list[str]:
    """What the control plane does from now on: frames, those that are large, and sends."""
    plane, done = world.plane, list[str]()
    take, send = plane._take_frame, plane._send

    def take_frame(frame: FrameArrived) -> None:
        is_large = PORTION_BYTES <= len(frame.data) < PAUSE_BYTES
        done.append("large frame" if is_large else "frame")
        take(frame)

    def send_all() -> None:
        done.append("send")
        send()

    plane._take_frame, plane._send = take_frame, send_all  # type: ignore[method-assign]
    return done


async def test_the_second_part_of_a_large_message_waits_until_the_first_is_passed_on(
    autojump_clock: MockClock,
) -> None:
    async with open_world(slots=1) as world, world.client() as client:
        done = log_plane(world)
        async with client.map("note", range(1000), max_in_flight=1000) as values:
            assert await values.collect() == list(range(1000))
        larges = [number for number, what in enumerate(done) if what == "large frame"]
        assert len(larges) >= 4
        assert all(done[number + 1] == "send" for number in larges)


async def test_small_frames_of_one_message_are_answered_together(
    autojump_clock: MockClock,
) -> None:
    async with open_world(slots=1) as world, world.client() as client:
        async with trio.open_nursery() as nursery:
            await client.submit_task("note", (0,))
            done = log_plane(world)
            for number in range(50):
                nursery.start_soon(client.submit_task, "note", (number,))
        assert done.count("send") < 50


@contextmanager
def count_objects(more: Counter[type]) -> Iterator[Callable[[], None]]:
    """Gives a call that notes what has come up since, of all that the collector looks at."""

    def note() -> None:
        more.update(type(each) for each in gc.get_objects())
        more.subtract(before)

    gc.collect()
    gc.disable()
    try:
        before = Counter(type(each) for each in gc.get_objects())
        yield note
    finally:
        gc.enable()


def many_of(more: Counter[type]) -> dict[type, int]:
    """Those of which there is one for each task, but for what the control plane has made."""
    many = {kind: count for kind, count in more.items() if count >= 900}
    many.pop(TaskRecord, None)
    return many


OF_CLIENT = ("fastworker", "contextlib")


# The collector looks at them again and again, and everybody waits meanwhile.
async def test_a_task_under_way_is_two_objects_for_the_collector_of_a_client(
    autojump_clock: MockClock,
) -> None:
    more = Counter[type]()
    async with open_world(slots=1) as world, world.client() as client:
        await client.submit_task("note", (0,))
        with count_objects(more) as note:
            async with client.map("note", range(1000), max_in_flight=1000) as values:
                while len(values._handles) < 1000:
                    await trio.lowlevel.cancel_shielded_checkpoint()
                note()
                await values.collect()
    assert many_of(more) == {TaskHandle: 1000, Watch: 1000}


async def test_a_call_that_waits_is_one_object_more_than_its_coroutines_and_their_event(
    autojump_clock: MockClock,
) -> None:
    more = Counter[type]()
    async with open_world(slots=1) as world, world.client() as client:
        await client.submit_task("note", (0,))
        with count_objects(more) as note:
            async with trio.open_nursery() as nursery:
                for number in range(1000):
                    nursery.start_soon(client.submit_task, "note", (number,))
                while len(client._usable_session()._submits) < 1000:
                    await trio.lowlevel.cancel_shielded_checkpoint()
                note()
    ours = {kind for kind in many_of(more) if kind.__module__.startswith(OF_CLIENT)}
    assert ours == {Call}
    # One for each function between the caller and Trio, one of them anyio's.
    assert round(more[CoroutineType] / 1000) == 6
