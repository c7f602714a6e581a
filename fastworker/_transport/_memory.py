"""A network inside one process, with the faults of a real one on request.

It keeps the same contract as the sockets do, so everything above can be run
without them: in a test under a virtual clock, in a simulation that replays
from a seed, or for a subworker that lives in its control plane's process.
Nothing here starts a Trio task or reads a clock unless something is delayed:
what is late is found by whoever waits for it.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import anyio
import anyio.lowlevel

from fastworker._core._pipes import PipeClosed, PipeEvent, PipeOpened, Route
from fastworker._errors import AddressInUse, ConfigurationError, LinkClosed
from fastworker._transport._address import is_memory_address, parse_tcp_address
from fastworker._transport._limits import MAX_BATCH_BYTES, MAX_BATCH_FRAMES, check_frame_size

# Frames under way on one pipe in one direction; then the sender has to wait.
MAX_FRAMES_UNDER_WAY = 128
# How many frames may overtake one that is reordered.
_REORDER_REACH = 16
_FIRST_INVENTED_PORT = 20000


@dataclass(frozen=True, slots=True)
class Faults:
    """What the network does to frames.

    Attributes:
      loss: Probability that a frame vanishes.
      duplicate: Probability that a frame arrives twice.
      delay: Mean seconds that a frame is under way, exponentially
          distributed. Frames on one pipe keep their order.
      reorder: Probability that a frame may be overtaken by later ones.
    """

    loss: float = 0.0
    duplicate: float = 0.0
    delay: float = 0.0
    reorder: float = 0.0

    def __post_init__(self) -> None:
        for name in ("loss", "duplicate", "reorder"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigurationError(
                    f"{name} is a probability from 0 to 1, not {getattr(self, name)!r}"
                )
        if not 0.0 <= self.delay < math.inf:
            raise ConfigurationError(
                f"delay is a number of seconds such as 0.01, not {self.delay!r}"
            )


@dataclass(slots=True, order=True)
class _UnderWay:
    """One frame that has been sent and not been taken."""

    at: float  # when it arrives; -inf if it is not delayed
    order: float
    serial: int  # no two are equal, so what follows is never compared
    way: _Way = field(compare=False)
    route: Route = field(compare=False)
    frame: bytes = field(compare=False)


@dataclass(slots=True, eq=False)
class _Way:
    """One direction of a pipe."""

    receiver: _Endpoint
    pipe: int  # as its receiver calls it
    has_room: Callable[[], None]
    frames: int = 0
    latest: float = -math.inf


@dataclass(slots=True, eq=False)
class _Pipe:
    """One connection. Each end has its own id for it, as with sockets."""

    link: MemoryLink
    listener: MemoryListener
    to_link: _Way
    to_listener: _Way
    route: Route


class _Bell:
    """Lets one task wait until somebody rings, or until a moment has come."""

    def __init__(self) -> None:
        self._event: anyio.Event | None = None

    def ring(self) -> None:
        if self._event is not None:
            self._event.set()

    async def wait(self, until: float) -> None:
        if self._event is not None:
            raise anyio.BusyResourceError("waiting on")
        self._event = anyio.Event()
        try:
            with anyio.CancelScope(deadline=until):
                await self._event.wait()
        finally:
            self._event = None


class _Endpoint:
    """What both ends share."""

    def __init__(self, network: MemoryNetwork, address: str) -> None:
        self._network = network
        self._address = address
        self._closed = False
        self._inbox: list[_UnderWay] = []  # a heap
        self._events: list[PipeEvent] = []
        # Pipes whose frames may be handed out: until PipeClosed has been.
        self._readable: set[int] = set()
        self._arrival = _Bell()
        self._news = _Bell()
        self._room = _Bell()

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

    async def _receive(self) -> list[_UnderWay]:
        await anyio.lowlevel.checkpoint()
        while True:
            self._check_open()
            arrived = self._take()
            if arrived:
                return arrived
            await self._network._wait(
                self._arrival, until=self._inbox[0].at if self._inbox else math.inf
            )

    def _take(self) -> list[_UnderWay]:
        arrived: list[_UnderWay] = []
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


class MemoryLink(_Endpoint):
    """A dialing end; see :class:`fastworker._transport._abc.Link`."""

    def __init__(self, network: MemoryNetwork, address: str) -> None:
        super().__init__(network, address)
        self._pipe: _Pipe | None = None
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

    def drop_pipe(self) -> None:
        if self._pipe is not None:
            self._network._disconnect(self._pipe)

    def close(self) -> None:
        if not self._closed:
            self._end()
            self._network._link_closed(self)

    @staticmethod
    def _has_room(pipe: _Pipe) -> bool:
        return pipe.to_listener.frames < MAX_FRAMES_UNDER_WAY


class MemoryListener(_Endpoint):
    """A listening end; see :class:`fastworker._transport._abc.Listener`."""

    def __init__(self, network: MemoryNetwork, address: str) -> None:
        super().__init__(network, address)
        self._pipes: dict[int, _Pipe] = {}

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


class MemoryNetwork:
    """Links and listeners of one event loop, Trio's or asyncio's.

    Addresses are names: ``memory://control-plane``, or TCP addresses of which
    only the spelling counts (``localhost`` is not ``127.0.0.1``). The same
    calls, seed and clock give the same network again.

    Pipe ids are negative and unique in one network.

    Args:
      random: Decides about faults.
      faults: What happens to frames; may be replaced at any time by setting
          :attr:`faults`.
      redial_delay: Seconds until a link whose pipe broke dials again.
    """

    def __init__(
        self,
        *,
        random: Random | None = None,
        faults: Faults = Faults(),
        redial_delay: float = 0.05,
    ) -> None:
        self.faults = faults
        self._random = Random(0) if random is None else random  # noqa: S311
        self._redial_delay = redial_delay
        self._listeners: dict[str, MemoryListener] = {}
        self._links: dict[str, list[MemoryLink]] = {}
        self._partitioned: set[str] = set()
        self._redials: list[tuple[float, int, MemoryLink]] = []  # a heap
        self._serials = itertools.count()
        self._pipe_ids = itertools.count(-1, -1)
        self._ports = itertools.count(_FIRST_INVENTED_PORT)

    def dial(self, address: str) -> MemoryLink:
        if not is_memory_address(address):
            parse_tcp_address(address, listening=False)
        link = MemoryLink(self, address)
        self._links.setdefault(address, []).append(link)
        self._connect(link)
        return link

    def listen(self, address: str) -> MemoryListener:
        if not is_memory_address(address):
            host, port = parse_tcp_address(address, listening=True)
            while port == 0:
                invented = next(self._ports)
                if f"tcp://{host}:{invented}" not in self._listeners:
                    port = invented
            address = f"tcp://{host}:{port}"
        if address in self._listeners:
            raise AddressInUse(address)
        listener = MemoryListener(self, address)
        self._listeners[address] = listener
        self._connect_all(address)
        return listener

    def partition(self, address: str) -> None:
        """Let every frame to and from ``address`` vanish, unnoticed by anybody.

        Pipes stay open, as they do when a cable is pulled; new ones do not
        come up before :meth:`heal`.
        """
        self._partitioned.add(address)

    def heal(self, address: str) -> None:
        """End a partition; lost frames stay lost."""
        self._partitioned.discard(address)
        self._connect_all(address)

    def reset_pipes(self, address: str) -> None:
        """Close every pipe to ``address``; links dial again after a while."""
        listener = self._listeners.get(address)
        if listener is not None:
            for pipe in list(listener._pipes.values()):
                self._disconnect(pipe)

    def _transmit(self, way: _Way, route: Route, frame: bytes) -> None:
        faults, random = self.faults, self._random
        if way.receiver._address in self._partitioned:
            return
        if faults.loss and random.random() < faults.loss:
            return
        copies = 2 if faults.duplicate and random.random() < faults.duplicate else 1
        for _ in range(copies):
            serial = next(self._serials)
            order: float = serial
            at = -math.inf
            if faults.delay:
                at = anyio.current_time() + random.expovariate(1 / faults.delay)
            if faults.reorder and random.random() < faults.reorder:
                order += random.randrange(1, _REORDER_REACH) + 0.5
            else:
                way.latest = at = max(at, way.latest)
            way.frames += 1
            item = _UnderWay(at, order, serial, way, route, bytes(frame))
            heapq.heappush(way.receiver._inbox, item)
        way.receiver._arrival.ring()

    async def _wait(self, bell: _Bell, until: float = math.inf) -> None:
        """Wait for a bell; on the way, let links dial whose time has come.

        There is no Trio task of the network that could do it. Every end of a
        pipe that closes is woken, so somebody who cares always knows the time.
        """
        if self._redials:
            until = min(until, self._redials[0][0])
        await bell.wait(until)
        while self._redials and self._redials[0][0] <= anyio.current_time():
            at, _, link = heapq.heappop(self._redials)
            if link._redial_at == at:
                link._redial_at = None
                self._connect(link)

    def _connect_all(self, address: str) -> None:
        for link in self._links.get(address, []):
            self._connect(link)

    def _connect(self, link: MemoryLink) -> None:
        address = link._address
        listener = self._listeners.get(address)
        if listener is None or address in self._partitioned:
            return
        if link._closed or link._pipe is not None or link._redial_at is not None:
            return
        here, there = next(self._pipe_ids), next(self._pipe_ids)
        pipe = _Pipe(
            link,
            listener,
            to_link=_Way(link, here, has_room=_nothing),
            to_listener=_Way(listener, there, has_room=link._room.ring),
            route=Route(there, b"memory%d" % there),
        )
        link._pipe = pipe
        listener._pipes[there] = pipe
        link._pipe_opened(here)
        listener._pipe_opened(there)
        link._room.ring()

    def _disconnect(self, pipe: _Pipe) -> None:
        link, listener = pipe.link, pipe.listener
        link._pipe = None
        del listener._pipes[pipe.to_listener.pipe]
        if not link._closed:
            link._redial_at = anyio.current_time() + self._redial_delay
            heapq.heappush(self._redials, (link._redial_at, next(self._serials), link))
            link._pipe_closed(pipe.to_link.pipe)
        if not listener._closed:
            listener._pipe_closed(pipe.to_listener.pipe)

    def _link_closed(self, link: MemoryLink) -> None:
        self._links[link._address].remove(link)
        if link._pipe is not None:
            self._disconnect(link._pipe)

    def _listener_closed(self, listener: MemoryListener) -> None:
        del self._listeners[listener._address]
        for pipe in list(listener._pipes.values()):
            self._disconnect(pipe)


def _nothing() -> None:
    pass
