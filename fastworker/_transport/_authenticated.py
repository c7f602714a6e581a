"""Links and listeners whose peers have proved a role before anything is heard of them.

A layer between any transport and the machines, as TLS is: a pipe opens once the
handshake (``_core/_handshake.py``) has succeeded, with the role that was proved,
and every message on it is sealed (``_core/_seal.py``). What is decided is decided
by two gates, machines in ``_core``; here is only what has to wait.

Each end has a task of its own, :meth:`run` or :meth:`run_backlog`: handshakes go
on also while nobody waits for frames. Whoever waits for frames takes them from
the inner end directly, so that a message has no further hop.
"""

from __future__ import annotations

import abc
import math
import os
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

import anyio
import anyio.lowlevel
import msgspec

from fastworker._core._dialer_gate import (
    AnswerArrived,
    DialerGate,
    DialerGateEvent,
    Drop,
    Enter,
    Refuse,
    Say,
)
from fastworker._core._handshake import Seals, is_handshake
from fastworker._core._keys import RoleKeys
from fastworker._core._listener_gate import (
    Admit,
    Expel,
    GateEvent,
    GateStatistics,
    ListenerGate,
    MessageArrived,
    SendMessage,
    Warn,
)
from fastworker._core._messages import PROTOCOL_VERSION
from fastworker._core._pipes import DeadlinePassed, PipeClosed, PipeEvent, PipeOpened, Route
from fastworker._core._roles import PeerRole
from fastworker._errors import LinkClosed
from fastworker._transport._abc import Link, Listener, Transport
from fastworker._transport._limits import check_frame_size
from fastworker._transport._memory_ends import Bell


class _Taking:
    """A wait of the inner end that two of us may want: one waits, the other for that one."""

    def __init__(self, take: Callable[[], Awaitable[None]]) -> None:
        self._take = take
        self._is_taken = False
        self._bell = Bell()

    async def wait(self) -> None:
        """Return once something may have come."""
        if self._is_taken:
            await self._bell.wait(math.inf)
            return
        self._is_taken = True
        try:
            await self._take()
        finally:
            self._is_taken = False
            self._bell.ring()


