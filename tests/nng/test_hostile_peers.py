"""Hostile bytes on all three ports of a real control plane, while others work.

Faults N5 to N9, hazards H1, H9, H11, H14 and H19: whatever a stranger sends, the
process lives, its memory is bounded, and a client's tasks all succeed.
"""

from __future__ import annotations

import random
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import msgspec
import pytest
import trio
import trio.lowlevel

from fastworker import Client, ControlPlaneUnreachable, LinkBroken, SubWorker, TaskStatus
from fastworker._core import _link_requester
from fastworker._core._bundle import join, split, with_checksum
from fastworker._core._codec import encode
from fastworker._core._messages import PROTOCOL_VERSION, Hello, Kind, Request, Role
from tests.nng.processes import Peer, Processes

pytestmark = [pytest.mark.nng, pytest.mark.slow, pytest.mark.trio]

MIB = 1024 * 1024
MAX_GROWTH = 50 * MIB
REQ = b"\0SP\0\0\x30\0\0"
LENGTHS = [0, 1, 3, 2**31, 2**40, 2**63, 2**64 - 32, 2**64 - 1]


@dataclass
class Target:
    """A control plane process, and how its ports are attacked."""

    plane: Peer
    ports: list[int]

    async def send(self, port: int, data: bytes) -> None:
        """Send, read until it has enough of us, at most for a moment, and go."""
        try:
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(data)
                with trio.move_on_after(0.1):
                    while await stream.receive_some(4096):
                        pass
        except (trio.BrokenResourceError, OSError):
            pass  # it was thrown out, which is as good

    async def send_raw(self, port: int, data: bytes) -> None:
        """The same, as somebody whom NNG has taken for a requester."""
        try:
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(REQ)
                answer = b""
                while len(answer) < len(REQ):
                    received = await stream.receive_some(len(REQ) - len(answer))
                    assert received, "no greeting"
                    answer += received
                await stream.send_all(data)
                with trio.move_on_after(0.05):
                    while await stream.receive_some(4096):
                        pass
        except trio.BrokenResourceError:
            pass

    async def send_messages(self, port: int, *messages: bytes) -> None:
        await self.send_raw(port, b"".join(map(wrap, messages)))

    async def send_frames(self, port: int, *frames: bytes) -> None:
        await self.send_messages(port, *(join([frame]) for frame in frames))

    def malformed_frames(self) -> int:
        return int(self.plane.ask()["statistics"]["malformed_frames"])


def wrap(message: bytes) -> bytes:
    """What an NNG requester sends: length, request id, message."""
    return struct.pack(">Q", len(message) + 4) + b"\x80\0\0\1" + message


def hello(rng: random.Random, role: Role = Role.CLIENT) -> bytes:
    return encode(Hello(PROTOCOL_VERSION, 1, rng.randbytes(16), role, 0, "mallory"))


# --- attacks ------------------------------------------------------------------


async def lie_about_lengths(target: Target, port: int, rng: random.Random) -> None:
    for length in LENGTHS:
        await target.send_raw(port, struct.pack(">Q", length) + rng.randbytes(64))
        await target.send(port, struct.pack(">Q", length))


async def send_random_frames(target: Target, port: int, rng: random.Random) -> None:
    for _ in range(20):
        size = rng.choice([0, 1, 7, 100, 5000])
        await target.send_frames(port, *(rng.randbytes(size) for _ in range(20)))
        messages = [rng.randbytes(size) for _ in range(20)]
        await target.send_messages(port, *messages, *map(with_checksum, messages))
        await target.send_raw(port, rng.randbytes(200))


