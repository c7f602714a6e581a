"""How a client leaves: what its callers, the control plane and its tasks see."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from fastworker import (
    Client,
    ClientBroken,
    ClientClosed,
    ControlPlaneUnreachable,
    FastWorkerError,
    TaskStatus,
)
from fastworker._transport._memory import MemoryNetwork
from tests.shell.world import open_world, settle

pytestmark = pytest.mark.trio

Calls = dict[str, Callable[[Client], Awaitable[Any]]]
CALLS: Calls = {
    "delay": lambda client: client.delay("note", "a"),
    "submit_task": lambda client: client.submit_task("wait", ("a",)),
    "get_task_result": lambda client: client.get_task_result("any"),
}


@pytest.mark.parametrize("name", CALLS)
async def test_stop_fails_pending_calls_at_once(autojump_clock: MockClock, name: str) -> None:
    async with open_world() as world:
        client = world.new_client()
        await client.start()
        world.network.partition(world.plane.base_address)
        errors: list[BaseException] = []
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(_collect, CALLS[name](client), errors)
            await settle()
            client.stop()
            await wait_all_tasks_blocked()  # takes no time
            assert [type(error) for error in errors] == [ClientClosed] * 2
            assert errors[0] is not errors[1], "tracebacks would grow into each other"
        await client.aclose()


async def test_aclose_of_a_client_that_is_cut_off_waits_half_a_second(
    autojump_clock: MockClock,
) -> None:
    # H8 in docs/faults.md.
    async with open_world() as world:
        client = world.new_client()
        await client.start()
        world.network.partition(world.plane.base_address)
        before = trio.current_time()
        await client.aclose()
        assert trio.current_time() - before == pytest.approx(0.5)
        assert world.count_links() == 1


async def test_aclose_takes_no_time_when_the_control_plane_answers(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        client = world.new_client()
        await client.start()
        before = trio.current_time()
        await client.aclose()
        assert trio.current_time() == before
        assert world.count_clients() == 0


async def test_a_goodbye_cancels_attached_tasks_and_leaves_detached_ones(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        client = world.new_client()
        await client.start()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_collect, client.submit_task("wait", ("attached",)), [])
            await settle()
            nursery.start_soon(_collect, client.submit_task("note", ("queued",)), [])
            await settle()
            detached = await client.delay("note", "detached")
            await client.aclose()
        await settle()
        assert world.stopped == ["attached"]
        assert world.ran == ["attached", "detached"]
        async with world.client() as other:
            result = await other.get_task_result(detached)
            assert result is not None
            assert result.status is TaskStatus.SUCCESS


async def test_a_client_that_is_silent_for_30_s_loses_its_attached_tasks_only(
    autojump_clock: MockClock,
) -> None:
    async with (
        open_world() as world,
        world.client(timeout=100) as client,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(client.submit_task, "wait", ("attached",))
        await settle()
        await client.delay("wait", "detached")
        world.network.partition(world.plane.base_address)
        await trio.sleep(24)
        assert world.stopped == []
        await trio.sleep(6.5)
        assert world.stopped == ["attached"]
        assert world.ran == ["attached", "detached"]
        assert world.count_clients() == 0
        nursery.cancel_scope.cancel()


async def test_a_failure_in_the_background_breaks_pending_and_later_calls(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        client = world.new_client()
        await client.start()
        errors: list[BaseException] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_collect, client.submit_task("wait", ("a",)), errors)
            nursery.start_soon(_collect, client.submit_task("wait", ("b",)), errors)
            await settle()
            _break(client)
            world.network.reset_pipes(world.plane.base_address)
        for call in CALLS.values():
            await _collect(call(client), errors)
        assert [type(error) for error in errors] == [ClientBroken] * 5
        for error in errors:
            assert isinstance(error.__cause__, _Bug)
        with pytest.raises(ClientBroken):
            await client.start()
        assert "broken" in repr(client)
        client.stop()
        await client.aclose()
        assert world.count_links() == 1

        await client.start()
        assert (await client.submit_task("add", (1, 2))).result == 3
        await client.aclose()


async def test_a_failure_in_the_background_leaves_the_body_alone(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        async with world.new_client() as client:
            _break(client)
            world.network.reset_pipes(world.plane.base_address)
            await trio.sleep(1)
            with pytest.raises(ClientBroken) as caught:
                await client.delay("add", 1, 2)
            assert isinstance(caught.value.__cause__, _Bug)
        assert world.count_links() == 1


async def test_a_transport_that_cannot_dial_breaks_the_start(
    autojump_clock: MockClock,
) -> None:
    class BrokenNetwork(MemoryNetwork):
        def dial(self, address: str) -> Any:
            raise _Bug("no cable")

    async with open_world():
        client = Client(transport=BrokenNetwork())
        with pytest.raises(ClientBroken) as caught:
            await client.start()
        assert isinstance(caught.value.__cause__, _Bug)
        with pytest.raises(ClientBroken):
            async with Client(transport=BrokenNetwork()):
                raise AssertionError("not reached")


async def test_an_error_that_meets_a_cancellation_ends_no_program(
    autojump_clock: MockClock,
) -> None:
    class StubbornNetwork(MemoryNetwork):
        def dial(self, address: str) -> Any:
            link: Any = super().dial(address)
            close = link.close

            def fail() -> None:
                close()
                raise _Bug("it does not let go")

            link.close = fail
            return link

    # From Trio's system nursery it would come out as TrioInternalError.
    client = Client(transport=StubbornNetwork(), connect_timeout=1)
    with pytest.raises(ControlPlaneUnreachable):
        await client.start()
    with trio.move_on_after(0.5) as scope:
        await client.start()
    assert scope.cancelled_caught


class _Bug(Exception):
    """Something nobody expects."""


def _break(client: Client) -> None:
    """Have the client's machine raise at the next thing that happens."""

    session = client._session
    assert session is not None
    intact = session._handle

    def handle(event: object, *, now: float) -> Any:
        session._handle = intact
        raise _Bug("a bug")

    session._handle = handle


async def _collect(call: Awaitable[Any], errors: list[Any]) -> None:
    try:
        await call
    except FastWorkerError as error:
        errors.append(error)
