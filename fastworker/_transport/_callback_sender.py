"""Tells one plain listener of tasks' ends, and whether it has got that.

A Pair0 listener answers nothing, so all there is to go by is its pipe. What
counts as delivered: the pipe took the frame, it could take another one after
that (so the frame is in the kernel's hands), and it was still open a moment
later. The moment is for a listener that has another peer already: it accepts
our connection first, closes it then, and a frame sent in between is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import anyio

from fastworker._core._pipes import PipeOpened
from fastworker._errors import LinkClosed
from fastworker._transport._abc import Link

# Seconds that a listener has to accept the connection, and to take a frame.
CONNECT_SECONDS: Final = 5.0
SEND_SECONDS: Final = 5.0
# How long the pipe has to outlive the last frame.
PROOF_SECONDS: Final = 0.1


class Delivery(NamedTuple):
    """How many of the first frames were delivered, and why the next one was not."""

    delivered: int
    error: str = ""


class CallbackSender:
    """One connection to one address.

    :meth:`run` has to run while :meth:`deliver` is called, which only one task
    may do at a time. Closing the link ends both.

    Args:
      link: made by ``dial_pair``. It is the caller's, who closes it.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._pipe: int | None = None
        self._is_closed = False
        self._pipe_news = anyio.Event()
        # Cancelled when the pipe that it rests on is gone.
        self._delivery: anyio.CancelScope | None = None

    async def run(self) -> None:
        """Watch the pipe, and throw away what the listener says, until the link is closed."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._watch)
            group.start_soon(self._discard)

    async def deliver(self, frames: Sequence[bytes]) -> Delivery:
        """Send frames in order, and return when it is known what came of it.

        If the pipe closes, none of them counts, although some may have arrived.

        Cancellation:
          Any of the frames may have arrived. The link should be closed.
        """
        with anyio.move_on_after(CONNECT_SECONDS):
            while self._pipe is None and not self._is_closed:
                await self._pipe_news.wait()
        if self._pipe is None:
            return Delivery(0, f"no listener was reached within {CONNECT_SECONDS:g} s")
        sent = 0
        with anyio.CancelScope() as self._delivery:
            for frame in frames:
                if not await self._send(frame):
                    break
                sent += 1
            if sent:
                await anyio.sleep(PROOF_SECONDS)
        if self._delivery.cancel_called:
            return Delivery(0, f"the listener closed the connection within {PROOF_SECONDS:g} s")
        if sent < len(frames):
            return Delivery(sent, f"the listener did not read for {SEND_SECONDS:g} s")
        return Delivery(sent)

    async def _send(self, frame: bytes) -> bool:
        """Send one frame, and return whether the pipe had room for another after it."""
        with anyio.move_on_after(SEND_SECONDS):
            try:
                await self._link.wait_sendable()
                while not self._link.send_nowait(frame):
                    await self._link.wait_sendable()
                await self._link.wait_sendable()
                return True
            except LinkClosed:
                self._note_pipe(None)
        return False

    async def _watch(self) -> None:
        try:
            while True:
                for event in await self._link.receive_pipe_events():
                    self._note_pipe(event.pipe if isinstance(event, PipeOpened) else None)
        except LinkClosed:
            self._is_closed = True
            self._note_pipe(None)

    def _note_pipe(self, pipe: int | None) -> None:
        self._pipe = pipe
        self._pipe_news.set()
        self._pipe_news = anyio.Event()
        if pipe is None and self._delivery is not None:
            self._delivery.cancel()

    async def _discard(self) -> None:
        try:
            while True:
                await self._link.receive()
        except LinkClosed:
            return
