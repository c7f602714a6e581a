"""What is refused: before it is sent, by the control plane, or by the worker."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from fastworker import (
    Client,
    NotEncodable,
    PayloadTooLarge,
    SerializationFormat,
    TaskStatus,
    UnknownTask,
)
from fastworker._errors import NotDecodable
from tests.shell.world import World, open_world, settle

pytestmark = pytest.mark.trio


@pytest.mark.parametrize("attached", [False, True])
async def test_an_unknown_name_is_refused_with_near_matches(
    autojump_clock: MockClock, attached: bool
) -> None:
    async with open_world() as world, world.client() as client:
        await trio.sleep(10)  # start-up is over
        with pytest.raises(UnknownTask, match="unknown task 'ech'; did you mean 'echo'") as it:
            await (client.submit_task("ech") if attached else client.delay("ech"))
        assert it.value.task_name == "ech"
        assert client.statistics().waiting == 0
        assert world.tasks().refused == 1


async def test_an_unknown_name_is_held_at_start_up_in_case_its_worker_comes(
    autojump_clock: MockClock,
) -> None:
    async with open_world(workers=0) as world, world.client() as client:
        before = trio.current_time()
        with pytest.raises(UnknownTask, match="no worker has registered any task"):
            await client.delay("echo")
        assert trio.current_time() - before == pytest.approx(5, abs=0.01)

        async def join_late() -> None:
            await trio.sleep(3)
            await world.start_worker()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(join_late)
            assert (await client.submit_task("add", (1, 2))).result == 3


async def test_a_held_task_whose_caller_left_never_runs(autojump_clock: MockClock) -> None:
    async with open_world(workers=0) as world, world.client() as client:
        with trio.move_on_after(1):
            await client.submit_task("note", ("never",))
        with trio.move_on_after(1):
            await client.delay("note", "never")
        await world.start_worker()
        await settle()
        assert world.ran == []
        assert client.statistics().waiting == 0


async def test_a_function_that_is_not_registered_is_refused_before_it_is_sent(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client:
        with pytest.raises(UnknownTask, match="not registered as a task"):
            await client.delay(open_world)
        _assert_nothing_was_sent(world, client)


async def test_an_argument_that_cannot_travel_is_named_and_nothing_is_sent(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client:
        bad = [{"key": object()}]
        with pytest.raises(NotEncodable, match=r"argument 2\[0\]\['key'\] is of type object"):
            await client.delay("echo", 1, bad)
        with pytest.raises(NotEncodable, match=r"argument 2\[0\]\['key'\] is of type object"):
            await client.submit_task("echo", (1, bad))
        with pytest.raises(NotEncodable, match=r"argument 'x' is"):
            await client.delay("echo", x=object())
        _assert_nothing_was_sent(world, client)


async def test_arguments_beyond_16_mib_are_refused_and_nothing_is_sent(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client:
        with pytest.raises(PayloadTooLarge, match="the limit is 16,777,216"):
            await client.delay("echo", "x" * (16 * 1024 * 1024))
        _assert_nothing_was_sent(world, client)


@pytest.mark.slow
async def test_arguments_just_below_16_mib_pass(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:
        result = await client.submit_task("length", ("x" * (16 * 1024 * 1024 - 1000),))
        assert result.result == 16 * 1024 * 1024 - 1000, result.error


async def test_a_result_that_cannot_travel_is_a_failure(autojump_clock: MockClock) -> None:
    async with open_world() as world, world.client() as client:
        result = await client.submit_task("opaque")
        assert result.status is TaskStatus.FAILURE
        assert result.error is not None
        assert result.error.startswith("NotEncodable: ")
        assert "object" in result.error


async def test_wrong_arguments_are_a_failure_that_names_them(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, world.client() as client:
        result = await client.submit_task("add", (1,))
        assert result.status is TaskStatus.FAILURE
        assert result.error == "TypeError: add() missing a required argument: 'b'"


async def test_pickled_arguments_never_reach_a_worker_that_accepts_json(
    autojump_clock: MockClock,
) -> None:
    async with (
        open_world() as world,
        world.client(serialization_format=SerializationFormat.PICKLE) as client,
    ):
        result = await client.submit_task("echo", (_Bomb(),))
        assert result.status is TaskStatus.FAILURE
        assert result.error is not None
        assert "PICKLE arguments refused: this worker accepts JSON only" in result.error
        assert exploded == []


async def test_a_worker_that_accepts_pickle_serves_both(autojump_clock: MockClock) -> None:
    async with (
        open_world(workers=0) as world,
        world.client(serialization_format="pickle") as pickles,
        world.client() as client,
    ):
        await world.start_worker(serialization_format="pickle")
        result = await pickles.submit_task("echo", ((1, 2), {3}))
        assert result.result == [[(1, 2), {3}], {}]
        assert (await client.submit_task("echo", (1,))).result == [[1], {}]
        # A client that is set to JSON does not unpickle what others made.
        with pytest.raises(NotDecodable, match="PICKLE, and this client accepts JSON"):
            await client.get_task_result(result.task_id)


exploded: list[str] = []


def _explode() -> None:
    exploded.append("unpickled")


class _Bomb:
    def __reduce__(self) -> Any:
        return _explode, ()


def _assert_nothing_was_sent(world: World, client: Client) -> None:
    assert client.statistics().waiting == 0
    assert world.tasks().submitted == 0
