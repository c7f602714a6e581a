"""A peer's way to the control plane: dialing, redirects, and frames both ways.

Clients (on Trio or asyncio) and subworkers share this shell. It decides
nothing: what arrives is handed to the machine at once, and when the network
can take a frame the machine is asked for what has gathered.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Final, Protocol

import anyio
import anyio.lowlevel

from fastworker._core._bundle import first_bundle, join, split
from fastworker._core._pipes import PipeClosed, PipeEvent, PipeOpened
from fastworker._errors import RemoteProtocolError
from fastworker._transport._abc import Link, Transport
from fastworker._transport._address import replace_port
from fastworker._transport._limits import PAUSE_BYTES

# A control plane that moved to another port is found again by the address
# that was given first, after this many seconds without a pipe.
HOME_SECONDS: Final = 2.0


class Machine(Protocol):
    """What the connection needs of the shell around a client's or subworker's machine."""

    @property
    def has_callers(self) -> bool:
        """Whether frames wake somebody who may have something to say at once."""
        ...

    def take_frames(self, frames: Sequence[bytes | memoryview]) -> None:
        """Apply frames that have arrived."""
        ...

    def take_pipe_event(self, event: PipeEvent) -> None:
        """Apply news of the pipe."""
        ...

    def gather(self) -> None:
        """Make frames of what has gathered and hand them to ``send``."""
        ...

    def pass_deadline(self) -> None:
        """Apply that a deadline may have passed."""
        ...

    def next_deadline(self) -> float:
        """When the machine wants to be called again, on the loop's clock."""
        ...


class Connection:
    """Runs the network side of one machine.

    Args:
      transport: makes the links.
      address: where to dial first.
      machine: told of everything, asked for frames.
    """

    def __init__(self, transport: Transport, address: str, machine: Machine) -> None:
        self._transport = transport
        self._home = address
        self._address = address
        self._machine = machine
        self._link: Link | None = None
        self._outbox: deque[bytes] = deque()
        self._message: bytes | None = None  # made, and not taken by the network yet
        self._pipe: int | None = None
        self._wake = anyio.Event()
        self._pipe_news = anyio.Event()
        self._scope = anyio.CancelScope()
        self._alarm = anyio.CancelScope()

    @property
    def address(self) -> str:
        """The address that is dialed now."""
        return self._address

    def send(self, frame: bytes) -> None:
        """Queue a frame for the current pipe; frames of a pipe die with it."""
        if self._pipe is not None:
            self._outbox.append(frame)

    def wake(self) -> None:
        """Let the machine make frames soon, together with what else comes up."""
        self._wake.set()
        if self._message is not None:
            # The writer waits for the network, and a caller's time runs all the same.
            self.set_alarm()

    def flush(self) -> None:
        """Let the machine make frames now and send what the network takes."""
        if self._message is None:
            self._machine.gather()
        link = self._link
        while link is not None and (self._message is not None or self._outbox):
            if self._message is None:
                count = first_bundle(self._outbox)
                self._message = join([self._outbox.popleft() for _ in range(count)])
                if len(self._message) >= PAUSE_BYTES:
                    # Making it was long enough; the writer goes on after the others.
                    self._wake.set()
                    break
            if not link.send_nowait(self._message):
                self._wake.set()
                break
            self._message = None
        self.set_alarm()

    def set_alarm(self) -> None:
        """Have the machine called at its next deadline.

        Moving an alarm takes 3 µs. One that goes off for nothing takes 100, since a
        task has to be cancelled for it and begin to wait anew.
        """
        deadline = self._machine.next_deadline()
        if deadline != self._alarm.deadline:
            self._alarm.deadline = deadline

    def drop_pipe(self) -> None:
        """Close the current pipe; it is dialed anew."""
        if self._link is not None:
            self._link.drop_pipe()

    def move(self, port: int) -> None:
        """Go on with another port of the same host."""
        self._go_to(replace_port(self._address, port))

    async def run(self) -> None:
        """Keep the connection up until cancelled; nothing is left behind then."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._watch_deadlines)
            while True:
                await self._run_link()

    def _go_to(self, address: str) -> None:
        self._address = address
        self._scope.cancel()

    async def _run_link(self) -> None:
        link = self._link = self._transport.dial(self._address)
        try:
            async with anyio.create_task_group() as group:
                self._scope = group.cancel_scope
                group.start_soon(link.run)
                group.start_soon(self._receive, link)
                group.start_soon(self._receive_pipe_events, link)
                group.start_soon(self._write, link)
                if self._address != self._home:
                    group.start_soon(self._return_home)
        finally:
            self._link = None
            link.close()
            if self._pipe is not None:
                self._on_pipe_event(PipeClosed(self._pipe))

    async def _receive(self, link: Link) -> None:
        while True:
            for message in await link.receive():
                try:
                    frames = split(message)
                except RemoteProtocolError:
                    self.drop_pipe()
                    break
                self._machine.take_frames(frames)
            if self._machine.has_callers:
                self.wake()
            else:
                self.flush()

    async def _receive_pipe_events(self, link: Link) -> None:
        while True:
            for event in await link.receive_pipe_events():
                self._on_pipe_event(event)
            self.flush()

    def _on_pipe_event(self, event: PipeEvent) -> None:
        self._outbox.clear()
        self._message = None
        self._pipe = event.pipe if isinstance(event, PipeOpened) else None
        self._pipe_news.set()
        self._pipe_news = anyio.Event()
        self._machine.take_pipe_event(event)

    async def _write(self, link: Link) -> None:
        while True:
            await self._wake.wait()
            # Let those go first that were just woken: what they have to say
            # goes into the same message.
            await anyio.lowlevel.checkpoint()
            self._wake = anyio.Event()
            if self._message is not None:
                # Nothing is gathered before that one is sent: once more, then.
                self._wake.set()
            self.flush()
            while self._message is not None:
                # Those go first whose time came meanwhile; who of a round does is chance.
                await anyio.lowlevel.checkpoint()
                await link.wait_sendable()
                self.flush()

    async def _watch_deadlines(self) -> None:
        while True:
            with anyio.CancelScope(deadline=self._machine.next_deadline()) as self._alarm:
                await anyio.sleep_forever()
            self._machine.pass_deadline()
            self.flush()

    async def _return_home(self) -> None:
        """Dial the first address again when this one stays without a pipe."""
        while True:
            news = self._pipe_news
            limit = HOME_SECONDS if self._pipe is None else math.inf
            with anyio.move_on_after(limit) as scope:
                await news.wait()
            if scope.cancelled_caught:
                self._go_to(self._home)
                return
