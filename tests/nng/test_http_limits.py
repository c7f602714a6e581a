"""What a peer of the dashboard's server cannot do, over real sockets.

X11 and X16 in docs/faults.md.
"""

from __future__ import annotations

import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from hypercorn.config import Config

from fastworker.dashboard import _server
from fastworker.dashboard._server import Server, http_config
from tests.dashboard.visits import TOKEN, new_dashboard

pytestmark = [pytest.mark.nng, pytest.mark.trio]

PATIENCE = 20.0
GET = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
CLOSE = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
AUTH = f"Authorization: Bearer {TOKEN}\r\nX-FastWorker: 1\r\n".encode()


@asynccontextmanager
async def serve(
    app: Any = None, config: Config | None = None
) -> AsyncIterator[tuple[Server, int]]:
    """A server of the dashboard, or of another app, and its port."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    server = Server(app or new_dashboard().app, config or http_config())
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.serve, listeners)
            yield server, listeners[0].socket.getsockname()[1]
            nursery.cancel_scope.cancel()


async def read_all(stream: trio.SocketStream) -> bytes:
    data = b""
    try:
        while chunk := await stream.receive_some(65_536):
            data += chunk
    except trio.BrokenResourceError:
        pass  # it was closed with some of what we sent unread
    return data


async def answer_to(port: int, request: bytes) -> bytes:
    """All that is sent back, until the connection is closed."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        try:
            await stream.send_all(request)
        except trio.BrokenResourceError:
            pass
        return await read_all(stream)


async def is_well(port: int) -> bool:
    """Whether somebody else is served."""
    found = await answer_to(port, GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    return found.startswith(b"HTTP/1.1 200 ")


def statuses(answers: bytes) -> list[bytes]:
    return re.findall(rb"HTTP/1.1 (\d+) ", answers)


async def until(condition: Any) -> None:
    while not condition():
        await trio.sleep(0.01)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nCookie: "
        + b"x" * 20_000
        + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        + b"a: b\r\n" * 5_000
        + b"\r\n",
    ],
    ids=["a long address", "a long header", "many headers"],
)
async def test_headers_that_are_too_large_are_refused(request_bytes: bytes) -> None:
    # X11 in docs/faults.md.
    async with serve() as (_, port):
        found = await answer_to(port, request_bytes)
        assert not found or found.startswith(b"HTTP/1.1 431 ")
        assert await is_well(port)


POST = (
    b"POST /api/tasks/actions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
)
SMUGGLED = b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize(
    "request_bytes",
    [
        POST + AUTH + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n" + SMUGGLED,
        POST + AUTH + b"Content-Length: 5, 6\r\n\r\n" + SMUGGLED,
        POST + AUTH + b"Content-Length: +5\r\n\r\n" + SMUGGLED,
        POST + AUTH + b"Content-Length: -5\r\n\r\n" + SMUGGLED,
        POST + AUTH + b"Content-Length: 0x5\r\n\r\n" + SMUGGLED,
        POST + AUTH + b"Content-Length : 5\r\n\r\n" + SMUGGLED,
        POST + AUTH + b"Transfer-Encoding: xchunked\r\n\r\n" + SMUGGLED,
        POST + AUTH + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + SMUGGLED,
        POST + AUTH + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n" + SMUGGLED,
        POST + AUTH + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 40 + b"\r\n" + SMUGGLED,
        POST + AUTH + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n" + SMUGGLED,
        b"GET /api/tasks HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n"
        + AUTH
        + b"\r\n",
        b"GET /api/tasks HTTP/1.1\r\nHost: localhost\r\nA: b\x00c\r\n" + AUTH + b"\r\n",
        b"GET /api/tasks HTTP/1.1\r\nHost: localhost\r\nA: b\rc\r\n" + AUTH + b"\r\n",
        b"GET /api/tasks HTTP/1.1\r\nHost: localhost\r\n: b\r\n" + AUTH + b"\r\n",
        b"GET /api/tasks HTTP/1.1\r\n" + AUTH + b"\r\n",
        b"GET /api tasks HTTP/1.1\r\nHost: localhost\r\n" + AUTH + b"\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n" + AUTH + b"\r\n",
        b"PRI * HTTP/2.0\r\nConnection: close\r\n\r\n",
        b"\x16\x03\x01\x02\x00" + bytes(200),
        b"NICK evil\r\nUSER evil\r\n\r\n",
    ],
)
async def test_what_is_no_proper_http_is_refused_and_never_taken_for_two_requests(
    request_bytes: bytes,
) -> None:
    # X16 in docs/faults.md.
    async with serve() as (_, port):
        found = await answer_to(port, request_bytes)
        assert found.count(b"HTTP/1.1 ") <= 1
        assert all(status[:1] == b"4" or status == b"501" for status in statuses(found))
        assert b"smuggled" not in found
        assert await is_well(port)


async def test_what_follows_a_whole_request_is_the_next_one() -> None:
    async with serve() as (_, port):
        found = await answer_to(port, GET + GET.replace(b"/livez", b"/x") + b"bad\r\n\r\n")
        assert statuses(found) == [b"200", b"401", b"400"]


