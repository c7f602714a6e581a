"""What a machine has to say is sent, whenever it comes up and whatever the network takes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from fastworker._core._bundle import split
from fastworker._core._pipes import PipeEvent, PipeOpened
from fastworker._transport._abc import Link, Listener
from fastworker._transport._connection import Connection

pytestmark = pytest.mark.trio


class ALink:
    """A network that takes nothing while it ``refuses``."""

    address = "tcp://127.0.0.1:1"

    def __init__(self) -> None:
        self.refuses = False
        self.sent: list[bytes] = []
        self._news: list[PipeEvent] = [PipeOpened(1)]

    async def receive(self) -> list[bytes]:
        await trio.sleep_forever()
        raise AssertionError

    async def receive_pipe_events(self) -> list[PipeEvent]:
        if not self._news:
            await trio.sleep_forever()
        news, self._news = self._news, []
        await trio.lowlevel.checkpoint()
        return news

    def send_nowait(self, frame: bytes) -> bool:
        if not self.refuses:
            self.sent += map(bytes, split(frame))
        return not self.refuses

    async def wait_sendable(self) -> None:
        await trio.lowlevel.checkpoint()

    def drop_pipe(self) -> None: ...

    async def run(self) -> None: ...

    def close(self) -> None: ...


class ANetwork:
    def __init__(self) -> None:
        self.link = ALink()

    def dial(self, address: str) -> Link:
        return self.link

    dial_pair = dial

    def listen(self, address: str) -> Listener:
        raise AssertionError


class Speaker:
    """A machine that says what it is told to say."""

    has_callers = True

    def __init__(self) -> None:
        self.network = ANetwork()
        self.connection = Connection(self.network, ALink.address, self)
        self._words: list[bytes] = []

    def say(self, word: bytes) -> None:
        self._words.append(word)
        self.connection.wake()

    def gather(self) -> None:
        while self._words:
            self.connection.send(self._words.pop(0))

    def take_frames(self, frames: Sequence[bytes | memoryview]) -> None: ...

    def take_pipe_event(self, event: PipeEvent) -> None: ...

    def pass_deadline(self) -> None: ...

    def next_deadline(self) -> float:
        return float("inf")


@pytest.mark.parametrize("turns", range(6))
async def test_what_comes_up_while_a_message_waits_for_the_network_is_sent_too(
    turns: int, autojump_clock: MockClock
) -> None:
    speaker = Speaker()
    link = speaker.network.link
    async with trio.open_nursery() as nursery:
        nursery.start_soon(speaker.connection.run)
        await wait_all_tasks_blocked()
        # Who of a turn of the loop comes first is chance, so each is tried often.
        for number in range(50):
            first, second = b"first %d" % number, b"second %d" % number
            link.refuses = True
            speaker.say(first)
            speaker.connection.flush()
            link.refuses = False
            for _ in range(turns):
                await trio.lowlevel.checkpoint()
            speaker.say(second)
            await wait_all_tasks_blocked()
            assert link.sent[-2:] == [first, second]
        nursery.cancel_scope.cancel()
