"""Whatever a stranger sends: nobody else notices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from fastworker._core._bundle import join, split, with_checksum
from fastworker._core._codec import digest, encode
from fastworker._core._messages import PROTOCOL_VERSION, Hello, Kind, Lease, Request, Role
from fastworker._transport._memory import MemoryListener
from tests.shell.world import BASE, DISCOVERY, MANAGEMENT, World, open_world

pytestmark = pytest.mark.trio

Recorded = dict[bool, list[bytes]]

KINDS = [
    "random messages",
    "random frames",
    "truncated messages",
    "truncated frames",
    "flipped bits",
    "wrong direction",
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("address", [BASE, MANAGEMENT, DISCOVERY])
async def test_hostile_frames_disturb_nobody(
    autojump_clock: MockClock, kind: str, address: str
) -> None:
    # N5 in docs/faults.md.
    async with open_world() as world:
        recorded = _record(world)
        async with world.client() as client, trio.open_nursery() as nursery:
            for number in range(3):
                assert (await client.submit_task("add", (number, 1))).result == number + 1
            nursery.start_soon(_attack, world, address, _frames(kind, recorded))
            for number in range(20):
                result = await client.submit_task("sleep", (number, 0.05))
                assert result.result == number
            assert world.ran[3:] == list(range(20))
            nursery.cancel_scope.cancel()
        statistics = world.plane.statistics()
        assert statistics is not None
        assert statistics.malformed_frames > 20
        assert statistics.closed_sessions == 0
        assert world.plane.get_subworker_status()["active"] == 1


async def test_a_client_that_is_sent_nonsense_dials_again(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:
        recorded = _record(world)
        await client.submit_task("add", (1, 2))
        for frame in _frames("truncated frames", recorded, up=False):
            if frame is None:
                break
            _inject(world, BASE, frame)
            assert (await client.submit_task("add", (1, 2))).result == 3
        assert client.statistics().malformed_frames > 0


async def test_a_stranger_that_says_nothing_is_hung_up_on(autojump_clock: MockClock) -> None:
    async with open_world(workers=0) as world:
        link = world.network.dial(BASE)
        before = trio.current_time()
        for _ in range(2):
            await link.receive_pipe_events()
        assert trio.current_time() - before == pytest.approx(5)
        link.close()


async def test_a_session_that_asks_what_its_role_may_not_is_closed_alone(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client:
        session, body = b"s" * 16, encode(Lease(0, {}, False))
        hello = Hello(PROTOCOL_VERSION, 1, session, Role.CLIENT, 0, "rogue", "", [])
        request = Request(
            session, world.plane.epoch, 0, 1, 1, digest(Kind.LEASE, body), Kind.LEASE, body
        )
        link = world.network.dial(BASE)
        for frame in (hello, request):
            assert link.send_nowait(join([encode(frame)]))
        result = await client.submit_task("sleep", (1,))
        assert result.result == 1
        assert world.count_clients() == 1
        statistics = world.plane.statistics()
        assert statistics is not None
        assert statistics.closed_sessions == 1
        link.close()


def _record(world: World) -> Recorded:
    """Keep copies of all frames from now on, by whether they go to the control plane."""
    recorded: Recorded = {True: [], False: []}
    transmit: Callable[..., None] = world.network._transmit

    def record(way: Any, route: Any, frame: bytes) -> None:
        recorded[isinstance(way.receiver, MemoryListener)].append(frame)
        transmit(way, route, frame)

    world.network._transmit = record  # type: ignore[method-assign]
    return recorded


def _frames(kind: str, recorded: Recorded, *, up: bool = True) -> Iterator[bytes | None]:
    """Frames to attack with; None after each round, to take a breath."""
    random = Random(kind)
    for _ in range(20):
        if kind == "random messages":
            bodies = [random.randbytes(random.randrange(1, 400)) for _ in range(5)]
            yield from (*bodies, *map(with_checksum, bodies))
        elif kind == "random frames":
            yield from (join([random.randbytes(random.randrange(400))]) for _ in range(10))
        elif kind == "truncated messages":
            for message in recorded[up][:10]:
                yield message[: random.randrange(len(message))]
        elif kind == "truncated frames":
            for message in recorded[up][:10]:
                frame = split(message)[0]
                yield join([frame[: random.randrange(len(frame))]])
        elif kind == "flipped bits":
            for message in recorded[up][:10]:
                place = random.randrange(8 * len(message))
                damaged = bytearray(message)
                damaged[place // 8] ^= 1 << place % 8
                yield bytes(damaged)
        else:
            assert kind == "wrong direction"
            yield from recorded[not up][:10]
        yield None


async def _attack(world: World, address: str, frames: Iterator[bytes | None]) -> None:
    link = world.network.dial(address)
    try:
        for frame in frames:
            if frame is None:
                await trio.sleep(0.06)  # it is hung up on, and dials again
            else:
                link.send_nowait(frame)
        await trio.sleep_forever()
    finally:
        link.close()


def _inject(world: World, address: str, frame: bytes) -> None:
    """Send a frame down every pipe of an address as if the control plane had."""
    for pipe in list(world.network._listeners[address]._pipes.values()):
        world.network._transmit(pipe.to_link, pipe.route, frame)
