"""An HTTP server for the dashboard: hypercorn's protocol, and limits that it has not.

Hypercorn waits for a peer that does not read for as long as it likes, even while it is
being stopped, and takes any number of connections. Here a connection is closed if a
write takes too long, if too many others come while it asks for nothing, and at the end.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from typing import Final

import h11
import trio
from hypercorn.config import Config
from hypercorn.events import Event, Updated
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState
from hypercorn.utils import parse_socket_addr, wrap_app
from starlette.types import ASGIApp

from fastworker.dashboard._policy import MAX_HEADER_BYTES

log = logging.getLogger("fastworker.dashboard")

MAX_CONNECTIONS: Final = 200
# Those whose first request is not all here yet cost a Trio task each, and little else.
MAX_STRANGERS: Final = 1500
# Whoever finds this full tries again after a second: it holds many who come at once.
BACKLOG: Final = 4096
# From the connection, or the last answer, to the end of a request's headers.
HEADER_SECONDS: Final = 10
# Without a byte, in the middle of something. A WebSocket is pinged more often.
READ_SECONDS: Final = 60
WRITE_SECONDS: Final = 15.0
PING_SECONDS: Final = 20.0
MAX_MESSAGE_BYTES: Final = 64 * 1024


def http_config() -> Config:
    """What hypercorn is told."""
    config = Config()
    config.accesslog = None
    config.errorlog = logging.getLogger("fastworker.dashboard.http")
    config.include_server_header = False
    config.h11_max_incomplete_size = MAX_HEADER_BYTES
    config.keep_alive_timeout = HEADER_SECONDS
    config.read_timeout = READ_SECONDS
    config.websocket_ping_interval = PING_SECONDS
    config.websocket_max_message_size = MAX_MESSAGE_BYTES
    # With a bound, an app that answers without reading the body would leave the
    # connection's reader waiting for ever. What arrives is bounded by the app, which
    # reads a body up to its limit, or answers and so has the connection closed.
    config.max_app_queue_size = math.inf  # type: ignore[assignment]
    return config


async def serve_http(
    app: ASGIApp,
    host: str,
    port: int,
    on_listening: Callable[[int], None],
    *,
    config: Config | None = None,
) -> None:
    """Serve until cancelled.

    Args:
      on_listening: is told the port.

    Raises:
      OSError: it cannot listen there.
    """
    listeners = await trio.open_tcp_listeners(port, host=host, backlog=BACKLOG)
    on_listening(listeners[0].socket.getsockname()[1])
    await Server(app, config or http_config()).serve(listeners)


class _Connection:
    """A stream whose writes take a bounded time, and that can be closed at any time."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self.socket = stream.socket
        self.is_idle = True  # it has asked for nothing that is not answered
        self.has_asked = False  # for anything, ever
        self.used_at = trio.current_time()
        self._unread = b""

    async def wait_for_a_request(self) -> bool:
        """Whether something has come that is worth an answer, before anything is set up.

        That is all headers of a request, too much of them, or what cannot become one.
        """
        with trio.move_on_after(HEADER_SECONDS):
            while _may_become_a_request(self._unread):
                data = await self._stream.receive_some(MAX_HEADER_BYTES)
                if not data:
                    return False
                self._unread += data
            return True
        return False

    def note(self, *, is_idle: bool) -> None:
        """A request has come, or its answer has gone."""
        self.is_idle = is_idle
        self.has_asked = self.has_asked or not is_idle
        self.used_at = trio.current_time()

    async def receive_some(self, max_bytes: int) -> bytes:
        if self._unread:
            unread, self._unread = self._unread, b""
            return unread
        # What has come at once counts as headers only when it is all here.
        limit = MAX_HEADER_BYTES if self.is_idle else max_bytes
        return bytes(await self._stream.receive_some(limit))

    async def send_all(self, data: bytes) -> None:
        with trio.move_on_after(WRITE_SECONDS):
            try:
                await self._stream.send_all(data)
            except trio.BusyResourceError:
                # Hypercorn sends one thing at a time, but ends a stream whenever it likes.
                raise trio.BrokenResourceError("it is being closed") from None
            return
        self.abort()
        raise trio.BrokenResourceError(f"the peer has not read for {WRITE_SECONDS:g} s")

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()

    def abort(self) -> None:
        """Close it at once; whoever reads or writes gets an error."""
        self.socket.close()


def _may_become_a_request(data: bytes) -> bool:
    """Whether this is the beginning of a request whose headers are not all here."""
    if not data:
        return True
    if not data[:1].isalpha() or len(data) > MAX_HEADER_BYTES:
        return False
    return b"\r\n\r\n" not in data and b"\n\n" not in data


