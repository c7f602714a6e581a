"""Every coroutine of a client, stopped by ``Task.cancel`` at every step, on asyncio.

asyncio's cancellation is native and edge-triggered: it knows of no anyio scope,
and comes once. After each, nothing may be left: no call, no task that runs on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

import fastworker
from fastworker import Abandoned, Client, Completed, Lost
from fastworker._registry import Registry

pytestmark = pytest.mark.slow

# So many steps of the loop; what takes longer waits for other threads.
STEPS = 60


async def wait_a_moment(what: int) -> int:
    await trio.sleep(0.004)
    return what


async def count(end: int) -> Any:
    for number in range(end):
        yield number


def registry() -> Registry:
    own = Registry()
    own.register(wait_a_moment)
    own.register(count)
    return own


async def use_a_group(client: Client) -> None:
    async with client.open_task_group() as group:
        for number in range(2):
            await group.submit("wait_a_moment", number)


async def use_a_map(client: Client) -> None:
    async with client.map("wait_a_moment", range(3), max_in_flight=2) as values:
        async for _ in values:
            pass


async def read_a_stream(client: Client) -> None:
    async with client.options(buffer=1).stream("count", 5) as values:
        async for _ in values:
            pass


async def submit_and(client: Client, what: str) -> None:
    handle = await client.submit("wait_a_moment", 1)
    await getattr(handle, what)()


async def cancel_by_id(client: Client) -> None:
    handle = await client.submit("wait_a_moment", 1)
    outcome = await client.cancel(handle.id)
    assert not isinstance(outcome, Abandoned | Lost)


CALLS: dict[str, Callable[[Client], Awaitable[Any]]] = {
    "delay": lambda client: client.delay("wait_a_moment", 1),
    "submit_task": lambda client: client.submit_task("wait_a_moment", (1,)),
    "submit": lambda client: client.submit("wait_a_moment", 1),
    "handle.wait": lambda client: submit_and(client, "wait"),
    "handle.result": lambda client: submit_and(client, "result"),
    "handle.cancel": lambda client: submit_and(client, "cancel"),
    "cancel": cancel_by_id,
    "get_task_result": lambda client: client.get_task_result("nobody"),
    "list_task_functions": lambda client: client.list_task_functions(),
    "open_task_group": use_a_group,
    "map": use_a_map,
    "stream": read_a_stream,
}


async def until_idle(client: Client) -> None:
    async with asyncio.timeout(10):
        while client.statistics().waiting:
            await asyncio.sleep(0.001)
    session = client._usable_session()
    assert not session._submits
    assert not session._queries
    assert not session._watches
    assert not session._readers


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("name", CALLS)
def test_a_call_that_is_cancelled_at_any_step_leaves_nothing(name: str, times: int) -> None:
    async def main() -> None:
        async with fastworker.local(registry=registry()) as client:
            before = asyncio.all_tasks()
            cancelled = 0
            for steps in range(STEPS):
                call = asyncio.ensure_future(CALLS[name](client))
                for _ in range(steps % 30):
                    await asyncio.sleep(0)
                if steps >= 30:  # and later: it waits for the control plane's thread
                    await asyncio.sleep((steps - 30) * 0.0005)
                for _ in range(times):
                    call.cancel()  # the second one may come while it waits, shielded
                    await asyncio.sleep(0)
                await asyncio.wait([call])
                if call.cancelled():
                    cancelled += 1
                elif call.exception() is not None:
                    raise call.exception() or AssertionError
                await until_idle(client)
                assert asyncio.all_tasks() == before
            assert cancelled > 5
            # The client works as before.
            assert (await client.submit_task("wait_a_moment", (7,))).result == 7

    asyncio.run(main())


def test_a_second_cancel_skips_the_wait_and_not_the_cancel() -> None:
    async def main() -> None:
        async with fastworker.local(registry=registry()) as client:
            own = client._registry
            stopped: list[str] = []

            async def slow_to_stop() -> None:
                try:
                    await trio.sleep(60)
                finally:
                    with trio.CancelScope(shield=True):
                        await trio.sleep(0.8)
                    stopped.append("it")

            own.register(slow_to_stop)
        async with fastworker.local(registry=own) as client:
            call = asyncio.ensure_future(client.submit_task("slow_to_stop"))
            await asyncio.sleep(0.1)
            call.cancel()
            await asyncio.sleep(0.05)
            assert not call.done(), "it does not wait for its task"
            call.cancel()
            await asyncio.wait([call])
            assert call.cancelled()
            assert not stopped, "the second cancel did not skip the wait"
            await until_idle(client)
            assert stopped == ["it"]

    asyncio.run(main())


@pytest.mark.parametrize("method", ["start", "aclose"])
def test_the_life_of_a_client_cancelled_at_any_step(method: str) -> None:
    async def main() -> None:
        for steps in range(40):
            client = fastworker.local(registry=registry())
            if method == "aclose":
                await client.start()
            call = asyncio.ensure_future(getattr(client, method)())
            for _ in range(steps):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.wait([call])
            await client.aclose()
            async with asyncio.timeout(10):
                while len(asyncio.all_tasks()) > 1:
                    await asyncio.sleep(0.001)

    asyncio.run(main())


def test_what_a_call_came_to_is_on_its_handle() -> None:
    async def main() -> None:
        async with fastworker.local(registry=registry()) as client:
            handle = await client.submit("wait_a_moment", 1)
            await handle.result()
            assert isinstance(handle.outcome, Completed)

    asyncio.run(main())
