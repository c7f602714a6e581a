"""The network in memory keeps the contract of links and listeners, on both loops."""

from __future__ import annotations

import re

import anyio
import pytest

from fastworker._core._pipes import PipeOpened
from fastworker._errors import AddressInUse, ConfigurationError
from fastworker._transport._abc import Link, Listener
from fastworker.testing import MemoryNetwork, check_link

pytestmark = pytest.mark.anyio

ADDRESS = "memory://control-plane"
EXAMPLE = re.escape("'tcp://127.0.0.1:5555'")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def connect(network: MemoryNetwork) -> tuple[Listener, Link]:
    listener = network.listen(ADDRESS)
    return listener, network.dial(ADDRESS)


async def test_it_keeps_the_contract_of_links_by_name() -> None:
    names = iter(range(100))
    await check_link(
        lambda: MemoryNetwork(redial_delay=0), lambda: f"memory://number-{next(names)}"
    )


async def test_it_keeps_the_contract_of_links_by_tcp_address() -> None:
    await check_link(lambda: MemoryNetwork(redial_delay=0), lambda: "tcp://127.0.0.1:0")


async def test_port_zero_becomes_a_number_that_nobody_has() -> None:
    network = MemoryNetwork()
    network.listen("tcp://127.0.0.1:20001")
    addresses = [network.listen("tcp://127.0.0.1:0").address for _ in range(3)]
    assert addresses == [f"tcp://127.0.0.1:{port}" for port in (20000, 20002, 20003)]
    with pytest.raises(AddressInUse, match="20002"):
        network.listen("tcp://127.0.0.1:20002")


@pytest.mark.parametrize("address", ["memory://", "control-plane", "tcp://127.0.0.1"])
async def test_a_wrong_address_is_refused(address: str) -> None:
    network = MemoryNetwork()
    with pytest.raises(ConfigurationError, match=EXAMPLE):
        network.dial(address)
    with pytest.raises(ConfigurationError, match=EXAMPLE):
        network.listen(address)


async def test_pipe_ids_are_negative_and_each_end_has_its_own() -> None:
    listener, link = connect(MemoryNetwork())
    [here], [there] = await link.receive_pipe_events(), await listener.receive_pipe_events()
    assert (here.pipe, there.pipe) == (-1, -2)


async def test_a_receiver_that_does_not_read_stops_the_sender_at_128_frames() -> None:
    listener, link = connect(MemoryNetwork())
    assert [link.send_nowait(b"x") for _ in range(130)] == [True] * 128 + [False] * 2
    assert len(await listener.receive()) == 128
    await link.wait_sendable()
    assert link.send_nowait(b"y")
    assert [frame for _, frame in await listener.receive()] == [b"y"]


async def test_a_full_pipe_wakes_its_sender_when_it_is_read() -> None:
    listener, link = connect(MemoryNetwork())
    while link.send_nowait(b"x"):
        pass
    order: list[str] = []

    async def send() -> None:
        await link.wait_sendable()
        order.append("woken")

    async with anyio.create_task_group() as group:
        group.start_soon(send)
        await anyio.wait_all_tasks_blocked()
        order.append("read")
        await listener.receive()
    assert order == ["read", "woken"]


async def test_two_tasks_may_not_wait_in_the_same_method() -> None:
    _, link = connect(MemoryNetwork())
    async with anyio.create_task_group() as group:
        group.start_soon(link.receive)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(anyio.BusyResourceError):
            await link.receive()
        group.cancel_scope.cancel()


async def test_receiving_is_a_checkpoint_also_when_there_are_frames() -> None:
    listener, link = connect(MemoryNetwork())
    link.send_nowait(b"x")
    with anyio.CancelScope() as scope:
        scope.cancel()
        await listener.receive()
    assert scope.cancelled_caught
    assert [frame for _, frame in await listener.receive()] == [b"x"]


async def test_reset_closes_the_pipes_of_one_address_only() -> None:
    network = MemoryNetwork(redial_delay=0)
    _, link = connect(network)
    network.listen("memory://other")
    other = network.dial("memory://other")
    for end in (link, other):
        await end.receive_pipe_events()
    network.reset_pipes(ADDRESS)
    network.reset_pipes("memory://nobody")
    assert not link.send_nowait(b"x")
    assert other.send_nowait(b"x")


async def test_a_partition_swallows_frames_and_nobody_notices() -> None:
    network = MemoryNetwork()
    listener, link = connect(network)
    link.send_nowait(b"before")
    [(route, _)] = await listener.receive()
    network.partition(ADDRESS)
    assert link.send_nowait(b"lost")
    listener.send(route, b"lost")
    network.heal(ADDRESS)
    assert link.send_nowait(b"after")
    assert [frame for _, frame in await listener.receive()] == [b"after"]
    listener.send(route, b"after")
    assert await link.receive() == [b"after"]
    assert await link.receive_pipe_events() == [PipeOpened(-1)]


async def test_no_pipe_comes_up_across_a_partition() -> None:
    network = MemoryNetwork()
    network.partition(ADDRESS)
    listener, link = connect(network)
    assert not link.send_nowait(b"x")
    network.heal(ADDRESS)
    assert link.send_nowait(b"y")
    assert [frame for _, frame in await listener.receive()] == [b"y"]