class _Protocol(H11Protocol):
    """HTTP/1.1 and WebSockets only: an upgrade to HTTP/2 would have limits of its own."""

    async def _check_protocol(self, event: h11.Request) -> None:
        pass

    async def _create_stream(self, request: h11.Request) -> None:
        # Where nothing goes over a wire, compressing a live feed anew for each browser
        # costs more than all else of it.
        if self.client is not None and is_loopback(self.client[0]):
            kept = [each for each in request.headers.raw_items() if not _asks_to_compress(each)]
            request = h11.Request(
                method=request.method,
                target=request.target,
                headers=kept,
                http_version=request.http_version,
            )
        await super()._create_stream(request)


def is_loopback(address: str) -> bool:
    """Whether this is an address of this machine for itself."""
    return address == "::1" or address.startswith(("127.", "::ffff:127."))


def _asks_to_compress(header: tuple[bytes, bytes]) -> bool:
    return header[0].lower() == b"sec-websocket-extensions"


class _HttpServer(TCPServer):
    """One connection. As hypercorn's, with the protocol above."""

    stream: _Connection  # type: ignore[assignment]
    _is_over = False

    async def run(self) -> None:
        try:
            socket = self.stream.socket
            client = parse_socket_addr(socket.family, socket.getpeername())
            server = parse_socket_addr(socket.family, socket.getsockname())
            async with TaskGroup() as task_group:
                self._task_group = task_group
                self.protocol = _Protocol(  # type: ignore[assignment]
                    self.app,
                    self.config,
                    self.context,
                    task_group,
                    ConnectionState(self.state.copy()),
                    False,
                    client,
                    server,
                    self.protocol_send,
                )
                await self.idle_task.restart(task_group, self._idle_timeout)
                await self._read_data()
                self._is_over = True
                await self.idle_task.stop()
        except OSError:
            pass
        finally:
            await self._close()

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, Updated):
            if self._is_over:
                return  # nobody is left to be waited for
            self.stream.note(is_idle=event.idle)
        await super().protocol_send(event)


class Server:
    """All connections of one app."""

    def __init__(self, app: ASGIApp, config: Config) -> None:
        self._app: AppWrapper = wrap_app(app, config.wsgi_max_body_size, "asgi")  # type: ignore[arg-type]
        self._config = config
        self._context = WorkerContext(None)
        self._connections: dict[_Connection, None] = {}
        self._strangers: dict[_Connection, None] = {}

    @property
    def connection_count(self) -> int:
        """How many connections there are."""
        return len(self._connections)

    async def serve(self, listeners: list[trio.SocketListener]) -> None:
        """Serve all who connect, until cancelled."""
        async with trio.open_nursery() as nursery:
            try:
                await trio.serve_listeners(self.handle, listeners, handler_nursery=nursery)
            finally:
                self.abort_all()

    async def handle(self, stream: trio.SocketStream) -> None:
        """Serve one connection; whatever happens in it is its own affair."""
        connection = _Connection(stream)
        try:
            if await self._has_asked(connection):
                await self._serve(connection)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # it has gone before it had asked for anything, or was thrown out
        finally:
            self._strangers.pop(connection, None)
            connection.abort()

    async def _has_asked(self, connection: _Connection) -> bool:
        """Wait for its first request; whoever waits for longest goes if there are too many."""
        if len(self._strangers) >= MAX_STRANGERS:
            first = next(iter(self._strangers))
            del self._strangers[first]
            first.abort()
        self._strangers[connection] = None
        has_asked = await connection.wait_for_a_request()
        self._strangers.pop(connection, None)
        return has_asked

    async def _serve(self, connection: _Connection) -> None:
        if len(self._connections) >= MAX_CONNECTIONS and not self._make_room():
            return
        self._connections[connection] = None
        try:
            serve: Callable[[], Awaitable[None]] = _HttpServer(
                self._app,
                self._config,
                self._context,
                ConnectionState({}),
                connection,  # type: ignore[arg-type]  # has what it needs of a stream
            ).run
            await serve()
        except* Exception as errors:
            log.warning("a connection ended: %r", errors.exceptions[0])
            log.debug("its traceback", exc_info=errors)
        finally:
            self._connections.pop(connection, None)

    def _make_room(self) -> bool:
        """Close a connection that asks for nothing now, if there is one.

        The oldest of those that never have; a visitor's, which rests between two requests,
        goes only if there is none of these.
        """
        idle = [connection for connection in self._connections if connection.is_idle]
        if not idle:
            return False
        last = min(idle, key=lambda connection: (connection.has_asked, connection.used_at))
        del self._connections[last]
        last.abort()
        return True

    def abort_all(self) -> None:
        """Close all connections: a write waits even if it is cancelled."""
        for connection in [*self._strangers, *self._connections]:
            connection.abort()