async def test_an_upgrade_to_another_protocol_is_not_made() -> None:
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: \r\n\r\n"
    async with serve() as (_, port):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(GET[:-2] + upgrade)
        assert (await stream.receive_some(1000)).startswith(b"HTTP/1.1 200 ")
        await stream.aclose()


async def test_whoever_sends_his_headers_slowly_is_closed() -> None:
    # X11 in docs/faults.md.
    config = http_config()
    config.keep_alive_timeout = 0.2  # type: ignore[assignment]
    async with serve(config=config) as (server, port):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(GET[:20])
            assert await read_all(stream) == b""
        await until(lambda: server.connection_count == 0)


async def test_a_thousand_slow_peers_do_not_keep_a_visitor_out() -> None:
    # X11 in docs/faults.md.
    async with serve() as (server, port):
        peers: list[trio.SocketStream] = []
        for number in range(1_000):
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            await stream.send_all(GET[:20])
            peers.append(stream)
            if number >= 250:  # of the first ones the server's end is closed by now
                await peers[number - 250].aclose()
            assert server.connection_count <= _server.MAX_CONNECTIONS
            if number % 100 == 99:
                assert await is_well(port)
        assert await is_well(port)
        for stream in peers:
            await stream.aclose()
        await until(lambda: server.connection_count == 0)


async def test_a_visitor_who_rests_between_two_requests_is_not_thrown_out_for_strangers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # X11 in docs/faults.md.
    monkeypatch.setattr(_server, "MAX_CONNECTIONS", 2)
    monkeypatch.setattr(_server, "MAX_STRANGERS", 5)
    async with serve() as (server, port):
        visitor = await trio.open_tcp_stream("127.0.0.1", port)
        strangers: list[trio.SocketStream] = []
        for _ in range(3):
            await visitor.send_all(GET)
            answer = b""
            with trio.fail_after(5):
                while not answer.endswith(b"}"):
                    answer += await visitor.receive_some(1000)
            assert statuses(answer) == [b"200"]
            for _ in range(10):
                stream = await trio.open_tcp_stream("127.0.0.1", port)
                await stream.send_all(GET[:20])
                strangers.append(stream)
            # Five of them wait on; the others are closed, the oldest first.
            with trio.fail_after(5):
                assert await strangers[-6].receive_some(1) == b""
            assert server.connection_count == 1
        for stream in [visitor, *strangers]:
            await stream.aclose()


async def large(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": bytes(64 * 1024 * 1024)})


async def test_whoever_does_not_read_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    # X11 in docs/faults.md.
    monkeypatch.setattr(_server, "WRITE_SECONDS", 0.2)
    async with serve(large) as (server, port):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(GET)
        await until(lambda: server.connection_count == 1)
        await until(lambda: server.connection_count == 0)
        await stream.aclose()


async def test_the_server_ends_at_once_though_a_peer_does_not_read() -> None:
    # X11 in docs/faults.md.
    async with serve(large) as (_, port):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(GET)
        received = 0
        while received < 1_000_000:  # so it is the body that waits to be written
            received += len(await stream.receive_some(65_536))
        started = trio.current_time()
    assert trio.current_time() - started < _server.WRITE_SECONDS / 2
    await stream.aclose()


@pytest.mark.parametrize("auth", [b"", AUTH], ids=["a stranger", "a visitor"])
async def test_a_body_that_is_too_large_is_not_read(auth: bytes) -> None:
    # X11 in docs/faults.md.
    async with serve() as (server, port):
        chunk = b"10000\r\n" + bytes(65_536) + b"\r\n"
        request = POST + auth + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 400
        found = await answer_to(port, request)
        # What was not read may have taken the answer with it.
        assert not found or found.split()[1] in (b"401", b"413")
        long = POST + auth + b"Content-Length: 26214400\r\n\r\n"
        found = await answer_to(port, long)
        assert found.split()[1] == (b"413" if auth else b"401")
        await until(lambda: server.connection_count == 0)
        assert await is_well(port)


async def test_a_body_that_does_not_come_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # X11 in docs/faults.md.
    from fastworker.dashboard import _operations

    monkeypatch.setattr(_operations, "BODY_SECONDS", 0.2)
    async with serve() as (_, port):
        found = await answer_to(port, POST + AUTH + b"Content-Length: 100\r\n\r\n{")
        assert found.startswith(b"HTTP/1.1 408 ")


async def test_a_connection_that_breaks_in_the_middle_is_no_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"  # close with a reset
    started = trio.current_time()
    async with serve() as (server, port):
        for part in (b"", GET[:10], GET, POST + AUTH + b"Content-Length: 100\r\n\r\n{"):
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            await stream.send_all(part)
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            await stream.aclose()
        await until(lambda: server.connection_count == 0)
        assert await is_well(port)
    assert trio.current_time() - started < _server.HEADER_SECONDS / 2
    assert not [record for record in caplog.records if record.levelname != "DEBUG"]


async def test_a_bug_in_the_app_ends_one_request_and_nothing_else() -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/livez":
            await large_enough(send)
            return
        raise ZeroDivisionError

    async def large_enough(send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    async with serve(broken) as (_, port):
        found = await answer_to(port, GET.replace(b"/livez", b"/"))
        assert found.startswith(b"HTTP/1.1 500 ")
        assert await is_well(port)
