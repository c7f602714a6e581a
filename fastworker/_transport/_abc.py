"""Links and listeners: the whole network surface of FastWorker.

A *link* is a peer's end: it dials one address and has at most one pipe at a
time. A *listener* accepts many pipes. Frames are ``bytes``; a frame arrives
whole or not at all. The network may drop, double, delay or reorder frames and
close pipes at any time, and "sent" never means "delivered": the session link
in ``_core`` is what makes requests exactly-once on top of this.

Frames and news of pipes come by different methods, so a listener may hand out
a frame before it has told of the frame's pipe. It never hands one out after
:class:`PipeClosed` has been returned for its pipe.

Every waiting method may be cancelled at any moment without losing anything:
it takes what has arrived only after its last checkpoint. At most one Trio or
asyncio task may wait in each method of one object. Everything else is
synchronous and never blocks.
"""

from __future__ import annotations

from typing import Protocol

from fastworker._core._pipes import PipeClosed as PipeClosed
from fastworker._core._pipes import PipeEvent as PipeEvent
from fastworker._core._pipes import PipeOpened as PipeOpened
from fastworker._core._pipes import Route as Route

# One frame may hold one item of 16 MiB and its envelope; batches are cut far
# below. The receiver's limit has slack over the sender's, because NNG closes
# the pipe, and so drops everything else on it, when a frame is too long.
MAX_FRAME_BYTES = 17 * 1024 * 1024


class Link(Protocol):
    """A dialing end. It reconnects by itself until it is closed."""

    @property
    def address(self) -> str:
        """The address that is dialed, as it was given."""
        ...

    async def receive(self) -> list[bytes]:
        """Wait for frames and return some that have arrived, at least one.

        The batch is bounded, so that a flooding peer cannot keep the caller
        from its other work.

        Raises:
          LinkClosed: the link has been closed.
        """
        ...

    async def receive_pipe_events(self) -> list[PipeEvent]:
        """Wait for pipes to open or close and return all news, in order.

        Raises:
          LinkClosed: the link has been closed.
        """
        ...

    def send_nowait(self, frame: bytes) -> bool:
        """Hand one frame to the network, or return False if it takes none now.

        False while there is no pipe or while the pipe is busy; nothing was
        kept then. Wait with :meth:`wait_sendable`.

        Raises:
          LinkClosed: the link has been closed.
        """
        ...

    async def wait_sendable(self) -> None:
        """Wait until :meth:`send_nowait` is worth another try.

        Raises:
          LinkClosed: the link has been closed.
        """
        ...

    def drop_pipe(self) -> None:
        """Close the current pipe, if any; the link dials again by itself."""
        ...

    async def run(self) -> None:
        """Do what the link has to do beside; returns at once if that is nothing.

        Start this once, as a child of the task group that owns the link.
        """
        ...

    def close(self) -> None:
        """Release everything. Waiting calls raise LinkClosed. Idempotent."""
        ...


class Listener(Protocol):
    """A listening end."""

    @property
    def address(self) -> str:
        """The address peers can dial; a port of 0 has become the real one."""
        ...

    async def receive(self) -> list[tuple[Route, bytes]]:
        """Wait for frames and return some that have arrived, at least one.

        The batch is bounded, so that one peer cannot keep the caller from
        its other work. Raises LinkClosed when the listener is closed.
        """
        ...

    async def receive_pipe_events(self) -> list[PipeEvent]:
        """Wait for pipes to open or close and return all news, in order."""
        ...

    def send(self, route: Route, frame: bytes) -> None:
        """Send a frame back along a route, now or as soon as there is room.

        Frames to a route whose pipe is gone vanish. So does a frame that
        finds the bounded backlog full: the peer will ask again.
        """
        ...

    async def run_backlog(self) -> None:
        """Send what :meth:`send` could not send at once; never returns.

        So does whatever else the listener has to do beside: a pipe whose peer has
        to prove itself opens only while this runs. Start this once, as a child of
        the nursery that owns the listener.
        """
        ...

    def close_pipe(self, pipe: int) -> None:
        """Close one pipe; no error if it is already gone."""
        ...

    def close(self) -> None:
        """Release everything. Waiting calls raise LinkClosed. Idempotent."""
        ...


class Transport(Protocol):
    """Makes links and listeners."""

    def dial(self, address: str) -> Link:
        """Start dialing ``address`` in the background and return at once.

        Raises:
          ConfigurationError: the address cannot be one.
        """
        ...

    def dial_pair(self, address: str) -> Link:
        """As :meth:`dial`, for a plain Pair0 socket that knows nothing of FastWorker.

        Such a socket has one peer at a time. It closes the pipe of a second
        one after that has opened, and maybe taken a frame that nobody sees.

        Raises:
          ConfigurationError: the address cannot be one.
        """
        ...

    def listen(self, address: str) -> Listener:
        """Listen on ``address``; a port of 0 means any free one.

        Raises:
          AddressInUse: somebody else listens there.
          ConfigurationError: the address cannot be listened on.
        """
        ...
