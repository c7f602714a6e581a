"""What counts as delivered to a listener that answers nothing, on a network in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from fastworker._transport._callback_sender import CallbackSender, Delivery
from fastworker._transport._memory import MemoryNetwork
from fastworker._transport._memory_ends import MAX_FRAMES_UNDER_WAY, MemoryLink
from tests.shell.callback_listener import HERE, listening

pytestmark = pytest.mark.trio
FRAME = b'{"task_id":"t1"}'


@asynccontextmanager
async def sending(network: MemoryNetwork) -> AsyncIterator[tuple[CallbackSender, MemoryLink]]:
    link = network.dial_pair(HERE)
    sender = CallbackSender(link)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sender.run)
        yield sender, link
        link.close()  # which is all it takes to end it


async def test_a_frame_is_delivered_when_its_pipe_outlives_it_by_a_moment(
    autojump_clock: MockClock,
) -> None:
    network = MemoryNetwork()
    async with listening(network) as listener, sending(network) as (sender, _):
        before = trio.current_time()
        assert await sender.deliver([FRAME]) == Delivery(1)
        assert trio.current_time() - before == pytest.approx(0.1)
        assert listener.task_ids == ["t1"]


async def test_many_frames_need_one_moment_together_and_keep_their_order(
    autojump_clock: MockClock,
) -> None:
    network = MemoryNetwork()
    frames = [b'{"task_id":%d}' % number for number in range(500)]
    async with listening(network) as listener, sending(network) as (sender, _):
        before = trio.current_time()
        assert await sender.deliver(frames) == Delivery(500)
        assert trio.current_time() - before == pytest.approx(0.1)
        assert listener.task_ids == list(range(500))


async def test_where_nobody_listens_it_fails_after_five_seconds(
    autojump_clock: MockClock,
) -> None:
    async with sending(MemoryNetwork()) as (sender, _):
        before = trio.current_time()
        delivered, error = await sender.deliver([FRAME])
        assert trio.current_time() - before == pytest.approx(5.0)
    assert delivered == 0
    assert error == "no listener was reached within 5 s"


async def test_a_listener_that_comes_within_that_time_gets_it(
    autojump_clock: MockClock,
) -> None:
    network = MemoryNetwork()
    async with sending(network) as (sender, _), trio.open_nursery() as nursery:
        results: list[Delivery] = []

        async def deliver() -> None:
            results.append(await sender.deliver([FRAME]))

        nursery.start_soon(deliver)
        await trio.sleep(4)
        async with listening(network) as listener:
            await trio.sleep(0.5)
            assert results == [Delivery(1)]
            assert listener.task_ids == ["t1"]


async def test_a_listener_that_has_a_peer_already_is_no_delivery(
    autojump_clock: MockClock,
) -> None:
    # H23 in docs/faults.md.
    network = MemoryNetwork()
    async with listening(network) as listener:
        listener.is_taken = True
        async with sending(network) as (sender, _):
            delivered, error = await sender.deliver([FRAME, FRAME])
    assert delivered == 0
    assert "closed the connection" in error
    assert listener.turned_away >= 1


async def test_a_pipe_that_closes_within_the_moment_takes_all_frames_with_it(
    autojump_clock: MockClock,
) -> None:
    network = MemoryNetwork()
    async with listening(network), sending(network) as (sender, _):
        async with trio.open_nursery() as nursery:

            async def reset() -> None:
                await trio.sleep(0.05)
                network.reset_pipes(HERE)

            nursery.start_soon(reset)
            assert (await sender.deliver([FRAME] * 3)).delivered == 0
        await trio.sleep(1)
        assert await sender.deliver([FRAME]) == Delivery(1)


async def test_a_pipe_that_closed_earlier_says_nothing_about_a_later_frame(
    autojump_clock: MockClock,
) -> None:
    network = MemoryNetwork()
    async with listening(network), sending(network) as (sender, _):
        assert await sender.deliver([FRAME]) == Delivery(1)
        network.reset_pipes(HERE)
        await trio.sleep(1)
        assert await sender.deliver([FRAME]) == Delivery(1)


async def test_a_listener_that_does_not_read_gets_what_its_pipe_holds_and_no_more(
    autojump_clock: MockClock,
) -> None:
    network = MemoryNetwork()
    async with listening(network, reads=False), sending(network) as (sender, _):
        delivered, error = await sender.deliver([FRAME] * 200)
        # The last one that the pipe took was not followed by room for another.
        assert delivered == MAX_FRAMES_UNDER_WAY - 1
        assert error == "the listener did not read for 5 s"


async def test_what_a_listener_says_is_thrown_away(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    async with listening(network) as listener, sending(network) as (sender, link):
        await trio.sleep(0.1)
        for _ in range(10):
            for _ in range(100):
                listener.say(b"hello?")
            await trio.sleep(0.01)
        assert link._inbox == []
        assert await sender.deliver([FRAME]) == Delivery(1)


async def test_a_link_that_is_closed_ends_a_delivery(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()

    async def deliver() -> None:
        async with sending(network) as (sender, link), trio.open_nursery() as nursery:
            nursery.start_soon(_close_soon, link)
            before = trio.current_time()
            assert (await sender.deliver([FRAME])).delivered == 0
            assert trio.current_time() - before < 0.1

    await deliver()  # while it looks for somebody
    async with listening(network):
        await deliver()  # after it has sent


async def test_a_delivery_that_is_cancelled_leaves_nothing_behind(
    autojump_clock: MockClock,
) -> None:
    network = MemoryNetwork()
    async with sending(network) as (sender, _):
        for seconds in (0.0, 1.0):
            with trio.move_on_after(seconds) as scope:
                await sender.deliver([FRAME])
            assert scope.cancelled_caught
        async with listening(network) as listener:
            await trio.sleep(1)
            assert listener.heard == []
            with trio.move_on_after(0.05) as scope:
                await sender.deliver([FRAME])
            assert scope.cancelled_caught
            assert await sender.deliver([FRAME]) == Delivery(1)


async def _close_soon(link: MemoryLink) -> None:
    await trio.sleep(0.05)
    link.close()
