"""Links and listeners over TCP, on raw NNG sockets.

Raw REQ and REP carry frames both ways on one pipe and give every request a
header that leads the reply back; nothing else of NNG's request protocol (its
resending, its one request at a time) is wanted here. The loop polls NNG's
descriptors and drains the socket until it is empty, which loses nothing when
a wait is cancelled, on Trio and on asyncio alike.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable
from typing import Final

import anyio
import anyio.lowlevel

from fastworker._core._pipes import PipeClosed, PipeEvent, PipeOpened, Route
from fastworker._core._roles import EVERYTHING, Authority
from fastworker._errors import ConfigurationError, LinkClosed
from fastworker._transport._address import TLS_SCHEME, split_address
from fastworker._transport._limits import MAX_BATCH_BYTES, MAX_BATCH_FRAMES, check_frame_size
from fastworker._transport._nng_socket import Arrived, News, RawSocket, check_process
from fastworker._transport._nng_tls import peer_name
from fastworker._transport._silent_peers import LOOK_SECONDS, Place, SilentPeers, place
from fastworker._transport._tls import TlsContext
from fastworker._transport._trouble import find_trouble

# Replies that wait because NNG's own queue is full.
MAX_BACKLOG_BYTES = 64 * 1024 * 1024
# A raw request's header is its id, with the top bit set. The session link has
# its own ids, so this one says nothing.
_REQUEST_HEADER = b"\x80\x00\x00\x00"
# Seconds without a pipe after which it is looked what is wrong, and again at most.
FIRST_DOUBT_SECONDS: Final = 1.0
LONGEST_DOUBT_SECONDS: Final = 60.0
# A peer that is refused comes back at once, and for ever; a log must not flood.
LONGEST_SILENCE_SECONDS: Final = 300.0
_MAX_COUNTED_NAMES: Final = 1000


def _ignore(*_: object) -> None:
    pass


class _Endpoint:
    """What both ends share: one reader, news of pipes, a close that wakes all."""

    def __init__(self, socket: RawSocket, address: str) -> None:
        self._socket = socket
        self._address = address
        self._closed = False
        self._waiting: list[int] = []
        self._events: list[PipeEvent] = []
        # Pipes that exist as far as NNG has told us.
        self._alive: set[int] = set()
        # Pipes whose frames may still be handed out. It outlives _alive until
        # PipeClosed has been handed out, so that the last frames of a peer
        # that went away count, and that none comes after the news of it.
        self._readable: set[int] = set()

    @property
    def address(self) -> str:
        return self._address

    async def receive_pipe_events(self) -> list[PipeEvent]:
        bell = self._socket.bell
        while True:
            # Waiting first makes this a checkpoint also when there is news.
            if not self._events:
                await self._wait_readable(bell.fd)
            else:
                await anyio.lowlevel.checkpoint()
                self._check_open()
            bell.clear()
            self._note_news()
            if self._events:
                events, self._events = self._events, []
                for event in events:
                    if isinstance(event, PipeClosed):
                        self._readable.discard(event.pipe)
                return events

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        # Without this a waiter hangs for ever, on both loops. No checkpoint
        # may come between it and the close of the descriptors.
        for fd in self._waiting:
            anyio.notify_closing(fd)
        self._socket.close()

    async def _receive(self) -> list[Arrived]:
        while True:
            # The descriptor stays readable while there are frames, so waiting
            # for it is also the checkpoint; after it nothing is awaited.
            await self._wait_readable(self._socket.recv_fd)
            arrived = self._socket.receive(MAX_BATCH_FRAMES, MAX_BATCH_BYTES)
            self._note_news()
            frames = [item for item in arrived if item.pipe in self._readable]
            if frames:
                return frames

    async def _wait_readable(self, fd: int) -> None:
        self._check_open()
        self._waiting.append(fd)
        try:
            await anyio.wait_readable(fd)
        except anyio.ClosedResourceError:
            raise self._closed_error() from None
        finally:
            self._waiting.remove(fd)
        # The link may have been closed after the wait had succeeded.
        self._check_open()

    def _note_news(self) -> None:
        news = self._socket.news
        while news:
            what, pipe = news.popleft()
            if what is News.ADDED:
                self._alive.add(pipe)
                self._readable.add(pipe)
                self._pipe_added(pipe)
            elif what is News.REMOVED:
                self._alive.discard(pipe)
                self._pipe_removed(pipe)
            elif pipe in self._alive:
                self._pipe_started(pipe)
            else:
                self._socket.forget_pipe(pipe)

    def _pipe_added(self, pipe: int) -> None: ...

    def _pipe_started(self, pipe: int) -> None: ...

    def _pipe_removed(self, pipe: int) -> None: ...

    def _check_open(self) -> None:
        if self._closed:
            raise self._closed_error()

    def _closed_error(self) -> LinkClosed:
        return LinkClosed(f"the link to {self._address} has been closed")


class NngLink(_Endpoint):
    """A dialing end; see :class:`fastworker._transport._abc.Link`."""

    def __init__(
        self,
        socket: RawSocket,
        address: str,
        header: bytes = _REQUEST_HEADER,
        *,
        tls: TlsContext | None = None,
        on_trouble: Callable[[str, bool], None] = _ignore,
    ) -> None:
        super().__init__(socket, address)
        self._header = header
        self._tls = tls
        self._on_trouble = on_trouble
        self._pipe: int | None = None
        self._pipe_news = anyio.Event()

    async def receive(self) -> list[bytes]:
        return [item.frame for item in await self._receive()]

    def send_nowait(self, frame: bytes) -> bool:
        self._check_open()
        check_frame_size(frame)
        return self._socket.send(self._header, frame)

    async def wait_sendable(self) -> None:
        # Readable while a pipe is ready for a frame, so not while there is none.
        await self._wait_readable(self._socket.send_fd)

    async def run(self) -> None:
        """Find out what is wrong while there is no pipe; NNG does not say so.

        NNG dials by itself, and its threads need nobody.
        """
        pause = FIRST_DOUBT_SECONDS
        while not self._closed:
            news = self._pipe_news
            limit = math.inf if self._pipe is not None else pause
            with anyio.move_on_after(limit) as scope:
                await news.wait()
            if not scope.cancelled_caught:
                pause = FIRST_DOUBT_SECONDS
                continue
            trouble = await find_trouble(self._address, self._tls)
            if trouble is not None and self._pipe is None and not self._closed:
                self._on_trouble(trouble.reason, trouble.is_final)
            pause = min(2 * pause, LONGEST_DOUBT_SECONDS)

    def drop_pipe(self) -> None:
        if self._closed:
            return
        self._note_news()
        if self._pipe is not None:
            self._socket.close_pipe(self._pipe)

    def _pipe_started(self, pipe: int) -> None:
        # Told only now: a peer of another protocol is added but never started.
        self._set_pipe(pipe)
        self._events.append(PipeOpened(pipe))

    def _pipe_removed(self, pipe: int) -> None:
        if pipe == self._pipe:
            self._set_pipe(None)
            self._events.append(PipeClosed(pipe))
        else:
            self._readable.discard(pipe)

    def _set_pipe(self, pipe: int | None) -> None:
        self._pipe = pipe
        self._pipe_news.set()
        self._pipe_news = anyio.Event()

    def close(self) -> None:
        super().close()
        self._pipe_news.set()


class NngListener(_Endpoint):
    """A listening end; see :class:`fastworker._transport._abc.Listener`."""

    def __init__(
        self,
        socket: RawSocket,
        address: str,
        *,
        tls: TlsContext | None = None,
        on_warning: Callable[[str], None] = _ignore,
    ) -> None:
        super().__init__(socket, address)
        self._tls = tls
        self._on_warning = on_warning
        self._places: dict[int, Place] = {}  # by pipe, with TLS only
        self._refused_names: Counter[str] = Counter()
        self._backlog: deque[tuple[bytes, bytes]] = deque()
        self._backlog_bytes = 0
        self._backlog_filled: anyio.Event | None = None

    async def receive(self) -> list[tuple[Route, bytes]]:
        return [(Route(item.pipe, item.header), item.frame) for item in await self._receive()]

    def send(self, route: Route, frame: bytes) -> None:
        if self._closed:
            return
        check_frame_size(frame)
        # What waits goes first, or replies would overtake each other.
        if not self._backlog and self._socket.send(route.header, frame):
            return
        if self._backlog_bytes + len(frame) > MAX_BACKLOG_BYTES:
            return
        self._backlog.append((route.header, frame))
        self._backlog_bytes += len(frame)
        if self._backlog_filled is not None:
            self._backlog_filled.set()

    async def run_backlog(self) -> None:
        if self._tls is None:
            await self._run_backlog()
            return
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._run_backlog)
                group.start_soon(self._watch_handshakes)
        except* LinkClosed:
            pass
        raise self._closed_error()

    async def _watch_handshakes(self) -> None:
        """End handshakes that do not go on, and tell of those that have failed.

        NNG has no event for a connection that is no pipe, so it is looked for now and then.
        """
        _, _, port = split_address(self._address, listening=True)
        silent = SilentPeers(port)
        told, tell_at, pause = 0, -math.inf, LOOK_SECONDS
        while not self._closed:
            self._note_news()
            now = anyio.current_time()
            silent.end_overdue(now, frozenset(self._places.values()))
            failed = self._socket.failed_handshakes()
            if failed == told:
                pause = LOOK_SECONDS
            elif now >= tell_at:
                self._on_warning(
                    f"{failed - told} connections to {self._address} failed in the TLS "
                    f"handshake: their certificate is missing, has expired, is for something "
                    f"else or of an authority that is not in --tls-ca, they did not accept "
                    f"ours, or they speak no TLS"
                )
                told, tell_at = failed, now + pause
                pause = min(2 * pause, LONGEST_SILENCE_SECONDS)
            await anyio.sleep(LOOK_SECONDS)

    async def _run_backlog(self) -> None:
        while True:
            if not self._backlog:
                self._check_open()
                self._backlog_filled = anyio.Event()
                await self._backlog_filled.wait()
            await self._wait_readable(self._socket.send_fd)
            while self._backlog and self._socket.send(*self._backlog[0]):
                self._backlog_bytes -= len(self._backlog.popleft()[1])

    def close_pipe(self, pipe: int) -> None:
        if not self._closed:
            self._socket.close_pipe(pipe)

    def close(self) -> None:
        super().close()
        self._backlog.clear()
        self._backlog_bytes = 0
        if self._backlog_filled is not None:
            self._backlog_filled.set()

    def _pipe_added(self, pipe: int) -> None:
        # Told now, not when it is started: a frame may arrive in between.
        host, port = self._socket.remote_place(pipe)
        self._events.append(PipeOpened(pipe, self._authority_of(pipe, host), host))
        if self._tls is not None:
            self._places[pipe] = place(host, port)

    def _authority_of(self, pipe: int, host: str) -> Authority:
        """What the name in a peer's certificate is good for.

        Nothing, if nobody allowed it. It is heard all the same, so that it can be
        told so; whoever has no authority is closed before long.
        """
        if self._tls is None or not self._tls.is_mutual:
            return EVERYTHING
        name = peer_name(pipe)
        authority = self._tls.roles_of(name)
        if not authority and len(self._refused_names) < _MAX_COUNTED_NAMES:
            self._refused_names[name] += 1
            times = self._refused_names[name]
            if times & (times - 1) == 0:  # 1, 2, 4, 8
                more = f"; {times} such" if times > 1 else ""
                self._on_warning(
                    f"a peer from {host} was refused: the name in its certificate, {name!r}, "
                    f"has no role; allow it with --tls-allow ROLE={name}{more}"
                )
        return authority

    def _pipe_removed(self, pipe: int) -> None:
        self._places.pop(pipe, None)
        self._events.append(PipeClosed(pipe))


class NngTransport:
    """Makes links and listeners on ``tcp://`` and ``tls+tcp://`` addresses.

    Args:
      tls: for addresses with TLS.
      on_trouble: told in the loop why a link has no pipe, if that can be found out,
        and whether it will be so next time too.
      on_warning: told in the loop of peers that a listener has refused.

    Raises:
      ForkedClient: this process was forked from one that had opened sockets.
    """

    def __init__(
        self,
        tls: TlsContext | None = None,
        *,
        on_trouble: Callable[[str, bool], None] = _ignore,
        on_warning: Callable[[str], None] = _ignore,
    ) -> None:
        check_process()
        self._tls = tls
        self._on_trouble = on_trouble
        self._on_warning = on_warning

    def dial(self, address: str) -> NngLink:
        scheme, host, _ = split_address(address, listening=False)
        tls = self._tls_for(scheme, address)
        socket = _dialed(RawSocket.open_req(tls, host.strip("[]")), address)
        return NngLink(socket, address, tls=tls, on_trouble=self._on_trouble)

    def dial_pair(self, address: str) -> NngLink:
        split_address(address, listening=False)
        return NngLink(_dialed(RawSocket.open_pair(), address), address, b"")

    def listen(self, address: str) -> NngListener:
        scheme, host, _ = split_address(address, listening=True)
        tls = self._tls_for(scheme, address)
        socket = RawSocket.open_rep(tls)
        try:
            port = socket.listen(address)
        except BaseException:
            socket.close()
            raise
        real = f"{scheme}://{host}:{port}"
        return NngListener(socket, real, tls=tls, on_warning=self._on_warning)

    def _tls_for(self, scheme: str, address: str) -> TlsContext | None:
        if scheme != TLS_SCHEME:
            return None
        if self._tls is None:
            raise ConfigurationError(
                f"{address!r} has TLS, which needs files; give tls=TlsSettings(...)"
            )
        return self._tls


def _dialed(socket: RawSocket, address: str) -> RawSocket:
    try:
        socket.dial(address)
    except BaseException:
        socket.close()
        raise
    return socket