async def send_damaged_frames(target: Target, port: int, rng: random.Random) -> None:
    """Each is nearly a HELLO, or follows one."""
    for _ in range(40):
        damaged = bytearray(hello(rng, rng.choice(list(Role))))
        for _ in range(rng.randint(1, 3)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        cut = bytes(damaged[: rng.randint(1, len(damaged))])
        await target.send_frames(port, bytes(damaged), cut, hello(rng), rng.randbytes(40))


async def send_monsters(target: Target, port: int, rng: random.Random) -> None:
    """Small frames that would become something large, or deep."""
    for body in (
        b"\x91" * 200_000,
        b"\x81\xa1a" * 100_000,
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff" + b"\xc0" * 100,
        b"\xc6\xff\xff\xff\xff" + b"x" * 100,
        b"\xdb\xff\xff\xff\xff" + b"x" * 100,
        b"\x98" + b"\xdd\x7f\xff\xff\xff" * 8,
        msgspec.msgpack.encode([0, PROTOCOL_VERSION, 1, b"s" * 16, 1, 0, "x" * 500_000]),
        msgspec.msgpack.encode(
            [0, PROTOCOL_VERSION, 1, b"s" * 16, 2, 0, "w", "", [["n"]] * 50_000]
        ),
    ):
        await target.send_frames(port, body)
        await target.send_messages(port, body, with_checksum(body))
    for tiny in (b"", b"x"):  # millions of frames in one message
        frame = len(tiny).to_bytes(4, "big") + tiny
        await target.send_messages(port, with_checksum(frame * (16 * MIB // len(frame))))


async def send_large_messages(target: Target, port: int, rng: random.Random) -> None:
    # One by one: glibc would keep such a block for each of NNG's threads.
    for _ in range(3):
        await target.send_messages(port, bytes(16 * MIB))
        await target.send_messages(port, with_checksum(bytes(16 * MIB - 4)))


async def break_the_rules_of_a_session(target: Target, port: int, rng: random.Random) -> None:
    """Sessions are open to anybody so far; what is said in them is not trusted."""
    epoch = int(target.plane.ask()["statistics"]["epoch"])
    for role in Role:
        for kind in Kind:
            session = rng.randbytes(16)
            greeting = Hello(PROTOCOL_VERSION, 1, session, role, 0, "mallory")
            for body in (b"", rng.randbytes(50), b"\x91" * 10_000, b"\x91\xdd\xff\xff\xff\xff"):
                slot, sequence = rng.randrange(16), rng.choice([1, 1, 2, 2**40])
                request = Request(session, epoch, slot, sequence, 1, bytes(8), kind, body)
                await target.send_frames(port, encode(greeting), encode(request))


async def talk_http(target: Target, port: int, rng: random.Random) -> None:
    for _ in range(5):
        await target.send(port, b"GET / HTTP/1.1\r\nHost: fastworker\r\n\r\n")
        await target.send(
            port, b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + rng.randbytes(100)
        )


async def connect_200_times(target: Target, port: int, rng: random.Random) -> None:
    async def one(garbage: bytes) -> None:
        await target.send(port, garbage)

    async with trio.open_nursery() as nursery:
        for _ in range(200):
            nursery.start_soon(one, rng.randbytes(rng.randrange(12)))


async def open_sessions(target: Target, port: int, rng: random.Random) -> None:
    for _ in range(100):
        await target.send_frames(port, hello(rng), hello(rng, Role.SUBWORKER))


MALFORMED = [send_random_frames, send_damaged_frames, send_monsters, send_large_messages]
ATTACKS = [
    *MALFORMED,
    lie_about_lengths,
    talk_http,
    connect_200_times,
    open_sessions,
    break_the_rules_of_a_session,
]


@pytest.fixture
def target(processes: Processes) -> Target:
    plane = processes.control_plane(executes=True)
    addresses = [plane.facts[name] for name in ("base", "management_address", "discovery")]
    return Target(plane, [int(address.rpartition(":")[2]) for address in addresses])


@asynccontextmanager
async def somebody_working(processes: Processes) -> AsyncIterator[Callable[[], int]]:
    """A client whose tasks must all succeed meanwhile; yields how many have."""
    done = 0

    async def work() -> None:
        nonlocal done
        while True:
            result = await client.submit_task("add", (done, 1))
            assert result.status is TaskStatus.SUCCESS
            assert result.result == done + 1
            done += 1

    async with Client(processes.discovery) as client, trio.open_nursery() as nursery:
        nursery.start_soon(work)
        yield lambda: done
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
async def test_hostile_bytes_disturb_nobody(
    processes: Processes,
    target: Target,
    attack: Callable[[Target, int, random.Random], object],
) -> None:
    # N6, N7 in docs/faults.md.
    rng = random.Random(attack.__name__)
    async with somebody_working(processes) as done:
        before = target.plane.ask()["resident"]
        async with trio.open_nursery() as nursery:
            for port in target.ports:
                nursery.start_soon(attack, target, port, rng)
        assert (target.malformed_frames() > 10) == (attack in MALFORMED)
        during = done()
        assert during > 0
        with trio.fail_after(5):
            while done() < during + 10:
                await trio.sleep(0.01)
        assert target.plane.ask()["resident"] - before < MAX_GROWTH
    # And a newcomer gets in, although each bad peer makes NNG pause (H9).
    async with Client(processes.discovery, connect_timeout=30) as newcomer:
        assert (await newcomer.submit_task("add", (1, 2))).result == 3
    assert target.plane.is_running()


async def test_half_of_a_large_frame_is_not_kept_for_long(
    processes: Processes, target: Target
) -> None:
    # H19: NNG keeps what has come of a frame for ever; HELLO is due in 5 s.
    part = REQ + struct.pack(">Q", 16 * MIB) + bytes(12 * MIB)
    closed = 0

    async def hold(port: int) -> None:
        nonlocal closed
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            try:
                await stream.send_all(part)
                await stream.receive_some(8)
                assert await stream.receive_some(1) == b""
            except trio.BrokenResourceError:
                pass
            closed += 1

    async with somebody_working(processes) as done:
        before = target.plane.ask()["resident"]
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                for port in target.ports * 3:
                    nursery.start_soon(hold, port)
        assert closed == 9
        with trio.fail_after(5):
            while target.plane.ask()["resident"] - before > MAX_GROWTH:
                await trio.sleep(0.05)
        assert done() > 10


async def test_frames_over_the_limit_are_refused_by_their_length(
    processes: Processes, target: Target
) -> None:
    # H11 in docs/faults.md.
    async with somebody_working(processes):
        before = target.plane.ask()["resident"]
        for port in target.ports:
            await target.send_raw(port, struct.pack(">Q", 18 * MIB) + bytes(18 * MIB))
        assert target.plane.ask()["resident"] - before < MAX_GROWTH


async def test_connections_that_say_nothing_are_closed(
    processes: Processes, target: Target
) -> None:
    # H19 in docs/faults.md.
    async def wait_for_the_end(port: int, greeting: bytes) -> None:
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            try:
                if greeting:
                    await stream.send_all(greeting)
                while await stream.receive_some(100):
                    pass
            except trio.BrokenResourceError:
                pass

    async with somebody_working(processes) as done:
        descriptors = target.plane.ask()["descriptors"]
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                for port in target.ports:
                    for greeting in (b"", REQ[:3], REQ, REQ + b"\0\0\0"):
                        nursery.start_soon(wait_for_the_end, port, greeting)
        with trio.fail_after(5):
            while target.plane.ask()["descriptors"] > descriptors:
                await trio.sleep(0.05)
        assert done() > 10


async def test_a_frame_in_pieces_is_heard_and_one_that_is_cut_off_is_not(
    processes: Processes, target: Target
) -> None:
    """N5: split into single bytes, two glued together, the end missing."""
    rng = random.Random(5)
    port = target.ports[0]

    async def say(*pieces: bytes, answers: int) -> int:
        """Send these pieces; how many frames came back."""
        received = bytearray()
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            for piece in (REQ, *pieces):
                await stream.send_all(piece)
                await trio.lowlevel.checkpoint()
            with trio.move_on_after(5 if answers else 0.3):
                while count_frames(received) < answers or not answers:
                    received += await stream.receive_some(4096)
        return count_frames(received)

    def count_frames(data: bytearray) -> int:
        position, count = len(REQ), 0
        while position + 8 <= len(data):
            size = int.from_bytes(data[position : position + 8], "big")
            message = bytes(data[position + 8 : position + 8 + size])
            position += 8 + size
            if position <= len(data):
                count += len(split(message[4:]))  # behind the request id
        return count

    async with somebody_working(processes) as done:
        whole = wrap(join([hello(rng)]))
        assert await say(*(bytes([byte]) for byte in whole), answers=1) == 1
        assert await say(whole + wrap(join([hello(rng)])), answers=2) == 2
        assert await say(whole[:-1], answers=0) == 0
        during = done()
        with trio.fail_after(5):
            while done() < during + 10:
                await trio.sleep(0.01)
    assert target.malformed_frames() == 0
    assert target.plane.is_running()


async def test_newcomers_get_in_beside_fifty_garbage_connects_a_second(
    processes: Processes, target: Target
) -> None:
    """N8, H9: NNG pauses 100 ms after each; a client makes two connections."""
    knocks = 0

    async def knock(port: int, garbage: bytes) -> None:
        nonlocal knocks
        while True:
            nursery.start_soon(target.send, port, garbage)
            knocks += 1
            await trio.sleep(0.02)

    times: list[float] = []
    async with somebody_working(processes) as done, trio.open_nursery() as nursery:
        nursery.start_soon(knock, target.ports[0], b"GET / HTTP/1.1\r\n\r\n")
        nursery.start_soon(knock, target.ports[1], b"")
        nursery.start_soon(knock, target.ports[2], b"\0" * 8)
        while knocks < 150:  # a second of them first
            await trio.sleep(0.01)
        for _ in range(100):
            started_at = time.monotonic()
            async with Client(processes.discovery):
                times.append(time.monotonic() - started_at)
        assert done() > 10
        nursery.cancel_scope.cancel()
    assert knocks > 3 * len(times), "it was no siege"
    assert sorted(times)[98] <= 0.25, sorted(times)[-10:]  # p99


# --- what the other side is told ----------------------------------------------


@pytest.mark.parametrize(
    "address", ["tcp://192.0.2.1:5550", "tcp://127.0.0.1:9", "tcp://no-such-host.invalid:5550"]
)
async def test_an_address_where_nobody_is_is_named_within_10_seconds(address: str) -> None:
    # N10, H14 in docs/faults.md.
    started_at = time.monotonic()
    with pytest.raises(ControlPlaneUnreachable, match=address):
        await Client(address).start()
    assert time.monotonic() - started_at < 10


@pytest.mark.parametrize(
    "greeting",
    [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0SP\0\0\x51\0\0", b"+OK\r\n" * 999, b""],
    ids=["HTTP", "another NNG protocol", "chatter", "silence"],
)
async def test_another_product_on_the_port_is_told_in_time_and_not_hammered(
    greeting: bytes,
) -> None:
    """N9, H14: NNG itself would try for ever without a word."""
    connects = 0

    async def serve(stream: trio.SocketStream) -> None:
        nonlocal connects
        connects += 1
        try:
            await stream.send_all(greeting)
            while await stream.receive_some(4096):
                pass
        except trio.BrokenResourceError:
            pass

    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        address = f"tcp://127.0.0.1:{listener.socket.getsockname()[1]}"
        for peer in (
            Client(address, connect_timeout=1),
            SubWorker("w", address, connect_timeout=1),
        ):
            started_at = time.monotonic()
            with pytest.raises(ControlPlaneUnreachable, match=address):
                await peer.start()
            assert time.monotonic() - started_at < 3
        nursery.cancel_scope.cancel()
    assert 1 <= connects < 60  # in two seconds


async def test_another_protocol_version_is_refused_and_both_are_named(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    # N9 in docs/faults.md.
    plane = processes.control_plane()
    monkeypatch.setattr(_link_requester, "PROTOCOL_VERSION", 99)
    message = f"protocol {PROTOCOL_VERSION}, the peer 99; use the same version"
    with trio.fail_after(4):
        with pytest.raises(LinkBroken, match=message):
            await Client(processes.discovery).start()
        with pytest.raises(LinkBroken, match=message):
            async with Client(processes.discovery):
                raise AssertionError("it must not get this far")
        with pytest.raises(LinkBroken, match=message):
            await SubWorker("w", plane.facts["management_address"]).start()
