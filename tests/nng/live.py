"""A control plane and its dashboard on real sockets, and what reads the live feed."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import trio
from trio_websocket import WebSocketConnection, wrap_client_stream

from fastworker import Client, ControlPlaneWorker
from fastworker._registry import Registry
from fastworker.dashboard import Dashboard

ANY_PORT = "tcp://127.0.0.1:0"
TOKEN = "a-token-that-only-these-tests-know-of"
NOISE = "noise " * 100

Json = dict[str, Any]


async def nothing() -> None: ...


async def loud() -> None:
    raise ValueError(NOISE)


def new_plane(discovery_address: str = ANY_PORT) -> ControlPlaneWorker:
    """A control plane that runs ``nothing`` and ``loud``, which fails with many words."""
    registry = Registry()
    registry.register(nothing)
    registry.register(loud)
    return ControlPlaneWorker(
        "plane", ANY_PORT, discovery_address, subworker_management_port=0, registry=registry
    )


class Feed:
    """A control plane, its dashboard, and a client; ``address`` is the dashboard's."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.plane = new_plane()

    async def start(self, **settings: Any) -> None:
        await self.nursery.start(self.plane.run)
        await self.start_dashboard(**settings)

    async def start_dashboard(self, port: int = 0) -> None:
        self.dashboard = Dashboard(
            self.plane.discovery_address, host="127.0.0.1", port=port, token=TOKEN
        )
        self.serving = trio.CancelScope()

        async def serve(task_status: trio.TaskStatus[str | None]) -> None:
            with self.serving:
                await self.dashboard.run(task_status=task_status)

        self.address: str = await self.nursery.start(serve)
        self.port = int(self.address.rstrip("/").rpartition(":")[2])

    def connect(
        self, headers: dict[str, str] | None = None, host: str = "127.0.0.1"
    ) -> AbstractAsyncContextManager[WebSocketConnection]:
        """A live connection; with the token if no headers are given."""
        return connect_live(self.port, headers, host=host)

    @asynccontextmanager
    async def deaf(self, *, buffer: int = 4096) -> AsyncIterator[trio.SocketStream]:
        """A live connection that watches tasks, without whatever reads one."""
        raw = socket.socket()
        # Before it connects, or the window has been told already.
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        raw.connect(("127.0.0.1", self.port))
        raw.setblocking(False)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(raw))
        try:
            await self._watch_by_hand(stream)
            yield stream
        finally:
            await trio.aclose_forcefully(stream)

    async def _watch_by_hand(self, stream: trio.SocketStream) -> None:
        lines = (
            "GET /api/live HTTP/1.1",
            f"Host: 127.0.0.1:{self.port}",
            f"Authorization: Bearer {TOKEN}",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        )
        await stream.send_all("\r\n".join((*lines, "", "")).encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += await stream.receive_some(1)
        assert answer.startswith(b"HTTP/1.1 101"), answer
        await stream.send_all(_masked(b'{"type": "watch", "tasks": true}'))
        return stream


@asynccontextmanager
async def connect_live(
    port: int,
    headers: dict[str, str] | None = None,
    *,
    host: str = "127.0.0.1",
    path: str = "/api/live",
) -> AsyncIterator[WebSocketConnection]:
    """A live connection; with the token if no headers are given."""
    if headers is None:
        headers = {"Authorization": f"Bearer {TOKEN}"}
    extra = [(name.encode(), value.encode()) for name, value in headers.items()]
    # trio-websocket leaves the socket open where the server ends it.
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    try:
        async with trio.open_nursery() as nursery:
            websocket = await wrap_client_stream(
                nursery, stream, f"{host}:{port}", path, extra_headers=extra
            )
            yield websocket
            # Its own goodbye fails if a ping comes meanwhile.
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise _single(group) from None
    finally:
        await trio.aclose_forcefully(stream)


def _single(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _masked(payload: bytes) -> bytes:
    """A text frame, masked with nothing."""
    return bytes((0x81, 0x80 | len(payload), 0, 0, 0, 0)) + payload


@asynccontextmanager
async def open_feed(**settings: Any) -> AsyncIterator[tuple[Feed, Client]]:
    """Everything above; all of it ends with the block."""
    async with trio.open_nursery() as nursery:
        feed = Feed(nursery)
        await feed.start(**settings)
        async with Client(feed.plane.discovery_address) as client:
            yield feed, client
        nursery.cancel_scope.cancel()


async def read(websocket: WebSocketConnection, *types: str) -> Json:
    """The next message, or the next one of these types."""
    with trio.fail_after(30):
        while True:
            message: Json = json.loads(await websocket.get_message())
            if not types or message["type"] in types:
                return message
