"""What the conformance suite is written with: ends, their news, and round trips."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from random import Random

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from fastworker._errors import LinkClosed
from fastworker._transport._abc import (
    Link,
    Listener,
    PipeClosed,
    PipeEvent,
    PipeOpened,
    Route,
    Transport,
)


class Bench:
    """Makes what the checks are about, lets it run in this task group, and closes it."""

    def __init__(
        self, transport: Transport, make_address: Callable[[], str], group: TaskGroup
    ) -> None:
        self.transport = transport
        self.make_address = make_address
        self._group = group

    @contextmanager
    def listener(self, address: str | None = None, *, runs: bool = True) -> Iterator[Listener]:
        listener = self.transport.listen(self.make_address() if address is None else address)
        if runs:
            self._group.start_soon(_run, listener.run_backlog)
        try:
            yield listener
        finally:
            listener.close()

    @contextmanager
    def link(self, address: str) -> Iterator[Link]:
        link = self.transport.dial(address)
        self._group.start_soon(_run, link.run)
        try:
            yield link
        finally:
            link.close()

    @asynccontextmanager
    async def pair(self) -> AsyncIterator[tuple[Listener, Link]]:
        """A listener and a link that have news of one open pipe each."""
        with self.listener() as listener, self.link(listener.address) as link:
            await link.wait_sendable()
            yield listener, link

    def unused_address(self) -> str:
        with self.listener() as listener:
            return listener.address


async def _run(run: Callable[[], Awaitable[None]]) -> None:
    try:
        await run()
    except LinkClosed:
        pass


class News:
    """Pipe events, one by one."""

    def __init__(self, end: Link | Listener) -> None:
        self._end = end
        self._events: list[PipeEvent] = []

    async def opened(self) -> int:
        event = await self._next()
        assert isinstance(event, PipeOpened), event
        return event.pipe

    async def closed(self) -> int:
        event = await self._next()
        assert isinstance(event, PipeClosed), event
        return event.pipe

    async def _next(self) -> PipeEvent:
        if not self._events:
            self._events = await self._end.receive_pipe_events()
            assert self._events, "receive_pipe_events() returned nothing"
        return self._events.pop(0)


async def send(link: Link, frame: bytes) -> None:
    while not link.send_nowait(frame):
        await link.wait_sendable()


async def request(listener: Listener, link: Link, frame: bytes) -> Route:
    """Send a frame and take it at the other end."""
    await send(link, frame)
    [(route, received)] = await listener.receive()
    assert received == frame
    return route


async def round_trip(listener: Listener, link: Link, frame: bytes) -> Route:
    route = await request(listener, link, frame)
    listener.send(route, frame + b"!")
    assert await link.receive() == [frame + b"!"]
    return route


async def race(random: Random, wait: Callable[[], Awaitable[None]]) -> None:
    """Call ``wait`` and cancel it, perhaps before, while or after it gets something."""

    async def cancel_soon() -> None:
        for _ in range(random.randrange(8)):
            await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(cancel_soon)
        await wait()
        group.cancel_scope.cancel()
