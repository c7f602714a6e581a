"""How callbacks get to their listeners, and what becomes of them when that takes long."""

from __future__ import annotations

import logging
from random import Random

import pytest
import trio
from trio.testing import MockClock

from fastworker._core._stored import Changes
from fastworker._errors import LinkError, StoreUnavailable
from fastworker._transport._memory_ends import MemoryLink
from tests.kept_store import KeptStore
from tests.shell.callback_listener import HERE, NOWHERE, callbacks, listening, open_plane
from tests.shell.world import open_world, settle

pytestmark = pytest.mark.trio


async def test_a_hundred_callbacks_arrive_in_order(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:
        async with listening(world.network) as listener:
            for number in range(100):
                await client.delay_with_callback("add", HERE, number, 0)
            await trio.sleep(2)
            assert [payload["result"] for payload in listener.heard] == list(range(100))
        assert callbacks(world).delivered == 100


async def test_a_dead_address_delays_nothing_else(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:
        async with listening(world.network) as listener:
            for number in range(20):
                await client.delay_with_callback("add", NOWHERE, 0, number)
                await client.delay_with_callback("add", HERE, 1, number)
            before = trio.current_time()
            while len(listener.heard) < 20:
                await trio.sleep(0.05)
            assert trio.current_time() - before < 1
            await settle()
        assert (await client.submit_task("add", (1, 2))).result == 3
        assert callbacks(world).queued == 20


async def test_a_listener_that_comes_up_late_hears_everything(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client:
        ids = [await client.delay_with_callback("add", HERE, 1, n) for n in range(5)]
        await trio.sleep(30)
        async with listening(world.network) as listener:
            await trio.sleep(30)
            assert listener.task_ids == ids
            assert listener.heard[0]["delivery"] > 1
            assert len({payload["event_id"] for payload in listener.heard}) == 5
        assert callbacks(world).queued == 0


async def test_a_listener_that_restarts_hears_what_came_before_and_after(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client:
        async with listening(world.network) as before:
            first = await client.delay_with_callback("add", HERE, 1, 1)
            await settle()
        second = await client.delay_with_callback("add", HERE, 2, 2)
        await trio.sleep(1)
        async with listening(world.network) as after:
            await trio.sleep(10)
        assert before.task_ids == [first]
        assert after.task_ids == [second]


async def test_a_listener_with_another_peer_hears_of_it_when_that_one_has_left(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client:
        async with listening(world.network) as listener:
            listener.is_taken = True
            task_id = await client.delay_with_callback("add", HERE, 1, 2)
            await trio.sleep(5)
            assert listener.turned_away > 1
            assert callbacks(world).delivered == 0
            listener.is_taken = False
            await trio.sleep(20)
            assert listener.task_ids[-1] == task_id
        assert callbacks(world).delivered == 1


async def test_after_ten_tries_a_callback_is_parked_and_shown(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client:
        task_id = await client.delay_with_callback("add", NOWHERE, 1, 2)
        await trio.sleep(60)
        assert (callbacks(world).queued, callbacks(world).parked) == (1, 0)
        await trio.sleep(300)
        [parked] = callbacks(world).parked_callbacks
        assert (parked.task_id, parked.address, parked.tries) == (task_id, NOWHERE, 10)
        assert "no listener was reached" in parked.error
        assert callbacks(world).failed_deliveries == 10
        assert callbacks(world).queued == 0


async def test_an_idle_connection_is_closed_after_ten_seconds(
    autojump_clock: MockClock,
) -> None:
    async with (
        open_world() as world,
        world.client() as client,
        listening(world.network) as listener,
    ):
        links = world.count_links()
        await client.delay_with_callback("add", HERE, 1, 2)
        await trio.sleep(9)
        assert len(listener.pipes) == 1
        assert world.count_links() == links + 1
        await trio.sleep(2)
        assert listener.pipes == []
        assert world.count_links() == links


async def test_nothing_is_told_before_its_record_is_durable(
    autojump_clock: MockClock,
) -> None:
    class FullStore(KeptStore):
        """Has no room for an outcome until ``is_full`` is taken back."""

        is_full = True

        def write(self, changes: Changes) -> None:
            if self.is_full and any(t.outcome for t in (*changes.created, *changes.updated)):
                raise StoreUnavailable("no space is left")
            super().write(changes)

        def recover(self) -> None:
            if self.is_full:
                raise StoreUnavailable("no space is left")

    store = FullStore()
    async with (
        open_plane(store=store) as world,
        world.client() as client,
        listening(world.network) as listener,
    ):
        task_id = await client.delay_with_callback("add", HERE, 1, 2)
        await trio.sleep(5)
        assert listener.heard == []
        store.is_full = False
        await trio.sleep(5)
        assert listener.task_ids == [task_id]


async def test_a_network_that_fails_is_tried_again(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors: list[Exception] = [OSError("no descriptors"), LinkError("no memory")]

    async with open_world() as world, world.client() as client:
        dial = world.network.dial_pair

        def dial_pair(address: str) -> MemoryLink:
            if errors:
                raise errors.pop()
            return dial(address)

        monkeypatch.setattr(world.network, "dial_pair", dial_pair)
        async with listening(world.network) as listener:
            await client.delay_with_callback("add", HERE, 1, 2)
            await trio.sleep(10)
            [payload] = listener.heard
            assert payload["delivery"] == 3


async def test_the_same_seed_makes_the_same_tries(autojump_clock: MockClock) -> None:
    async def tries(seed: int) -> list[float]:
        times: list[float] = []
        async with open_plane(rng=Random(seed)) as world:
            dial = world.network.dial_pair
            start = trio.current_time()

            def dial_pair(address: str) -> MemoryLink:
                times.append(round(trio.current_time() - start, 3))
                return dial(address)

            world.network.dial_pair = dial_pair  # type: ignore[method-assign]
            async with world.client() as client:
                await client.delay_with_callback("add", NOWHERE, 1, 2)
                await trio.sleep(100)
        return times

    assert await tries(1) == await tries(1) != await tries(2)


async def test_draining_lets_the_last_callbacks_arrive(autojump_clock: MockClock) -> None:
    async with (
        open_plane() as world,
        listening(world.network) as listener,
        world.client() as client,
    ):
        task_id = await client.delay_with_callback("wait", HERE, "a")
        await settle()
        world.plane.drain()
        await settle()
        world.let_go("a")
        await trio.sleep(5)
        assert world.plane.epoch == 0, "it has ended"
        assert listener.task_ids == [task_id]


async def test_stopping_gives_what_is_on_its_way_a_moment_and_says_what_is_lost(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_plane() as world:
        plane = world.plane
        async with listening(world.network) as listener, world.client() as client:
            await client.delay_with_callback("add", NOWHERE, 1, 1)
            await client.delay_with_callback("add", NOWHERE, 2, 2)
            task_id = await client.delay_with_callback("add", HERE, 3, 3)
            while callbacks(world).due < 3:
                await trio.sleep(0.01)
            assert callbacks(world).delivered == 0
            before = trio.current_time()
            with caplog.at_level(logging.WARNING, "fastworker.callbacks"):
                plane.stop()
                while plane.epoch:
                    await trio.sleep(0.01)
            assert trio.current_time() - before == pytest.approx(1.0, abs=0.1)
            assert listener.task_ids == [task_id]
            assert "2 callbacks are lost: they were still to be sent" in caplog.messages


async def test_stopping_does_not_wait_for_the_next_try(autojump_clock: MockClock) -> None:
    async with open_plane() as world:
        plane = world.plane
        async with world.client() as client:
            await client.delay_with_callback("add", NOWHERE, 1, 1)
            await trio.sleep(5.2)  # the first try is over
            before = trio.current_time()
            plane.stop()
            while plane.epoch:
                await trio.sleep(0.01)
            assert trio.current_time() - before < 0.05


@pytest.mark.parametrize("seconds", [0.0, 0.05, 1.0, 5.5])
async def test_a_control_plane_that_is_cancelled_leaves_no_connection(
    seconds: float, autojump_clock: MockClock
) -> None:
    async with open_world() as world, world.client() as client, listening(world.network):
        for number in range(10):
            await client.delay_with_callback("add", HERE, number, 0)
            await client.delay_with_callback("add", NOWHERE, number, 0)
        await trio.sleep(seconds)
        world.nursery.cancel_scope.cancel()
        await trio.lowlevel.checkpoint_if_cancelled()
