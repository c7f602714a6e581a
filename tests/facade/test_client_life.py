"""A client and the loops and processes around it: ends, restarts, forks."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import anyio
import pytest
import trio

from fastworker import Client, ClientClosed
from tests.facade.plane import Plane, running_plane

pytestmark = pytest.mark.nng

Run = Callable[[Callable[[], Coroutine[Any, Any, None]]], None]


def run_on_asyncio(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(main())


def run_on_trio(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    trio.run(main)


@pytest.fixture(scope="module")
def plane() -> Iterator[Plane]:
    with running_plane() as plane:
        yield plane


@pytest.mark.parametrize("is_stopped", [True, False], ids=["stopped", "forgotten"])
def test_one_client_serves_loop_after_loop(plane: Plane, is_stopped: bool) -> None:
    client = Client(plane.address)

    async def use() -> None:
        with anyio.fail_after(5):
            await client.start()
            assert (await client.submit_task("add", (1, 2))).result == 3
            if is_stopped:
                client.stop()

    for run in (run_on_asyncio, run_on_asyncio, run_on_trio, run_on_trio, run_on_asyncio):
        run(use)
    client.stop()


@pytest.mark.parametrize("run", [run_on_asyncio, run_on_trio])
def test_a_client_that_its_loop_ended_says_so(plane: Plane, run: Run) -> None:
    client = Client(plane.address)

    async def forget() -> None:
        await client.start()

    async def use() -> None:
        with anyio.fail_after(5), pytest.raises(ClientClosed):
            await client.delay("add", 1, 2)

    run(forget)
    run(use)


def test_calls_after_all_tasks_were_cancelled_raise(plane: Plane) -> None:
    async def main() -> None:
        client = Client(plane.address)
        await client.start()
        this = asyncio.current_task()
        for task in asyncio.all_tasks():
            if task is not this:
                task.cancel()
        async with asyncio.timeout(5):
            for _ in range(100):
                with pytest.raises(ClientClosed):
                    await client.submit_task("wait")
                await asyncio.sleep(0.01)
            with pytest.raises(ClientClosed):
                await client.get_task_result("any")

    with plane.closed_gate():
        asyncio.run(main())


FORGET = """
import sys
import anyio
from fastworker import Client

async def main():
    client = Client(sys.argv[1])
    await client.start()
    await client.delay("add", 1, 2)
    async with anyio.create_task_group() as group:
        group.start_soon(client.submit_task, "add", (1, 2))
    print("done")

anyio.run(main, backend=sys.argv[2])
"""

# What a client in a fork can do: nothing, and say so. os._exit, because NNG
# hangs at the normal exit of a forked process (H17).
FORK = """
import os, sys
import anyio
from fastworker import Client, ForkedClient

async def main():
    client = Client(sys.argv[1])
    await client.start()
    parent = os.getpid()
    child = os.fork()
    if not child:
        try:
            for call in (client.delay, client.submit_task, client.get_task_result):
                try:
                    await call("add")
                except ForkedClient as error:
                    assert str(parent) in str(error) and str(os.getpid()) in str(error)
                else:
                    os._exit(3)
            assert client.get_result("add") is None
            client.stop()
            other = Client(sys.argv[1])
            try:
                await other.start()
            except ForkedClient:
                pass
            else:
                os._exit(4)
            os.execv(sys.executable, [sys.executable, "-c", EXECED, sys.argv[1], sys.argv[2]])
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(5)
    _, status = os.waitpid(child, 0)
    assert status == 0, status
    result = await client.submit_task("add", (1, 2))  # the child's stop() was its own
    assert result.result == 3, result
    await client.aclose()
    print("done")

EXECED = '''
import sys
import anyio
from fastworker import Client

async def main():
    async with Client(sys.argv[1]) as client:
        result = await client.submit_task("add", (1, 2))
        assert result.result == 3

anyio.run(main, backend=sys.argv[2])
'''

anyio.run(main, backend=sys.argv[2])
"""


@pytest.mark.slow
@pytest.mark.parametrize("loop", ["asyncio", "trio"])
@pytest.mark.parametrize("script", [FORGET, FORK], ids=["forgotten", "forked"])
def test_a_program_ends_without_a_word(plane: Plane, script: str, loop: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", script, plane.address, loop],
        capture_output=True,
        text=True,
        timeout=30,
    )
    stderr = re.sub(r"^Executing <.*> took [0-9.]+ seconds\n", "", ended.stderr, flags=re.M)
    assert (ended.returncode, ended.stdout, stderr) == (0, "done\n", "")
