"""Links and listeners on real sockets, on both loops."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from random import Random

import anyio
import anyio.lowlevel
import pytest

from fastworker._core._keys import keys_of
from fastworker._core._pipes import PipeClosed, PipeOpened, Route
from fastworker._core._roles import PeerRole
from fastworker._errors import AddressInUse, ConfigurationError, LinkError
from fastworker._transport import _nng
from fastworker._transport._authenticated import AuthenticatedTransport
from fastworker._transport._nng import NngLink, NngListener, NngTransport
from fastworker._transport._nng_socket import News
from fastworker.testing import check_link

pytestmark = [pytest.mark.nng, pytest.mark.anyio]

ANY_PORT = "tcp://127.0.0.1:0"


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@contextmanager
def connection() -> Iterator[tuple[NngListener, NngLink]]:
    transport = NngTransport()
    listener = transport.listen(ANY_PORT)
    try:
        link = transport.dial(listener.address)
        try:
            yield listener, link
        finally:
            link.close()
    finally:
        listener.close()


async def round_trip(listener: NngListener, link: NngLink, frame: bytes) -> None:
    while not link.send_nowait(frame):
        await link.wait_sendable()
    [(route, received)] = await listener.receive()
    assert received == frame
    listener.send(route, frame)
    assert await link.receive() == [frame]


@pytest.mark.slow
async def test_sockets_keep_the_contract_of_links() -> None:
    await check_link(NngTransport, lambda: ANY_PORT)


@pytest.mark.slow
async def test_sockets_whose_peers_prove_a_role_keep_the_contract_of_links() -> None:
    keys = keys_of({PeerRole.CLIENT: b"0123456789abcdef"})
    await check_link(
        lambda: AuthenticatedTransport(NngTransport(), keys, role=PeerRole.CLIENT),
        lambda: ANY_PORT,
    )


async def test_a_listener_tells_where_a_peer_is() -> None:
    with connection() as (listener, _):
        [opened] = await listener.receive_pipe_events()
        assert isinstance(opened, PipeOpened)
        assert opened.remote == "127.0.0.1"


async def test_ipv6_addresses_work() -> None:
    # N10 in docs/faults.md.
    try:
        listener = NngTransport().listen("tcp://[::1]:0")
    except ConfigurationError:
        pytest.skip("this machine has no IPv6")
    with closing(listener), closing(NngTransport().dial(listener.address)) as link:
        assert listener.address.startswith("tcp://[::1]:")
        with anyio.fail_after(5):
            await round_trip(listener, link, b"x")


async def test_an_address_of_another_program_is_in_use() -> None:
    # N11 in docs/faults.md.
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(AddressInUse, match=address):
            NngTransport().listen(address)


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
async def test_an_address_of_another_machine_cannot_be_listened_on(host: str) -> None:
    with pytest.raises(ConfigurationError, match=host):
        NngTransport().listen(f"tcp://{host}:15999")


async def test_nothing_is_opened_before_it_is_needed_or_left_after_a_refusal() -> None:
    before = os.listdir("/proc/self/fd")
    transport = NngTransport()
    with pytest.raises(ConfigurationError):
        transport.dial("tcp://nowhere")
    assert os.listdir("/proc/self/fd") == before
    with connection() as (listener, _):
        one_pair = len(os.listdir("/proc/self/fd"))
        with pytest.raises(AddressInUse):
            transport.listen(listener.address)
        assert len(os.listdir("/proc/self/fd")) <= one_pair + 2  # their pipe, by now


async def test_dialing_nobody_returns_at_once() -> None:
    # 192.0.2.1 is a black hole: its TCP connect would last for minutes (H13).
    started = time.monotonic()
    for address in ("tcp://192.0.2.1:15555", "tcp://no-such-host.invalid:15555"):
        with closing(NngTransport().dial(address)) as link:
            assert not link.send_nowait(b"x")
    assert time.monotonic() - started < 1.0


@pytest.mark.slow
async def test_a_dropped_pipe_is_back_within_the_reconnect_grace() -> None:
    with connection() as (_, link), anyio.fail_after(20):
        [opened] = await link.receive_pipe_events()
        for _ in range(10):
            started = time.monotonic()
            link.drop_pipe()
            assert await link.receive_pipe_events() == [PipeClosed(opened.pipe)]
            [opened] = await link.receive_pipe_events()
            assert isinstance(opened, PipeOpened)
            assert time.monotonic() - started < 0.75


@pytest.mark.slow
async def test_a_link_finds_a_listener_that_was_away_for_long() -> None:
    listener = NngTransport().listen(ANY_PORT)
    address = listener.address
    listener.close()
    with closing(NngTransport().dial(address)) as link:
        await anyio.sleep(3)  # the back-off has reached its end
        with closing(NngTransport().listen(address)) as listener, anyio.fail_after(2):
            await round_trip(listener, link, b"x")


@pytest.mark.slow
async def test_a_peer_of_another_protocol_never_counts_as_a_pipe() -> None:
    # N9 in docs/faults.md.
    # A link that dials what is itself a requester; NNG refuses it after the fact.
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        server.settimeout(5)
        with closing(NngTransport().dial(address)) as link:
            for _ in range(3):
                peer, _ = await anyio.to_thread.run_sync(server.accept)
                with peer:
                    peer.sendall(b"\0SP\0\0\x30\0\0")
                    with anyio.move_on_after(0.05):
                        pytest.fail(f"told of {await link.receive_pipe_events()}")
                    assert not link.send_nowait(b"x")


async def test_a_pipe_that_starts_after_its_removal_is_forgotten() -> None:
    # H15 in docs/faults.md.
    # H16: NNG runs the callbacks of one pipe on two threads.
    with connection() as (listener, link), anyio.fail_after(5):
        await round_trip(listener, link, b"before")
        for end in (listener, link):
            await end.receive_pipe_events()
            end._socket._socket._pipes[77] = object()
            for news in (News.ADDED, News.REMOVED, News.STARTED):
                end._socket.news.append((news, 77))
            end._note_news()
            assert 77 not in end._socket._socket._pipes
            assert 77 not in end._alive
        assert await listener.receive_pipe_events() == [PipeOpened(77), PipeClosed(77)]
        assert not link._events
        assert 77 not in link._readable | listener._readable
        await round_trip(listener, link, b"after")


async def test_replies_wait_when_the_network_takes_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    transport = NngTransport()
    routes: list[Route] = []
    expected = [b"%d" % number for number in range(60)]
    with ExitStack() as opened, anyio.fail_after(15):
        listener = opened.enter_context(closing(transport.listen(ANY_PORT)))
        links = [
            opened.enter_context(closing(transport.dial(listener.address))) for _ in range(10)
        ]
        really_send, calls = listener._socket.send, itertools.count(1)
        monkeypatch.setattr(
            listener._socket,
            "send",
            # NNG's own queue is full now and then, but nobody knows when.
            lambda header, frame: next(calls) % 50 != 0 and really_send(header, frame),
        )
        for link in links:
            await link.wait_sendable()
            link.send_nowait(b"hello")
        while len(routes) < len(links):
            routes += [route for route, _ in await listener.receive()]
        for frame in expected:  # without letting anything else run
            for route in routes:
                listener.send(route, frame)
        assert len(listener._backlog) > 500
        async with anyio.create_task_group() as group:
            group.start_soon(listener.run_backlog)
            for link in links:
                frames: list[bytes] = []
                while len(frames) < len(expected):
                    frames += await link.receive()
                assert frames == expected
            group.cancel_scope.cancel()
        assert listener._backlog_bytes == 0


async def test_the_backlog_is_bounded_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_nng, "MAX_BACKLOG_BYTES", 10)
    with connection() as (listener, _):
        monkeypatch.setattr(listener._socket, "send", lambda header, frame: False)
        for frame in (b"12345", b"1234", b"too much", b"1", b"2"):
            listener.send(Route(1, b"\0\0\0\1\x80\0\0\0"), frame)
        assert [frame for _, frame in listener._backlog] == [b"12345", b"1234", b"1"]


async def test_a_failure_of_the_library_is_a_link_error() -> None:
    with connection() as (listener, link):
        await link.wait_sendable()
        with pytest.raises(LinkError, match="network library") as caught:
            # A header that NNG cannot hold.
            listener._socket.send(bytes(1000), b"x")
        assert type(caught.value.__cause__).__name__ == "InvalidOperation"


@pytest.mark.slow
async def test_waiting_does_not_spin_while_pipes_come_and_go() -> None:
    # H15 in docs/faults.md.
    with connection() as (listener, link), anyio.fail_after(20):
        false_alarms = 0

        async def read() -> None:
            while True:
                await listener.receive()

        async def send() -> None:
            nonlocal false_alarms
            frame = bytes(200_000)
            is_told = False
            while True:
                if link.send_nowait(frame):
                    is_told = False
                else:
                    false_alarms += is_told
                    await link.wait_sendable()
                    is_told = True

        async with anyio.create_task_group() as group:
            group.start_soon(read)
            group.start_soon(send)
            for _ in range(20):
                while not isinstance((await link.receive_pipe_events())[-1], PipeOpened):
                    pass
                link.drop_pipe()
            group.cancel_scope.cancel()
        # A pipe may close between the two calls, and hardly more than that.
        assert false_alarms <= 60


@pytest.mark.slow
async def test_five_thousand_frames_survive_waits_that_are_cancelled_at_random() -> None:
    random = Random(3)
    count = 5000
    echoed: list[int] = []
    returned: list[int] = []
    cancelled = 0

    async def echo() -> None:
        for route, frame in await listener.receive():
            echoed.append(int(frame))
            listener.send(route, frame)

    async def take() -> None:
        returned.extend(int(frame) for frame in await link.receive())

    async def race(log: list[int], step: object) -> None:
        nonlocal cancelled
        while len(log) < count:
            # Half of the waits are over before they begin, on any machine.
            patience = random.random() * 0.0005 * random.randint(0, 1)
            with anyio.move_on_after(patience) as scope:
                await step()  # type: ignore[operator]
            cancelled += scope.cancelled_caught

    async def send() -> None:
        for number in range(count):
            while number - len(returned) >= 16:
                await anyio.lowlevel.checkpoint()
            while not link.send_nowait(b"%d" % number):
                with anyio.move_on_after(random.random() * 0.0005):
                    await link.wait_sendable()

    with connection() as (listener, link), anyio.fail_after(50):
        async with anyio.create_task_group() as group:
            for task in (listener.run_backlog, send):
                group.start_soon(task)
            async with anyio.create_task_group() as races:
                races.start_soon(race, echoed, echo)
                races.start_soon(race, returned, take)
            group.cancel_scope.cancel()
    assert echoed == returned == list(range(count))
    assert cancelled > 500


@pytest.mark.slow
@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_frames_survive_a_bare_task_cancel(anyio_backend: str) -> None:
    # Not an anyio scope: H4 is about Task.cancel() meeting a completed wait.
    random = Random(4)
    count = 1000
    received: list[int] = []
    cancels = 0

    async def take() -> None:
        while len(received) < count:
            received.extend(int(frame) for _, frame in await listener.receive())

    async def send() -> None:
        for number in range(count):
            while not link.send_nowait(b"%d" % number):
                await link.wait_sendable()
            await asyncio.sleep(0)

    with connection() as (listener, link):
        async with asyncio.timeout(50):
            sender = asyncio.create_task(send())
            while len(received) < count:
                task = asyncio.create_task(take())
                for _ in range(random.randrange(12)):
                    await asyncio.sleep(0)
                cancels += task.cancel()
                await asyncio.wait([task])
            await sender
    assert received == list(range(count))
    assert cancels > 50
