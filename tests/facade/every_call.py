"""Every call that a user can make of a client so far, in one script.

    python -X dev -W error every_call.py asyncio
    python -X dev -W error every_call.py trio

The same code runs under both loops; only the last lines know which it is.
``test_every_call.py`` runs it both ways and expects not a word on stderr.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
import trio

from fastworker import (
    Client,
    ClientClosed,
    Conflict,
    ControlPlaneUnreachable,
    ControlPlaneWorker,
    LocalProtocolError,
    NotEncodable,
    SubWorker,
    TaskPriority,
    TaskStatus,
    UnknownTask,
    task,
)

ANY_PORT = "tcp://127.0.0.1:0"
MANY = 2_000


@task
def add(a: int, b: int = 0) -> int:
    return a + b


@task
async def add_on_trio(a: int, b: int) -> int:
    await trio.lowlevel.checkpoint()
    return a + b


@task(backend="asyncio")
async def add_on_asyncio(a: int, b: int) -> int:
    await asyncio.sleep(0)
    return a + b


@task(name="fails.loudly")
def fail() -> None:
    raise LookupError("as it should")


gate = threading.Event()


@task
def wait_at_gate() -> str:
    return "opened" if gate.wait(20) else "stuck"


@asynccontextmanager
async def control_plane() -> AsyncIterator[ControlPlaneWorker]:
    worker = ControlPlaneWorker(
        "plane", ANY_PORT, ANY_PORT, subworker_management_port=0, concurrency=2
    )
    assert worker.get_subworker_status() == {"total": 0, "active": 0, "subworkers": {}}
    assert worker.statistics() is None
    async with anyio.create_task_group() as group:
        await group.start(worker.start)
        yield worker
        worker.stop()
        worker.stop()


async def submit_and_wait(client: Client) -> None:
    for function in (add, add_on_trio, add_on_asyncio):
        by_function = await client.submit_task(function, (1, 2))
        assert (by_function.status, by_function.result) == (TaskStatus.SUCCESS, 3)
    by_name = await client.submit_task("add", (1,), {"b": 4}, TaskPriority.HIGH)
    assert by_name.result == 5
    assert by_name.worker_id == "plane"
    assert by_name.started_at is not None
    assert by_name.completed_at is not None
    failed = await client.submit_task("fails.loudly")
    assert failed.status is TaskStatus.FAILURE
    assert failed.error is not None
    assert "as it should" in failed.error
    assert failed.traceback is not None
    wrong = await client.submit_task("add", (1, 2, 3))
    assert wrong.status is TaskStatus.FAILURE


async def share_a_task(client: Client) -> None:
    keyed = client.options(idempotency_key="order-17", when_full="wait")
    values: list[object] = []

    async def call() -> None:
        values.append((await keyed.submit_task(wait_at_gate)).result)

    async with anyio.create_task_group() as group:
        group.start_soon(call)
        group.start_soon(call)
        with anyio.move_on_after(0.05) as scope:
            await keyed.submit_task(wait_at_gate)
        assert scope.cancelled_caught
        handle = await keyed.submit(wait_at_gate)
        with anyio.move_on_after(0.05):
            await handle.result()
        with pytest.raises(Conflict, match="other content"):
            await keyed.delay(add, 1)
        gate.set()
    gate.clear()
    assert values == ["opened"] * 2
    assert await keyed.delay(wait_at_gate) == handle.id
    assert await client.options(task_id="mine").delay(add, 1, 2) == "mine"
    assert await ended(client, "mine") == 3


async def ended(client: Client, task_id: str) -> object:
    """The value of a task of this client; what is pushed needs a moment."""
    while (result := client.get_result(task_id)) is None:
        await anyio.sleep(0.01)
    assert result.status is TaskStatus.SUCCESS, result
    return result.result


async def delay(client: Client) -> None:
    tickets = {
        await client.delay(add, 1, b=2): 3,
        await client.delay("add", 2, 2): 4,
        await client.delay("add", 2, b=3, priority="critical"): 5,
        await client.delay("add", 3, 3, priority=TaskPriority.LOW): 6,
        await client.delay(add_on_trio, 3, 4): 7,
    }
    for task_id, expected in tickets.items():
        assert await ended(client, task_id) == expected
        assert client.get_status(task_id) is TaskStatus.SUCCESS
        asked = await client.get_task_result(task_id)
        assert asked is not None
        assert asked.result == expected


async def follow_a_status(client: Client) -> None:
    """Two slots are taken by tasks that wait, so the third one is queued."""
    running = [await client.delay(wait_at_gate) for _ in range(2)]
    for task_id in running:
        while client.get_status(task_id) is TaskStatus.PENDING:
            await anyio.sleep(0.01)
        assert client.get_status(task_id) is TaskStatus.STARTED
    queued = await client.delay(wait_at_gate)
    assert client.get_status(queued) is TaskStatus.PENDING
    assert client.get_result(queued) is None
    asked = await client.get_task_result(queued)
    assert asked is not None
    assert asked.status is TaskStatus.PENDING
    gate.set()
    for task_id in [*running, queued]:
        assert await ended(client, task_id) == "opened"
    gate.clear()


async def ask_for_nothing(client: Client) -> None:
    assert client.get_status("no such id") is None
    assert client.get_result("no such id") is None
    assert await client.get_task_result("no such id") is None


async def ask_for_the_functions(client: Client) -> None:
    known = {function.name: function for function in await client.list_task_functions()}
    assert known["add"].workers == ("plane",)
    assert known["fails.loudly"].lane == "thread"


async def make_mistakes(client: Client) -> None:
    with pytest.raises(NotEncodable):
        await client.delay(add, object())  # type: ignore[arg-type]
    with pytest.raises(NotEncodable):
        await client.submit_task("add", (float("nan"),))
    with pytest.raises(UnknownTask, match="'addd'"):
        await client.delay("addd", 1)
    with pytest.raises(ValueError, match="urgent"):
        await client.delay("add", 1, priority="urgent")


async def run_out_of_time(address: str) -> None:
    async with Client(address, timeout=0.3) as client:
        running = [await client.delay(wait_at_gate) for _ in range(2)]
        late = await client.submit_task(wait_at_gate)
        assert late.status is TaskStatus.FAILURE
        assert late.error == "timed out after 0.3 s while queued"
        # A caller's own limit ends the wait, and takes the task back.
        with anyio.move_on_after(0.05) as scope:
            await client.submit_task(wait_at_gate)
        assert scope.cancelled_caught
        gate.set()
        for task_id in running:
            assert await ended(client, task_id) == "opened"
        gate.clear()


async def submit_many(client: Client) -> None:
    values: dict[str, int] = {}

    async def submit(number: int) -> None:
        values[await client.delay(add, number, 1)] = number + 1

    async with anyio.create_task_group() as group:
        for number in range(MANY):
            group.start_soon(submit, number)
    assert len(values) == MANY
    for task_id, expected in values.items():
        assert await ended(client, task_id) == expected
    assert client.statistics().waiting == 0


async def live_and_die(address: str) -> None:
    client = Client(discovery_address=address, connect_timeout=2)
    with pytest.raises(ClientClosed):
        await client.delay(add, 1)
    client.stop()
    for _ in range(2):  # it can be started again
        await client.start()
        await client.start()
        assert (await client.submit_task(add, (1,))).result == 1
        last = await client.delay(add, 41, 1)
        assert await ended(client, last) == 42
        client.stop()
        client.stop()
        with pytest.raises(ClientClosed):
            await client.submit_task(add, (1,))
        with pytest.raises(ClientClosed):
            await client.get_task_result(last)
        result = client.get_result(last)  # what has arrived stays
        assert result is not None
        assert result.result == 42
        await client.aclose()
        await client.aclose()


async def stop_under_a_caller(address: str) -> None:
    client = Client(address)
    await client.start()
    caught: list[ClientClosed] = []

    async def call() -> None:
        with pytest.raises(ClientClosed) as raised:
            await client.submit_task(wait_at_gate)
        caught.append(raised.value)

    async with anyio.create_task_group() as group:
        group.start_soon(call)
        while not client.statistics().waiting:
            await anyio.sleep(0.01)
        client.stop()
    assert len(caught) == 1
    await client.aclose()
    gate.set()


async def find_nobody() -> None:
    client = Client("tcp://127.0.0.1:9", connect_timeout=0.2)
    with pytest.raises(ControlPlaneUnreachable, match=r"tcp://127\.0\.0\.1:9"):
        await client.start()
    with pytest.raises(ControlPlaneUnreachable):
        async with client:
            raise AssertionError("nobody is there")
    with pytest.raises(ControlPlaneUnreachable):
        await SubWorker("w", "tcp://127.0.0.1:9", connect_timeout=0.2).start()


async def join(worker: ControlPlaneWorker) -> None:
    subworker = SubWorker("joined", worker.management_address, concurrency=1)
    async with anyio.create_task_group() as group:
        await group.start(subworker.start)
        status = worker.get_subworker_status()
        assert (status["total"], status["active"]) == (2, 2)
        assert set(status["subworkers"]) == {"plane", "joined"}
        assert subworker.statistics() is not None
        subworker.drain()
    assert subworker.statistics() is None
    assert worker.get_subworker_status()["total"] == 1


async def main() -> None:
    async with control_plane() as worker:
        address = worker.discovery_address
        with pytest.raises(LocalProtocolError):
            await worker.start()
        async with Client(address) as client:
            assert worker.statistics() is not None
            await submit_and_wait(client)
            await delay(client)
            await share_a_task(client)
            await follow_a_status(client)
            await ask_for_nothing(client)
            await ask_for_the_functions(client)
            await submit_many(client)
            await run_out_of_time(address)
            await join(worker)
            # Unknown names wait for workers during the first five seconds.
            await make_mistakes(client)
        await live_and_die(address)
        await stop_under_a_caller(address)
        await find_nobody()


if __name__ == "__main__":
    started_at = time.monotonic()
    if sys.argv[1] == "trio":
        trio.run(main)
    else:
        asyncio.run(main())
    print(f"every call ended right in {time.monotonic() - started_at:.1f} s")
