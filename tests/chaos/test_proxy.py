"""The proxy does what it is told, and nothing else, to messages of real NNG sockets."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass

import pytest
import trio

from fastworker._core._pipes import PipeClosed, PipeOpened
from fastworker._transport._abc import Link, Listener
from fastworker._transport._address import parse_tcp_address
from fastworker._transport._nng import NngTransport
from tests.chaos.proxy import Faults, Proxy

pytestmark = [pytest.mark.nng, pytest.mark.trio]


@dataclass
class Wire:
    """A listener that answers what it gets, a link to it, and the proxy between."""

    proxy: Proxy
    link: Link
    listener: Listener
    got: list[bytes]

    async def ask(self, *messages: bytes, answers: int) -> list[bytes]:
        """Send these, and return the answers: so many have to come, and more may."""
        for message in messages:
            while not self.link.send_nowait(message):
                await self.link.wait_sendable()
        heard: list[bytes] = []
        with trio.fail_after(10):
            while len(heard) < answers:
                heard += await self.link.receive()
        with trio.move_on_after(0.2):
            while True:
                heard += await self.link.receive()
        return heard


@asynccontextmanager
async def wire(seed: int = 1) -> AsyncIterator[Wire]:
    transport = NngTransport()
    listener = transport.listen("tcp://127.0.0.1:0")
    _, port = parse_tcp_address(listener.address, listening=True)
    proxy = Proxy(port, random.Random(seed))
    got: list[bytes] = []

    async def answer() -> None:
        while True:
            for route, message in await listener.receive():
                got.append(message)
                listener.send(route, message.upper())

    async def keep_pipes() -> None:
        while True:
            await listener.receive_pipe_events()

    with ExitStack() as stack:
        stack.callback(listener.close)
        async with trio.open_nursery() as nursery:
            await nursery.start(proxy.run)
            nursery.start_soon(answer)
            nursery.start_soon(keep_pipes)
            nursery.start_soon(listener.run_backlog)
            link = transport.dial(f"tcp://127.0.0.1:{proxy.port}")
            stack.callback(link.close)
            with trio.fail_after(5):
                [opened] = await link.receive_pipe_events()
            assert isinstance(opened, PipeOpened)
            yield Wire(proxy, link, listener, got)
            nursery.cancel_scope.cancel()


async def test_without_faults_messages_pass_as_they_are() -> None:
    async with wire() as line:
        large = b"x" * 1_000_000
        answers = await line.ask(b"a", b"b", large, answers=3)
        assert answers == [b"A", b"B", large.upper()]
        assert line.got == [b"a", b"b", large]
        assert set(line.proxy.done) == {"passed"}


@pytest.mark.parametrize(
    ("faults", "got", "answers"),
    [
        (Faults(drop=1), [], []),
        (Faults(double=1), [b"a", b"a", b"b", b"b"], [b"A"] * 4 + [b"B"] * 4),
        (Faults(up=False), [], []),
        (Faults(down=False), [b"a", b"b"], []),
        (Faults(delay=0.1), [b"a", b"b"], [b"A", b"B"]),
    ],
    ids=str,
)
async def test_messages_are_dropped_doubled_and_held_up(
    faults: Faults, got: list[bytes], answers: list[bytes]
) -> None:
    async with wire() as line:
        line.proxy.set_faults(faults)
        assert await line.ask(b"a", b"b", answers=len(answers)) == answers
        with trio.fail_after(10):
            while line.proxy.done["partition"] + line.proxy.done["drop"] < 2 and not answers:
                await trio.sleep(0.01)  # what is lost on its way is lost now
        assert line.got == got
        line.proxy.set_faults(Faults())
        assert await line.ask(b"c", answers=1) == [b"C"]  # it goes on on the same pipe


async def test_a_replayed_message_comes_again_after_others() -> None:
    async with wire(seed=3) as line:
        line.proxy.set_faults(Faults(replay=1))
        await line.ask(b"a", b"b", b"c", answers=12)
        assert line.got[:2] == [b"a", b"a"]
        assert sorted(set(line.got)) == [b"a", b"b", b"c"]
        assert len(line.got) == 6


async def test_flipped_bits_and_missing_ends_get_through_nng() -> None:
    """It has no checksum: that is why our messages have one."""
    async with wire(seed=5) as line:
        line.proxy.set_faults(Faults(flip=0.5, cut=0.5))
        sent = [b"0123456789" * 20 + b"%d" % number for number in range(30)]
        for message in sent:
            while not line.link.send_nowait(message):
                await line.link.wait_sendable()
        with trio.fail_after(10):
            while not any(message not in sent for message in line.got):
                await trio.sleep(0.01)
        assert {"flip", "cut"} & set(line.proxy.done)


@pytest.mark.parametrize("how", ["torn", "closed"])
async def test_a_torn_connection_is_dialed_again(how: str) -> None:
    async with wire() as line:
        if how == "torn":
            line.proxy.set_faults(Faults(tear=1))
            assert line.link.send_nowait(b"a")
        else:
            line.proxy.close_connections()
        with trio.fail_after(5):
            events = [*await line.link.receive_pipe_events()]
            line.proxy.set_faults(Faults())
            while len(events) < 2:
                events += await line.link.receive_pipe_events()
        assert [type(event) for event in events[:2]] == [PipeClosed, PipeOpened]
        assert await line.ask(b"b", answers=1) == [b"B"]
        assert line.got == [b"b"]


async def test_nobody_gets_in_through_a_partition() -> None:
    async with wire() as line:
        line.proxy.set_faults(Faults(up=False, down=False))
        late = NngTransport().dial(f"tcp://127.0.0.1:{line.proxy.port}")
        with trio.move_on_after(0.5) as scope:
            await late.receive_pipe_events()
        assert scope.cancelled_caught
        line.proxy.set_faults(Faults())
        with trio.fail_after(5):
            await late.receive_pipe_events()
        late.close()
