"""The network of one process keeps the contract in one loop, and between two."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import anyio
import pytest
import trio

from fastworker import AddressInUse, ConfigurationError, LinkClosed
from fastworker._transport._abc import Listener
from fastworker._transport._in_process import InProcessNetwork
from fastworker.testing import check_link

ADDRESS = "memory://control-plane"
FRAMES = 3_000


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.anyio
async def test_it_keeps_the_contract_of_links_by_name() -> None:
    names = iter(range(100))
    await check_link(InProcessNetwork, lambda: f"memory://number-{next(names)}")


@pytest.mark.anyio
async def test_it_keeps_the_contract_of_links_by_tcp_address() -> None:
    await check_link(InProcessNetwork, lambda: "tcp://127.0.0.1:0")


@pytest.mark.anyio
async def test_two_tasks_may_not_wait_in_the_same_method() -> None:
    network = InProcessNetwork()
    network.listen(ADDRESS)
    link = network.dial_pair(ADDRESS)
    async with anyio.create_task_group() as group:
        group.start_soon(link.receive)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(anyio.BusyResourceError):
            await link.receive()
        group.cancel_scope.cancel()
    link.send_nowait(b"x")  # and the one that left is not in the way


@pytest.mark.anyio
async def test_a_receiver_that_does_not_read_stops_the_sender_at_128_frames() -> None:
    network = InProcessNetwork()
    listener, link = network.listen(ADDRESS), network.dial(ADDRESS)
    assert [link.send_nowait(b"x") for _ in range(130)] == [True] * 128 + [False] * 2
    assert len(await listener.receive()) == 128
    await link.wait_sendable()


def test_port_zero_becomes_a_number_that_nobody_has() -> None:
    network = InProcessNetwork()
    network.listen("tcp://127.0.0.1:20001")
    addresses = [network.listen("tcp://127.0.0.1:0").address for _ in range(2)]
    assert addresses == [f"tcp://127.0.0.1:{port}" for port in (20000, 20002)]
    with pytest.raises(AddressInUse, match="20002"):
        network.listen("tcp://127.0.0.1:20002")
    with pytest.raises(ConfigurationError, match="control-plane"):
        network.dial("control-plane")


def test_what_has_been_closed_is_not_kept() -> None:
    network = InProcessNetwork()
    for _ in range(3):
        listener, link = network.listen(ADDRESS), network.dial(ADDRESS)
        link.close()
        listener.close()
    assert not network._links
    assert not network._listeners


Loop = Callable[[Callable[[], Awaitable[None]]], None]


def on_asyncio(main: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        await main()

    asyncio.run(run())


def on_trio(main: Callable[[], Awaitable[None]]) -> None:
    trio.run(main)


async def echo(listener: Listener) -> None:
    while True:
        for route, frame in await listener.receive():
            listener.send(route, frame)


@pytest.mark.parametrize("here", [on_asyncio, on_trio])
@pytest.mark.parametrize("there", [on_asyncio, on_trio])
def test_frames_go_between_two_loops_in_order_and_none_is_lost(here: Loop, there: Loop) -> None:
    network = InProcessNetwork()
    listener = network.listen(ADDRESS)

    async def serve() -> None:
        with pytest.raises(LinkClosed):
            await echo(listener)

    frames = [b"%d" % number for number in range(FRAMES)]
    echoed: list[bytes] = []

    async def use() -> None:
        link = network.dial(ADDRESS)

        async def send() -> None:
            for number, frame in enumerate(frames):
                # A session has sixteen slots, so no more is ever under way.
                while number - len(echoed) >= 16:
                    await anyio.lowlevel.checkpoint()
                while not link.send_nowait(frame):
                    await link.wait_sendable()

        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(send)
                while len(echoed) < FRAMES:
                    echoed.extend(await link.receive())
        link.close()

    server = threading.Thread(target=there, args=(serve,))
    server.start()
    try:
        here(use)
    finally:
        listener.close()  # from a third thread, as far as the server is concerned
        server.join(10)
    assert not server.is_alive()
    assert echoed == frames


def test_an_end_whose_loop_was_closed_while_it_waited_disturbs_nobody() -> None:
    network = InProcessNetwork()
    listener, link = network.listen(ADDRESS), network.dial(ADDRESS)

    loop = asyncio.new_event_loop()
    waiting = listener.receive()
    task = loop.create_task(waiting)
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()

    assert link.send_nowait(b"x")
    listener.close()
    assert not link.send_nowait(b"y")
    waiting.close()
    task._log_destroy_pending = False  # type: ignore[attr-defined]
