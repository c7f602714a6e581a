"""A network inside one process whose ends may live in different event loops.

A client on asyncio has its own control plane on Trio, in another thread. Each
end waits in the loop it is used in, and whoever has something for it wakes it
there. One lock covers everything; nothing waits or calls out while holding it,
except to post a wake-up. There are no faults and no clock here: for those
there is the network in memory, which belongs to one loop.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import anyio
import anyio.lowlevel
import sniffio

from fastworker._core._pipes import PipeClosed, PipeEvent, PipeOpened, Route
from fastworker._errors import AddressInUse, LinkClosed
from fastworker._transport._address import (
    is_memory_address,
    split_address,
)
from fastworker._transport._limits import MAX_BATCH_BYTES, MAX_BATCH_FRAMES, check_frame_size
from fastworker._transport._memory_ends import MAX_FRAMES_UNDER_WAY

T = TypeVar("T")
_FIRST_INVENTED_PORT = 20000


class InProcessNetwork:
    """Links and listeners of one process; see :class:`fastworker._transport._abc.Transport`.

    Addresses are names: ``memory://control-plane``, or TCP addresses of which
    only the spelling counts. Pipe ids are positive and unique in one network.
    From any thread; the waiting methods of one end belong to one loop.
    """

    def __init__(self) -> None:
        # Reentrant, so that the methods of ends and of the network share it.
        self._lock = threading.RLock()
        self._listeners: dict[str, InProcessListener] = {}
        self._links: dict[str, list[InProcessLink]] = {}
        self._pipe_ids = itertools.count(1)
        self._ports = itertools.count(_FIRST_INVENTED_PORT)

    def dial(self, address: str) -> InProcessLink:
        if not is_memory_address(address):
            split_address(address, listening=False)
        with self._lock:
            link = InProcessLink(self, address)
            self._links.setdefault(address, []).append(link)
            self._connect(link)
        return link

    def dial_pair(self, address: str) -> InProcessLink:
        """As :meth:`dial`: here all sockets are alike."""
        return self.dial(address)

    def listen(self, address: str) -> InProcessListener:
        with self._lock:
            if not is_memory_address(address):
                address = self._with_port(address)
            if address in self._listeners:
                raise AddressInUse(address)
            listener = self._listeners[address] = InProcessListener(self, address)
            for link in self._links.get(address, []):
                self._connect(link)
        return listener

    def _with_port(self, address: str) -> str:
        scheme, host, port = split_address(address, listening=True)
        while port == 0:
            invented = next(self._ports)
            if f"{scheme}://{host}:{invented}" not in self._listeners:
                port = invented
        return f"{scheme}://{host}:{port}"

    # --- under the lock ---

    def _connect(self, link: InProcessLink) -> None:
        listener = self._listeners.get(link.address)
        if listener is None or link._pipe is not None:
            return
        here, there = next(self._pipe_ids), next(self._pipe_ids)
        pipe = _Pipe(
            link,
            listener,
            to_link=_Way(here, has_room=_nothing),
            to_listener=_Way(there, has_room=link._room.ring),
            route=Route(there, b"in-process%d" % there),
        )
        link._pipe = listener._pipes[there] = pipe
        link._open_pipe(here)
        listener._open_pipe(there)

    def _disconnect(self, pipe: _Pipe) -> None:
        pipe.link._pipe = None
        del pipe.listener._pipes[pipe.to_listener.pipe]
        pipe.link._close_pipe(pipe.to_link.pipe)
        pipe.listener._close_pipe(pipe.to_listener.pipe)
        if not pipe.link._is_closed:
            self._connect(pipe.link)

    def _remove_link(self, link: InProcessLink) -> None:
        links = self._links[link.address]
        links.remove(link)
        if not links:
            del self._links[link.address]
        if link._pipe is not None:
            self._disconnect(link._pipe)

    def _remove_listener(self, listener: InProcessListener) -> None:
        del self._listeners[listener.address]
        for pipe in list(listener._pipes.values()):
            self._disconnect(pipe)


@dataclass(slots=True, eq=False)
class _Way:
    """One direction of a pipe."""

    pipe: int  # as its receiver calls it
    has_room: Callable[[], None]
    frames: int = 0  # under way


@dataclass(slots=True, eq=False)
class _Pipe:
    """One connection. Each end has its own id for it, as with sockets."""

    link: InProcessLink
    listener: InProcessListener
    to_link: _Way
    to_listener: _Way
    route: Route


class _Bell:
    """Lets one task of any loop wait until somebody rings. Under the lock."""

    def __init__(self) -> None:
        self._wake: Callable[[], object] | None = None
        self._is_awaited = False

    def ring(self) -> None:
        wake, self._wake = self._wake, None
        if wake is not None:
            try:
                wake()
            except RuntimeError:
                pass  # that loop has ended: nobody waits

    def arm(self) -> anyio.Event:
        if self._is_awaited:
            raise anyio.BusyResourceError("waiting on")
        self._is_awaited = True
        event = anyio.Event()
        self._wake = _in_this_loop(event.set)
        return event

    def disarm(self) -> None:
        self._wake = None
        self._is_awaited = False


def _in_this_loop(call: Callable[[], object]) -> Callable[[], object]:
    """A function that any thread may call: it has ``call`` called in this loop, soon."""
    if sniffio.current_async_library() == "trio":
        import trio  # a program on asyncio need not load it

        return partial(trio.lowlevel.current_trio_token().run_sync_soon, call)
    return partial(asyncio.get_running_loop().call_soon_threadsafe, call)


class _End:
    """What both ends share."""

    def __init__(self, network: InProcessNetwork, address: str) -> None:
        self._network = network
        self._lock = network._lock
        self._address = address
        self._is_closed = False
        self._inbox: deque[tuple[_Way, Route, bytes]] = deque()
        self._events: list[PipeEvent] = []
        # Pipes whose frames may be handed out: until PipeClosed has been.
        self._readable: set[int] = set()
        self._arrival, self._news, self._room = _Bell(), _Bell(), _Bell()

    @property
    def address(self) -> str:
        return self._address

    async def receive_pipe_events(self) -> list[PipeEvent]:
        return await self._wait(self._news, self._take_events)

    async def _wait(self, bell: _Bell, take: Callable[[], T | None]) -> T:
        """Wait until ``take`` gives something; nothing is taken before the last checkpoint."""
        await anyio.lowlevel.checkpoint()
        while True:
            with self._lock:
                self._check_open()
                taken = take()
                if taken:
                    return taken
                rung = bell.arm()
            try:
                await rung.wait()
            finally:
                with self._lock:
                    bell.disarm()

    def _take_events(self) -> list[PipeEvent]:
        events, self._events = self._events, []
        for event in events:
            if isinstance(event, PipeClosed):
                self._readable.discard(event.pipe)
        return events

    def _take_frames(self) -> list[tuple[Route, bytes]]:
        arrived: list[tuple[Route, bytes]] = []
        size = 0
        while self._inbox and len(arrived) < MAX_BATCH_FRAMES and size < MAX_BATCH_BYTES:
            way, route, frame = self._inbox.popleft()
            way.frames -= 1
            way.has_room()
            if way.pipe in self._readable:
                arrived.append((route, frame))
                size += len(frame)
        return arrived

    def _put(self, way: _Way, route: Route, frame: bytes) -> None:
        way.frames += 1
        self._inbox.append((way, route, bytes(frame)))
        self._arrival.ring()

    def _open_pipe(self, pipe: int) -> None:
        self._readable.add(pipe)
        self._events.append(PipeOpened(pipe))
        self._news.ring()
        self._room.ring()

    def _close_pipe(self, pipe: int) -> None:
        if not self._is_closed:
            self._events.append(PipeClosed(pipe))
            self._news.ring()

    def _end(self) -> None:
        self._is_closed = True
        self._inbox.clear()
        self._events.clear()
        for bell in (self._arrival, self._news, self._room):
            bell.ring()

    def _check_open(self) -> None:
        if self._is_closed:
            raise LinkClosed(f"the link to {self._address} has been closed")


class InProcessLink(_End):
    """A dialing end; see :class:`fastworker._transport._abc.Link`."""

    def __init__(self, network: InProcessNetwork, address: str) -> None:
        super().__init__(network, address)
        self._pipe: _Pipe | None = None

    async def receive(self) -> list[bytes]:
        return [frame for _, frame in await self._wait(self._arrival, self._take_frames)]

    def send_nowait(self, frame: bytes) -> bool:
        check_frame_size(frame)
        with self._lock:
            self._check_open()
            pipe = self._pipe
            if pipe is None or not self._has_room():
                return False
            pipe.listener._put(pipe.to_listener, pipe.route, frame)
        return True

    async def wait_sendable(self) -> None:
        await self._wait(self._room, self._has_room)

    async def run(self) -> None:
        """There is nothing to do beside."""

    def drop_pipe(self) -> None:
        with self._lock:
            if self._pipe is not None:
                self._network._disconnect(self._pipe)

    def close(self) -> None:
        with self._lock:
            if not self._is_closed:
                self._end()
                self._network._remove_link(self)

    def _has_room(self) -> bool:
        pipe = self._pipe
        return pipe is not None and pipe.to_listener.frames < MAX_FRAMES_UNDER_WAY


class InProcessListener(_End):
    """A listening end; see :class:`fastworker._transport._abc.Listener`."""

    def __init__(self, network: InProcessNetwork, address: str) -> None:
        super().__init__(network, address)
        self._pipes: dict[int, _Pipe] = {}

    async def receive(self) -> list[tuple[Route, bytes]]:
        return await self._wait(self._arrival, self._take_frames)

    def send(self, route: Route, frame: bytes) -> None:
        check_frame_size(frame)
        with self._lock:
            pipe = self._pipes.get(route.pipe)
            if pipe is None or pipe.route != route:
                return
            if pipe.to_link.frames < MAX_FRAMES_UNDER_WAY:
                pipe.link._put(pipe.to_link, route, frame)

    async def run_backlog(self) -> None:
        """Wait for the end: :meth:`send` never leaves anything for later."""
        await self._wait(self._room, _never)

    def close_pipe(self, pipe: int) -> None:
        with self._lock:
            if pipe in self._pipes:
                self._network._disconnect(self._pipes[pipe])

    def close(self) -> None:
        with self._lock:
            if not self._is_closed:
                self._end()
                self._network._remove_listener(self)


def _never() -> bool:
    return False


def _nothing() -> None:
    pass
