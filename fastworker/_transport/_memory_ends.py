"""The two ends of a pipe in memory, and the frames under way between them.

The network they belong to decides when ends meet and what happens to frames.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

from fastworker._core._pipes import PipeClosed, PipeEvent, PipeOpened, Route
from fastworker._errors import LinkClosed
from fastworker._transport._limits import MAX_BATCH_BYTES, MAX_BATCH_FRAMES, check_frame_size

if TYPE_CHECKING:
    from fastworker._transport._memory import MemoryNetwork

# Frames under way on one pipe in one direction; then the sender has to wait.
MAX_FRAMES_UNDER_WAY = 128


@dataclass(slots=True, order=True)
class UnderWay:
    """One frame that has been sent and not been taken."""

    at: float  # when it arrives; -inf if it is not delayed
    order: float
    serial: int  # no two are equal, so what follows is never compared
    way: Way = field(compare=False)
    route: Route = field(compare=False)
    frame: bytes = field(compare=False)


@dataclass(slots=True, eq=False)
class Way:
    """One direction of a pipe."""

    sender: Endpoint
    receiver: Endpoint
    pipe: int  # as its receiver calls it
    has_room: Callable[[], None]
    frames: int = 0
    latest: float = -math.inf


@dataclass(slots=True, eq=False)
class Pipe:
    """One connection. Each end has its own id for it, as with sockets."""

    link: MemoryLink
    listener: MemoryListener
    to_link: Way
    to_listener: Way
    route: Route


class Bell:
    """Lets one task wait until somebody rings, or until a moment has come."""

    def __init__(self) -> None:
        self._event: anyio.Event | None = None
        self._scope: anyio.CancelScope | None = None

    def ring(self) -> None:
        if self._event is not None:
            self._event.set()

    def ring_at(self, moment: float) -> None:
        """Ring then, unless it is rung before: who waits is not woken for nothing."""
        if self._scope is None:
            self.ring()
        elif moment < self._scope.deadline:
            self._scope.deadline = moment

    async def wait(self, until: float) -> None:
        if self._event is not None:
            raise anyio.BusyResourceError("waiting on")
        self._event = anyio.Event()
        try:
            if until < math.inf:
                with anyio.CancelScope(deadline=until) as self._scope:
                    await self._event.wait()
            else:
                await self._event.wait()
        finally:
            self._event = self._scope = None


class Endpoint:
    """What both ends share."""

    def __init__(self, network: MemoryNetwork, address: str) -> None:
        self._network = network
        self._address = address
        self._owner = network._current_owner()
        self._closed = False
        self._inbox: list[UnderWay] = []  # a heap
        self._events: list[PipeEvent] = []
        # Pipes whose frames may be handed out: until PipeClosed has been.
        self._readable: set[int] = set()
        self._arrival = Bell()
        self._news = Bell()
        self._room = Bell()

    @property
    def address(self) -> str:
        return self._address

    async def receive_pipe_events(self) -> list[PipeEvent]:
        await anyio.lowlevel.checkpoint()
        while True:
            self._check_open()
            if self._events:
                events, self._events = self._events, []
                for event in events:
                    if isinstance(event, PipeClosed):
                        self._readable.discard(event.pipe)
                return events
            await self._network._wait(self._news)

    async def _receive(self) -> list[UnderWay]:
        await anyio.lowlevel.checkpoint()
        while True:
            self._check_open()
            arrived = self._take()
            if arrived:
                return arrived
            await self._network._wait(
                self._arrival, until=self._inbox[0].at if self._inbox else math.inf
            )

    def _take(self) -> list[UnderWay]:
        arrived: list[UnderWay] = []
        size = 0
        while self._inbox and len(arrived) < MAX_BATCH_FRAMES and size < MAX_BATCH_BYTES:
            first = self._inbox[0]
            if first.at > -math.inf and first.at > anyio.current_time():
                break
            heapq.heappop(self._inbox)
            first.way.frames -= 1
            first.way.has_room()
            if first.way.pipe in self._readable:
                arrived.append(first)
                size += len(first.frame)
        return arrived

    def _pipe_opened(self, pipe: int) -> None:
        self._readable.add(pipe)
        self._events.append(PipeOpened(pipe))
        self._news.ring()

    def _pipe_closed(self, pipe: int) -> None:
        # What has arrived may still be read; what is under way is lost.
        if any(item.at > -math.inf for item in self._inbox):
            now = anyio.current_time()
            self._inbox = [
                item for item in self._inbox if item.way.pipe != pipe or item.at <= now
            ]
            heapq.heapify(self._inbox)
        self._events.append(PipeClosed(pipe))
        # All who wait, because there may be a new time to dial again.
        self._ring_all()

    def _ring_all(self) -> None:
        for bell in (self._arrival, self._news, self._room):
            bell.ring()

    def _end(self) -> None:
        self._closed = True
        self._inbox.clear()
        self._events.clear()
        self._ring_all()

    def _check_open(self) -> None:
        if self._closed:
            raise LinkClosed(f"the link to {self._address} has been closed")


class MemoryLink(Endpoint):
    """A dialing end; see :class:`fastworker._transport._abc.Link`."""

    def __init__(self, network: MemoryNetwork, address: str) -> None:
        super().__init__(network, address)
        self._pipe: Pipe | None = None
        self._redial_at: float | None = None

    async def receive(self) -> list[bytes]:
        return [item.frame for item in await self._receive()]

    def send_nowait(self, frame: bytes) -> bool:
        self._check_open()
        check_frame_size(frame)
        if self._pipe is None or not self._has_room(self._pipe):
            return False
        self._network._transmit(self._pipe.to_listener, self._pipe.route, frame)
        return True

    async def wait_sendable(self) -> None:
        await anyio.lowlevel.checkpoint()
        while True:
            self._check_open()
            if self._pipe is not None and self._has_room(self._pipe):
                return
            await self._network._wait(self._room)

    async def run(self) -> None:
        """There is nothing to do beside."""

    def drop_pipe(self) -> None:
        if self._pipe is not None:
            self._network._disconnect(self._pipe)

    def close(self) -> None:
        if not self._closed:
            self._end()
            self._network._link_closed(self)

    @staticmethod
    def _has_room(pipe: Pipe) -> bool:
        return pipe.to_listener.frames < MAX_FRAMES_UNDER_WAY


class MemoryListener(Endpoint):
    """A listening end; see :class:`fastworker._transport._abc.Listener`."""

    def __init__(self, network: MemoryNetwork, address: str) -> None:
        super().__init__(network, address)
        self._pipes: dict[int, Pipe] = {}

    async def receive(self) -> list[tuple[Route, bytes]]:
        return [(item.route, item.frame) for item in await self._receive()]

    def send(self, route: Route, frame: bytes) -> None:
        check_frame_size(frame)
        pipe = self._pipes.get(route.pipe)
        # The header decides too, so that a test notices when it is not echoed.
        if pipe is None or pipe.route != route:
            return
        if pipe.to_link.frames < MAX_FRAMES_UNDER_WAY:
            self._network._transmit(pipe.to_link, route, frame)

    async def run_backlog(self) -> None:
        """Wait for the end: :meth:`send` never leaves anything for later."""
        while True:
            self._check_open()
            await self._network._wait(self._room)

    def close_pipe(self, pipe: int) -> None:
        if pipe in self._pipes:
            self._network._disconnect(self._pipes[pipe])

    def close(self) -> None:
        if not self._closed:
            self._end()
            self._network._listener_closed(self)
