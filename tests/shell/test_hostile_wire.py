"""Somebody on the way between peers that have tokens: he may lose frames, and that is all."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random

import pytest
import trio

from fastworker import AuthenticationError, AuthTokens
from fastworker._core._bundle import join
from fastworker._core._codec import digest, encode
from fastworker._core._handshake import is_handshake
from fastworker._core._listener_gate import GateStatistics
from fastworker._core._messages import (
    PROTOCOL_VERSION,
    Hello,
    Kind,
    Nothing,
    Request,
    Role,
    Submit,
    TaskSpec,
)
from fastworker._core._pipes import Route
from fastworker._transport._memory import MemoryNetwork
from fastworker._transport._memory_ends import MemoryListener, Way
from tests.shell.world import World, settle

pytestmark = pytest.mark.trio

TOKENS = AuthTokens(
    client="token of a client.", worker="token of a worker.", operator="token, an operator"
)
CLIENT = AuthTokens(client="token of a client.")
# After so long whatever was lost has been asked again.
REPEATED = 20.0


class Wire(MemoryNetwork):
    """A network with somebody on the way.

    Attributes:
      seen: all that was sent, with the way it went.
      change: what becomes of a frame; None loses it.
    """

    def __init__(self) -> None:
        super().__init__(random=Random(0))
        self.seen: list[tuple[Way, Route, bytes]] = []
        self.change: Callable[[Way, bytes], bytes | None] = lambda _, frame: frame

    def _transmit(self, way: Way, route: Route, frame: bytes) -> None:
        self.seen.append((way, route, frame))
        changed = self.change(way, frame)
        if changed is not None:
            super()._transmit(way, route, changed)

    def inject(self, way: Way, route: Route, frame: bytes) -> None:
        """Send a frame that nobody has sent now."""
        if not way.receiver._closed:
            super()._transmit(way, route, frame)

    def live_ways(self) -> list[tuple[Way, Route]]:
        """All directions of all pipes that are open."""
        pipes = [p for each in self._listeners.values() for p in each._pipes.values()]
        ways = [(pipe.to_link, pipe.route) for pipe in pipes]
        return ways + [(pipe.to_listener, pipe.route) for pipe in pipes]


@asynccontextmanager
async def wired() -> AsyncIterator[tuple[World, Wire]]:
    async with trio.open_nursery() as nursery:
        world = World(nursery, 0)
        wire = world.network = Wire()
        await world.start_plane(auth=TOKENS)
        await world.start_worker(auth=TOKENS)
        yield world, wire
        nursery.cancel_scope.cancel()


def admission(world: World) -> GateStatistics:
    statistics = world.plane.statistics()
    assert statistics is not None
    return statistics.admission


def what_happened(world: World) -> object:
    """All that a frame could have changed."""
    statistics = world.plane.statistics()
    assert statistics is not None
    return (
        list(world.ran),
        statistics.clients,
        statistics.tasks.submitted,
        statistics.tasks.succeeded,
        statistics.tasks.stale_reports,
        statistics.closed_sessions,
        statistics.malformed_frames,
        statistics.lost_workers,
    )


async def test_no_changed_bit_of_any_message_gets_through(
    autojump_clock: trio.abc.Clock,
) -> None:
    """Every message of a session, each with one bit changed, and each bit for some of them."""
    chance = Random(5)
    async with wired() as (world, wire), world.client(auth=CLIENT) as client:
        assert (await client.submit_task("add", (1, 2))).result == 3
        before = what_happened(world)
        refused_before = admission(world).refused_messages

        def flip(_: Way, frame: bytes) -> bytes:
            changed = bytearray(frame)
            changed[chance.randrange(len(frame))] ^= 1 << chance.randrange(8)
            return bytes(changed)

        wire.change = flip
        marker = len(wire.seen)
        with trio.move_on_after(4.0):
            await client.delay("add", 30, 40)
        changed = [frame for _, _, frame in wire.seen[marker:] if not is_handshake(frame)]
        assert changed
        assert what_happened(world) == before
        assert admission(world).refused_messages > refused_before
        wire.change = lambda _, frame: frame
        assert (await client.submit_task("add", (5, 6))).result == 11


async def test_each_bit_of_one_request_is_covered(autojump_clock: trio.abc.Clock) -> None:
    # X8 in docs/faults.md.
    async with wired() as (world, wire), world.client(auth=CLIENT) as client:
        lost: list[tuple[Way, Route, bytes]] = []

        def lose(way: Way, frame: bytes) -> bytes | None:
            return None if isinstance(way.receiver, MemoryListener) else frame

        wire.change = lose
        marker = len(wire.seen)
        with trio.move_on_after(0.5):
            await client.delay("add", 7, 8)
        lost = [entry for entry in wire.seen[marker:] if b"add" in entry[2]]
        assert lost
        way, route, frame = lost[0]
        before = what_happened(world)
        for position in range(len(frame)):
            for bit in range(8):
                changed = bytearray(frame)
                changed[position] ^= 1 << bit
                wire.inject(way, route, bytes(changed))
            await trio.sleep(0.001)
        assert what_happened(world) == before
        assert admission(world).refused_messages == 8 * len(frame)
        wire.inject(way, route, frame)  # the very one that was sent: it was only late
        await settle()
        assert (7, 8) in world.ran


@pytest.mark.parametrize("seconds", [0.0, 1.0, 60.0])
async def test_what_was_sent_before_changes_nothing_when_it_comes_again(
    seconds: float, autojump_clock: trio.abc.Clock
) -> None:
    # X8 in docs/faults.md.
    async with wired() as (world, wire), world.client(auth=CLIENT) as client:
        for number in range(3):
            assert (await client.submit_task("add", (number, 1))).result == number + 1
        await trio.sleep(seconds)
        before, old = what_happened(world), list(wire.seen)
        refused = admission(world).refused_messages
        for way, route, frame in old:
            wire.inject(way, route, frame)
        await settle()
        assert what_happened(world) == before
        assert admission(world).refused_messages > refused
        assert (await client.submit_task("add", (5, 6))).result == 11


async def test_nothing_of_before_a_restart_is_believed_after_it(
    autojump_clock: trio.abc.Clock,
) -> None:
    # X20
    async with wired() as (world, wire), world.client(auth=CLIENT) as client:
        assert (await client.submit_task("add", (1, 2))).result == 3
        with world.restarting():
            await settle()
            old = [frame for _, _, frame in wire.seen]
            await world.start_plane(auth=TOKENS)
        await trio.sleep(REPEATED)
        before = what_happened(world)
        for way, route in wire.live_ways():
            for frame in old:
                wire.inject(way, route, frame)
            await settle()
        assert what_happened(world) == before
        assert (await client.submit_task("add", (5, 6))).result == 11


async def test_what_an_end_has_sent_is_worth_nothing_when_it_comes_back(
    autojump_clock: trio.abc.Clock,
) -> None:
    # X8 in docs/faults.md.
    async with wired() as (world, wire), world.client(auth=CLIENT) as client:
        assert (await client.submit_task("add", (1, 2))).result == 3
        before, old = what_happened(world), list(wire.seen)
        for way, route in wire.live_ways():
            for other, _, frame in old:
                if other.sender is way.receiver:
                    wire.inject(way, route, frame)
            await settle()
        assert what_happened(world) == before
        assert (await client.submit_task("add", (5, 6))).result == 11


async def test_messages_that_overtake_each_other_are_lost_and_asked_again(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with wired() as (world, wire), world.client(auth=CLIENT) as client:
        held: dict[int, bytes] = {}  # by pipe
        swapped: list[int] = []

        def swap(way: Way, frame: bytes) -> bytes | None:
            if not isinstance(way.receiver, MemoryListener) or len(swapped) > 5:
                return frame
            if way.pipe not in held:
                held[way.pipe] = frame
                return None
            route = next(route for each, route in wire.live_ways() if each is way)
            wire.inject(way, route, frame)
            swapped.append(way.pipe)
            return held.pop(way.pipe)

        assert (await client.submit_task("add", (1, 2))).result == 3
        refused = admission(world).refused_messages
        wire.change = swap
        results = [(await client.submit_task("add", (n, 1))).result for n in range(5)]
        assert results == [1, 2, 3, 4, 5]
        assert world.ran == [(1, 2), *((n, 1) for n in range(5))]
        assert admission(world).refused_messages >= refused + len(swapped)
        assert swapped


async def test_a_handshake_in_which_anything_is_changed_opens_nothing(
    autojump_clock: trio.abc.Clock,
) -> None:
    chance = Random(6)
    async with wired() as (world, wire):

        def flip(_: Way, frame: bytes) -> bytes:
            if not is_handshake(frame):
                return frame
            changed = bytearray(frame)
            changed[5 + chance.randrange(len(frame) - 5)] ^= 1 << chance.randrange(8)
            return bytes(changed)

        wire.change = flip
        for _ in range(10):
            with pytest.raises(AuthenticationError):
                await world.new_client(auth=CLIENT).start()
        assert world.count_clients() == 0
        wire.change = lambda _, frame: frame
        async with world.client(auth=CLIENT) as client:
            assert (await client.submit_task("add", (1, 2))).result == 3


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("kind", list(Kind))
async def test_a_peer_that_proves_nothing_is_heard_by_nobody(
    role: Role, kind: Kind, autojump_clock: trio.abc.Clock
) -> None:
    """X2: every kind of request, in either role, and even with a session that lives."""
    async with wired() as (world, wire), world.client(auth=CLIENT) as client:
        assert (await client.submit_task("add", (1, 2))).result == 3
        before = what_happened(world)
        plane = world.plane._state
        assert plane is not None
        body = encode(Nothing())
        if kind is Kind.SUBMIT:
            body = encode(Submit([TaskSpec("evil", "add", 2, 0, b"[[1,2],{}]", 1.0)]))
        for address in (
            world.plane.base_address,
            world.plane.management_address,
            world.plane.discovery_address,
        ):
            for session in [b"0123456789abcdef", *plane._sessions.by_key]:
                link = wire.dial(address)
                await link.wait_sendable()
                hello = Hello(PROTOCOL_VERSION, 1, session, role, plane.epoch, "eve")
                slot = 15 if kind in (Kind.CANCEL, Kind.BYE) else 0
                request = Request(
                    session, plane.epoch, slot, 99, 1, digest(kind, body), kind, body
                )
                for frame in (encode(hello), encode(request)):
                    link.send_nowait(join([frame]))
                    await settle()
                link.close()
                link = wire.dial(address)  # and without saying HELLO first
                link.send_nowait(join([encode(request)]))
                await settle()
                link.close()
        assert what_happened(world) == before
        assert (await client.submit_task("add", (5, 6))).result == 11
