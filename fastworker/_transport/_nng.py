"""Links and listeners over TCP, on raw NNG sockets.

Raw REQ and REP carry frames both ways on one pipe and give every request a
header that leads the reply back; nothing else of NNG's request protocol (its
resending, its one request at a time) is wanted here. The loop polls NNG's
descriptors and drains the socket until it is empty, which loses nothing when
a wait is cancelled, on Trio and on asyncio alike.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import anyio
import anyio.lowlevel

from fastworker._core._pipes import PipeClosed, PipeEvent, PipeOpened, Route
from fastworker._errors import LinkClosed
from fastworker._transport._address import parse_tcp_address
from fastworker._transport._limits import MAX_BATCH_BYTES, MAX_BATCH_FRAMES, check_frame_size
from fastworker._transport._nng_socket import Arrived, News, RawSocket, check_process

# Replies that wait because NNG's own queue is full.
MAX_BACKLOG_BYTES = 64 * 1024 * 1024
# A raw request's header is its id, with the top bit set. The session link has
# its own ids, so this one says nothing.
_REQUEST_HEADER = b"\x80\x00\x00\x00"


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
        self, socket: RawSocket, address: str, header: bytes = _REQUEST_HEADER
    ) -> None:
        super().__init__(socket, address)
        self._header = header
        self._pipe: int | None = None

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
        """NNG has threads of its own."""

    def drop_pipe(self) -> None:
        if self._closed:
            return
        self._note_news()
        if self._pipe is not None:
            self._socket.close_pipe(self._pipe)

    def _pipe_started(self, pipe: int) -> None:
        # Told only now: a peer of another protocol is added but never started.
        self._pipe = pipe
        self._events.append(PipeOpened(pipe))

    def _pipe_removed(self, pipe: int) -> None:
        if pipe == self._pipe:
            self._pipe = None
            self._events.append(PipeClosed(pipe))
        else:
            self._readable.discard(pipe)


class NngListener(_Endpoint):
    """A listening end; see :class:`fastworker._transport._abc.Listener`."""

    def __init__(self, socket: RawSocket, address: str) -> None:
        super().__init__(socket, address)
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
        self._events.append(PipeOpened(pipe, remote=self._socket.remote_host(pipe)))

    def _pipe_removed(self, pipe: int) -> None:
        self._events.append(PipeClosed(pipe))


class NngTransport:
    """Makes links and listeners on ``tcp://host:port`` addresses.

    Raises:
      ForkedClient: this process was forked from one that had opened sockets.
    """

    def __init__(self) -> None:
        check_process()

    def dial(self, address: str) -> NngLink:
        return _dial(RawSocket.open_req, address, _REQUEST_HEADER)

    def dial_pair(self, address: str) -> NngLink:
        return _dial(RawSocket.open_pair, address, b"")

    def listen(self, address: str) -> NngListener:
        host, _ = parse_tcp_address(address, listening=True)
        socket = RawSocket.open_rep()
        try:
            port = socket.listen(address)
        except BaseException:
            socket.close()
            raise
        return NngListener(socket, f"tcp://{host}:{port}")


def _dial(open_socket: Callable[[], RawSocket], address: str, header: bytes) -> NngLink:
    parse_tcp_address(address, listening=False)
    socket = open_socket()
    try:
        socket.dial(address)
    except BaseException:
        socket.close()
        raise
    return NngLink(socket, address, header)
