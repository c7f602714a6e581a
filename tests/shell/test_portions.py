"""What a large message brings goes on its way while the rest of it is looked at."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from fastworker._core._control_plane_events import FrameArrived
from fastworker._transport._limits import PAUSE_BYTES, PORTION_BYTES
from tests.shell.world import World, open_world

pytestmark = pytest.mark.trio


def log_plane(world: World) -> list[str]:
    """What the control plane does from now on: frames, those that are large, and sends."""
    plane, done = world.plane, list[str]()
    take, send = plane._take_frame, plane._network.send

    def take_frame(frame: FrameArrived) -> None:
        is_large = PORTION_BYTES <= len(frame.data) < PAUSE_BYTES
        done.append("large frame" if is_large else "frame")
        take(frame)

    def send_all() -> None:
        done.append("send")
        send()

    plane._take_frame = take_frame  # type: ignore[method-assign]
    plane._network.send = send_all  # type: ignore[method-assign]
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
