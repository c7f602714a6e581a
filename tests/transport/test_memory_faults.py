"""The faults that the network in memory makes on request, in virtual time."""

from __future__ import annotations

from random import Random

import pytest
import trio.testing
from trio.testing import MockClock

from fastworker._core._pipes import PipeClosed, PipeOpened
from fastworker._errors import ConfigurationError, LinkClosed
from fastworker._transport._abc import Link, Listener
from fastworker.testing import Faults, MemoryNetwork, check_link

ADDRESS = "memory://control-plane"
FRAMES = [b"%d" % number for number in range(100)]


def connect(network: MemoryNetwork) -> tuple[Listener, Link]:
    listener = network.listen(ADDRESS)
    return listener, network.dial(ADDRESS)


async def receive(listener: Listener, count: int) -> list[bytes]:
    frames: list[bytes] = []
    while len(frames) < count:
        frames += [frame for _, frame in await listener.receive()]
    return frames


async def receive_all(listener: Listener) -> list[bytes]:
    """What there is, when nothing more can come."""
    frames: list[bytes] = []
    with trio.move_on_after(1e6):  # virtual seconds
        while True:
            frames += [frame for _, frame in await listener.receive()]
    return frames


@pytest.mark.trio
async def test_the_contract_holds_in_virtual_time(autojump_clock: MockClock) -> None:
    await check_link(MemoryNetwork, lambda: "tcp://127.0.0.1:0")


@pytest.mark.trio
async def test_a_link_dials_again_after_the_redial_delay(autojump_clock: MockClock) -> None:
    network = MemoryNetwork(redial_delay=3.0)
    listener, link = connect(network)
    [opened] = await link.receive_pipe_events()
    started = trio.current_time()
    network.reset_pipes(ADDRESS)
    assert await link.receive_pipe_events() == [PipeClosed(opened.pipe)]
    assert trio.current_time() == started
    [again] = await link.receive_pipe_events()
    assert isinstance(again, PipeOpened)
    assert trio.current_time() == pytest.approx(started + 3.0)
    listener.close()


@pytest.mark.trio
async def test_who_waits_at_the_listener_sees_an_idle_link_come_back(
    autojump_clock: MockClock,
) -> None:
    network = MemoryNetwork(redial_delay=3.0)
    listener, link = connect(network)
    await listener.receive_pipe_events()
    async with trio.open_nursery() as nursery:
        # Nobody waits for anything of the link.
        nursery.start_soon(listener.receive)
        await trio.testing.wait_all_tasks_blocked()
        link.drop_pipe()
        [closed] = await listener.receive_pipe_events()
        [opened] = await listener.receive_pipe_events()
        assert isinstance(closed, PipeClosed)
        assert isinstance(opened, PipeOpened)
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_a_new_listener_does_not_shorten_the_redial_delay(
    autojump_clock: MockClock,
) -> None:
    network = MemoryNetwork(redial_delay=3.0)
    listener, link = connect(network)
    listener.close()
    network.listen(ADDRESS)
    started = trio.current_time()
    assert not link.send_nowait(b"x")
    await link.wait_sendable()
    assert trio.current_time() == pytest.approx(started + 3.0)


@pytest.mark.trio
async def test_a_lossy_network_loses_about_as_many_frames_as_it_should(
    autojump_clock: MockClock,
) -> None:
    network = MemoryNetwork(random=Random(5), faults=Faults(loss=0.3))
    listener, link = connect(network)
    for frame in FRAMES:
        assert link.send_nowait(frame)
    received = await receive_all(listener)
    assert 55 <= len(received) <= 85
    assert received == [frame for frame in FRAMES if frame in received]


@pytest.mark.trio
async def test_duplicates_are_the_same_frame_from_the_same_route(
    autojump_clock: MockClock,
) -> None:
    network = MemoryNetwork(faults=Faults(duplicate=1.0))
    listener, link = connect(network)
    link.send_nowait(b"x")
    first, second = await listener.receive()
    assert first == second


@pytest.mark.trio
async def test_delayed_frames_keep_their_order_and_take_about_their_time(
    autojump_clock: MockClock,
) -> None:
    network = MemoryNetwork(random=Random(5), faults=Faults(delay=10.0))
    listener, link = connect(network)
    started = trio.current_time()
    arrivals: list[float] = []
    for frame in FRAMES:
        link.send_nowait(frame)
        [(_, received)] = await listener.receive()
        assert received == frame
        arrivals.append(trio.current_time())
    assert 7 * len(FRAMES) < arrivals[-1] - started < 13 * len(FRAMES)
    for frame in FRAMES:
        link.send_nowait(frame)
    assert await receive(listener, len(FRAMES)) == FRAMES


@pytest.mark.parametrize("delay", [0.0, 1.0])
@pytest.mark.trio
async def test_reordered_frames_all_arrive(autojump_clock: MockClock, delay: float) -> None:
    network = MemoryNetwork(random=Random(5), faults=Faults(reorder=0.2, delay=delay))
    listener, link = connect(network)
    for frame in FRAMES:
        link.send_nowait(frame)
    received = await receive(listener, len(FRAMES))
    assert received != FRAMES
    assert sorted(received) == sorted(FRAMES)


@pytest.mark.trio
async def test_a_frame_under_way_is_lost_with_its_pipe_and_one_that_arrived_is_not(
    autojump_clock: MockClock,
) -> None:
    network = MemoryNetwork()
    listener, link = connect(network)
    link.send_nowait(b"arrived")
    network.faults = Faults(delay=10.0)
    link.send_nowait(b"under way")
    link.drop_pipe()
    assert await receive_all(listener) == [b"arrived"]


@pytest.mark.trio
async def test_the_same_seed_makes_the_same_network_again(autojump_clock: MockClock) -> None:
    async def run(seed: int) -> list[tuple[float, bytes]]:
        network = MemoryNetwork(
            random=Random(seed),
            faults=Faults(loss=0.1, duplicate=0.1, delay=0.5, reorder=0.1),
        )
        listener, link = connect(network)
        started = trio.current_time()
        log: list[tuple[float, bytes]] = []

        async def send() -> None:
            for number, frame in enumerate(FRAMES):
                while not link.send_nowait(frame):
                    await link.wait_sendable()
                await trio.sleep(0.1)  # virtual
                if number % 30 == 29:
                    network.reset_pipes(ADDRESS)
            listener.close()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            try:
                while True:
                    for route, frame in await listener.receive():
                        log.append((route.pipe, frame))
                    log.append((round(trio.current_time() - started, 9), b"seconds"))
            except LinkClosed:
                return log

    first = await run(7)
    assert len(first) > 50
    assert await run(7) == first
    assert await run(8) != first


@pytest.mark.parametrize(
    "faults",
    [{"loss": -0.1}, {"loss": 1.1}, {"duplicate": 2.0}, {"reorder": float("nan")}]
    + [{"delay": value} for value in (-1.0, float("inf"), float("nan"))],
)
def test_impossible_faults_are_refused(faults: dict[str, float]) -> None:
    [(name, value)] = faults.items()
    with pytest.raises(ConfigurationError, match=f"{name}.*{value}"):
        Faults(**faults)