class _End(abc.ABC):
    """What both ends share: what has come and was not fetched, and the gate's time."""

    def __init__(self, inner: Link | Listener) -> None:
        self._inner_end = inner
        self._is_closed = False
        self._inbox: list[tuple[Route, bytes]] = []
        self._events: list[PipeEvent] = []
        self._news = Bell()
        self._handshakes = Bell()  # rung when there are some, or the inbox is empty
        self._taking = _Taking(self._take)
        self._alarm = anyio.CancelScope()
        self._refused_messages = 0

    @property
    def address(self) -> str:
        return self._inner_end.address

    async def receive_pipe_events(self) -> list[PipeEvent]:
        await anyio.lowlevel.checkpoint()
        while not self._events:
            self._check_open()
            await self._news.wait(math.inf)
        self._check_open()
        events, self._events = self._events, []
        gone = {event.pipe for event in events if isinstance(event, PipeClosed)}
        if gone and self._inbox:
            self._inbox = [item for item in self._inbox if item[0].pipe not in gone]
            self._handshakes.ring()
        return events

    def close(self) -> None:
        self._is_closed = True
        self._inbox.clear()
        self._events.clear()
        self._inner_end.close()
        self._news.ring()
        self._handshakes.ring()

    async def _receive(self) -> list[tuple[Route, bytes]]:
        if self._inbox:
            await anyio.lowlevel.checkpoint()
        while not self._inbox:
            self._check_open()
            await self._taking.wait()
        self._check_open()
        arrived, self._inbox = self._inbox, []
        if self._expects_handshakes():
            self._handshakes.ring()
        return arrived

    async def _run(self, run_inner: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do what an end does by itself, until it is closed."""
        self._check_open()
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(run_inner)
                group.start_soon(self._read_news)
                group.start_soon(self._read_handshakes)
        except* LinkClosed:
            pass
        raise self._closed_error()

    async def _read_news(self) -> None:
        while True:
            with anyio.CancelScope(deadline=self._next_deadline()) as self._alarm:
                for event in await self._inner_end.receive_pipe_events():
                    self._on_pipe_event(event)
            if self._next_deadline() <= anyio.current_time():
                self._on_deadline()
            self._check_open()

    async def _read_handshakes(self) -> None:
        """Take frames while nobody else may, and no more than one batch of others."""
        while True:
            self._check_open()
            if self._expects_handshakes() and not self._inbox:
                await self._taking.wait()
            else:
                await self._handshakes.wait(math.inf)

    def _tell(self, event: PipeEvent) -> None:
        self._events.append(event)
        self._news.ring()

    def _note_change(self) -> None:
        """Something happened at the gate: it may want time, or frames."""
        if self._expects_handshakes():
            self._handshakes.ring()
        deadline = self._next_deadline()
        if deadline < self._alarm.deadline:
            self._alarm.deadline = deadline

    def _check_open(self) -> None:
        if self._is_closed:
            raise self._closed_error()

    def _closed_error(self) -> LinkClosed:
        return LinkClosed(f"the link to {self.address} has been closed")

    @abc.abstractmethod
    async def _take(self) -> None: ...

    @abc.abstractmethod
    def _on_pipe_event(self, event: PipeEvent) -> None: ...

    @abc.abstractmethod
    def _on_deadline(self) -> None: ...

    @abc.abstractmethod
    def _next_deadline(self) -> float: ...

    @abc.abstractmethod
    def _expects_handshakes(self) -> bool: ...


class AuthenticatedLink(_End):
    """A dialing end; see :class:`fastworker._transport._abc.Link`."""

    def __init__(
        self, inner: Link, gate: DialerGate, on_refused: Callable[[str, bool], None]
    ) -> None:
        super().__init__(inner)
        self._inner = inner
        self._gate = gate
        self._on_refused = on_refused
        self._seals: Seals | None = None
        self._pipe: int | None = None  # that has been told of
        self._entered = Bell()
        self._unsent: tuple[bytes, bytes] | None = None  # a frame, and what it was made to

    async def receive(self) -> list[bytes]:
        return [frame for _, frame in await self._receive()]

    def send_nowait(self, frame: bytes) -> bool:
        self._check_open()
        check_frame_size(frame)
        if self._seals is None:
            return False
        if self._unsent is not None and self._unsent[0] is frame:
            sealed = self._unsent[1]  # to seal 16 MiB again would take its time
        else:
            sealed = self._seals.sealer.seal(frame)
        is_sent = self._inner.send_nowait(sealed)
        self._unsent = None if is_sent else (frame, sealed)
        return is_sent

    async def wait_sendable(self) -> None:
        await anyio.lowlevel.checkpoint()
        while True:
            self._check_open()
            if self._seals is None:
                await self._entered.wait(math.inf)
                continue
            await self._inner.wait_sendable()
            if self._seals is not None:
                return

    def drop_pipe(self) -> None:
        self._inner.drop_pipe()

    async def run(self) -> None:
        await self._run(self._inner.run)

    def close(self) -> None:
        super().close()
        self._entered.ring()

    async def _take(self) -> None:
        for message in await self._inner.receive():
            if is_handshake(message):
                self._carry_out(AnswerArrived(message))
            elif self._seals is not None and self._pipe is not None:
                frame = self._seals.opener.open(message)
                if frame is not None:
                    self._inbox.append((Route(self._pipe, b""), frame))

    def _on_pipe_event(self, event: PipeEvent) -> None:
        self._seals = self._unsent = None
        if isinstance(event, PipeClosed) and self._pipe is not None:
            self._pipe = None
            self._tell(event)
        self._carry_out(event)

    def _on_deadline(self) -> None:
        self._carry_out(DeadlinePassed())

    def _carry_out(self, event: DialerGateEvent) -> None:
        for command in self._gate.handle(event, now=anyio.current_time()):
            match command:
                case Say(message=message):
                    # If the network takes none now, it is said again a while later.
                    self._inner.send_nowait(message)
                case Enter(pipe=pipe, seals=seals):
                    self._seals, self._pipe = seals, pipe
                    self._tell(PipeOpened(pipe))
                    self._entered.ring()
                case Refuse(reason=reason, is_final=is_final):
                    self._on_refused(reason, is_final)
                case Drop():
                    self._inner.drop_pipe()
        self._note_change()

    def _next_deadline(self) -> float:
        return self._gate.next_deadline()

    def _expects_handshakes(self) -> bool:
        return self._gate.is_waiting


class AuthenticatedListener(_End):
    """A listening end; see :class:`fastworker._transport._abc.Listener`."""

    def __init__(
        self, inner: Listener, gate: ListenerGate, on_warning: Callable[[str], None]
    ) -> None:
        super().__init__(inner)
        self._inner = inner
        self._gate = gate
        self._on_warning = on_warning
        self._members: dict[int, Seals] = {}  # by pipe

    async def receive(self) -> list[tuple[Route, bytes]]:
        return await self._receive()

    def send(self, route: Route, frame: bytes) -> None:
        check_frame_size(frame)
        seals = self._members.get(route.pipe)
        if seals is not None:
            self._inner.send(route, seals.sealer.seal(frame))

    async def run_backlog(self) -> None:
        await self._run(self._inner.run_backlog)

    def close_pipe(self, pipe: int) -> None:
        self._inner.close_pipe(pipe)

    def statistics(self) -> GateStatistics:
        """What has come of the handshakes, and what was no message of a member."""
        of_members = sum(seals.opener.refused for seals in self._members.values())
        return msgspec.structs.replace(
            self._gate.statistics(), refused_messages=self._refused_messages + of_members
        )

    async def _take(self) -> None:
        for route, message in await self._inner.receive():
            seals = self._members.get(route.pipe)
            if seals is None or is_handshake(message):
                self._carry_out(MessageArrived(route, message))
            else:
                frame = seals.opener.open(message)
                if frame is not None:
                    self._inbox.append((route, frame))

    def _on_pipe_event(self, event: PipeEvent) -> None:
        if isinstance(event, PipeClosed):
            seals = self._members.pop(event.pipe, None)
            if seals is not None:
                self._refused_messages += seals.opener.refused
                self._tell(event)
        self._carry_out(event)

    def _on_deadline(self) -> None:
        self._carry_out(DeadlinePassed())

    def _carry_out(self, event: GateEvent) -> None:
        for command in self._gate.handle(event, now=anyio.current_time()):
            match command:
                case SendMessage(route=route, message=message):
                    self._inner.send(route, message)
                case Admit(pipe=pipe, authority=authority, remote=remote, seals=seals):
                    self._members[pipe] = seals
                    self._tell(PipeOpened(pipe, authority, remote))
                case Expel(pipe=pipe):
                    self._inner.close_pipe(pipe)
                case Warn(text=text):
                    self._on_warning(text)
        self._note_change()

    def _next_deadline(self) -> float:
        return self._gate.next_deadline()

    def _expects_handshakes(self) -> bool:
        return self._gate.has_strangers


def _ignore(*_: object) -> None:
    pass


class AuthenticatedTransport:
    """Makes links and listeners that prove a role, on top of another transport.

    Args:
      inner: makes the connections.
      keys: of each role that has a token. A listener lets in who proves one of them.
      role: what links prove; there must be a key for it.
      epoch: asked for the control plane's start counter, which becomes part of
        what is proved.
      on_refused: told in the loop why the other side of a link is not believed, or
        does not believe us, and whether it will be so next time too.
      on_warning: told in the loop of strangers that were refused.
    """

    def __init__(
        self,
        inner: Transport,
        keys: Mapping[PeerRole, RoleKeys],
        *,
        role: PeerRole | None = None,
        epoch: Callable[[], int] = lambda: 0,
        on_refused: Callable[[str, bool], None] = _ignore,
        on_warning: Callable[[str], None] = _ignore,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._inner = inner
        self._keys = keys
        self._role = role
        self._epoch = epoch
        self._on_refused = on_refused
        self._on_warning = on_warning
        self._random_bytes = random_bytes

    def dial(self, address: str) -> AuthenticatedLink:
        assert self._role is not None, "this transport is made to listen"
        gate = DialerGate(
            self._keys[self._role],
            self._role,
            protocol=PROTOCOL_VERSION,
            random_bytes=self._random_bytes,
        )
        return AuthenticatedLink(self._inner.dial(address), gate, self._on_refused)

    def dial_pair(self, address: str) -> Link:
        """As the inner one: who is called back is no peer, and has no token."""
        return self._inner.dial_pair(address)

    def listen(self, address: str) -> AuthenticatedListener:
        gate = ListenerGate(self._keys, epoch=self._epoch, random_bytes=self._random_bytes)
        return AuthenticatedListener(self._inner.listen(address), gate, self._on_warning)
