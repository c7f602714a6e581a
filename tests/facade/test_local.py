"""``fastworker.local()``: everything in one process, in whatever loop the caller has."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Literal

import anyio
import pynng
import pytest
import sniffio
import trio

import fastworker
from fastworker import Client, ClientBroken, ConfigurationError, TaskStatus, UnknownTask
from fastworker._control_plane import ControlPlaneWorker
from fastworker._lanes import make_lane
from fastworker._registry import Registry, TaskOptions
from tests.ports import free_address

pytestmark = pytest.mark.anyio

MANY = 1_000


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def add(a: int, b: int) -> int:
    return a + b


async def add_on_trio(a: int, b: int) -> int:
    await trio.lowlevel.checkpoint()
    return a + b


async def add_on_asyncio(a: int, b: int) -> int:
    await asyncio.sleep(0)
    return a + b


async def which_loop() -> str:
    return sniffio.current_async_library()


async def wait_for_ever() -> None:
    await trio.sleep_forever()


class Gate:
    """A ``def`` task that waits in its thread, however it is cancelled."""

    def __init__(self) -> None:
        self.is_open = threading.Event()
        self.has_started = threading.Event()

    def wait(self) -> bool:
        self.has_started.set()
        return self.is_open.wait(30)


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.is_open.set()


@pytest.fixture
def registry(gate: Gate) -> Registry:
    registry = Registry()
    for function in (add, add_on_trio, which_loop, wait_for_ever):
        registry.register(function)
    registry.register(add_on_asyncio, options=TaskOptions(backend="asyncio"))
    registry.register(gate.wait, name="wait")
    return registry


def figures() -> tuple[list[str], list[str]]:
    """Threads and descriptors of this process."""
    # Trio keeps threads that have nothing to do, of anybody's, for ten seconds.
    names = [thread.name for thread in threading.enumerate()]
    threads = sorted(name for name in names if not name.startswith("Trio thread"))
    gc.collect()
    folder = f"/proc/{os.getpid()}/fd"
    descriptors = []
    for number in os.listdir(folder):
        try:
            descriptors.append(os.readlink(f"{folder}/{number}").partition(":")[0])
        except FileNotFoundError:
            continue  # that of the folder itself
    return threads, sorted(descriptors)


async def settle(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not condition():
            await anyio.sleep(0.005)


@pytest.mark.parametrize("function", [add, add_on_trio, add_on_asyncio])
async def test_it_runs_functions_of_every_kind(
    registry: Registry, function: Callable[..., Any]
) -> None:
    async with fastworker.local(registry=registry) as client:
        result = await client.submit_task(function, (1,), {"b": 2})
        assert (result.status, result.result) == (TaskStatus.SUCCESS, 3)
        assert result.worker_id == "local"
        task_id = await client.delay(function, 3, 4)
        await settle(lambda: client.get_status(task_id) is TaskStatus.SUCCESS)
        asked = await client.get_task_result(task_id)
        assert asked is not None
        assert asked.result == 7


async def test_a_thousand_tasks_at_once_all_end_right(registry: Registry) -> None:
    sums: list[int] = []

    async def submit(number: int) -> None:
        sums.append((await client.submit_task("add", (number, 1))).result)

    async with (
        fastworker.local(registry=registry, concurrency=4, timeout=60) as client,
        anyio.create_task_group() as group,
    ):
        for number in range(MANY):
            group.start_soon(submit, number)
    assert sorted(sums) == list(range(1, MANY + 1))


async def test_the_default_loop_of_tasks_can_be_chosen(registry: Registry) -> None:
    backends: list[Literal["trio", "asyncio"]] = ["trio", "asyncio"]
    for backend in backends:
        async with fastworker.local(registry=registry, backend=backend) as client:
            assert (await client.submit_task(which_loop)).result == backend


async def test_as_many_tasks_run_at_once_as_was_said(registry: Registry, gate: Gate) -> None:
    async with fastworker.local(registry=registry, concurrency=2) as client:
        ids = [await client.delay("wait") for _ in range(3)]

        def statuses() -> list[TaskStatus | None]:
            return [client.get_status(task_id) for task_id in ids]

        await settle(lambda: statuses().count(TaskStatus.STARTED) == 2)
        assert statuses().count(TaskStatus.PENDING) == 1
        gate.is_open.set()
        await settle(lambda: statuses() == [TaskStatus.SUCCESS] * 3)


async def test_values_travel_as_they_would_between_processes(registry: Registry) -> None:
    pair = (1, 2)
    registry.register(lambda value: value, name="echo")
    async with fastworker.local(registry=registry) as client:
        assert (await client.submit_task("echo", (pair,))).result == [1, 2]
        with pytest.raises(fastworker.NotEncodable):
            await client.delay("echo", object())
    async with fastworker.local(registry=registry, serialization_format="PICKLE") as client:
        assert (await client.submit_task("echo", (pair,))).result == pair


async def test_modules_are_loaded_by_name(
    anyio_backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"tasks_for_local_on_{anyio_backend}"
    code = f"from fastworker import task\n@task\ndef {name}(x: int) -> int: return 2 * x\n"
    (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    async with fastworker.local(name, concurrency=1) as client:
        assert (await client.submit_task(name, (4,))).result == 8


async def test_a_module_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no task module 'mytaskz'"):
        async with fastworker.local("mytaskz"):
            raise AssertionError


async def test_a_setting_that_cannot_be_used_is_refused_at_once(registry: Registry) -> None:
    with pytest.raises(ConfigurationError, match="concurrency=0"):
        fastworker.local(registry=registry, concurrency=0)
    with pytest.raises(ConfigurationError, match="timeout"):
        fastworker.local(registry=registry, timeout=-1)


async def test_an_unknown_name_is_refused_at_once_with_near_matches(registry: Registry) -> None:
    async with fastworker.local(registry=registry) as client:
        with anyio.fail_after(1), pytest.raises(UnknownTask, match=r"did you mean 'add'"):
            await client.delay("adf", 1, 2)


async def test_what_the_body_raises_comes_out_unwrapped(registry: Registry) -> None:
    before = figures()
    with pytest.raises(LookupError, match="the body"):
        async with fastworker.local(registry=registry):
            raise LookupError("the body")
    assert figures() == before


async def test_a_cancelled_body_ends_everything_within_a_moment(registry: Registry) -> None:
    before = figures()
    with anyio.CancelScope() as scope:
        async with fastworker.local(registry=registry) as client:
            await client.delay("wait_for_ever")
            scope.cancel()
            started_at = time.monotonic()
            await client.submit_task("wait_for_ever")
    assert scope.cancelled_caught
    assert time.monotonic() - started_at < 0.4  # nobody waited in vain for a goodbye
    assert figures() == before


async def test_it_can_be_cancelled_at_any_moment_of_its_start(registry: Registry) -> None:
    before = figures()
    for delay in (0.0, 0.001, 0.002, 0.003, 0.004, 0.006, 0.008, 0.01, 0.02):
        with anyio.move_on_after(delay):
            async with fastworker.local(registry=registry, concurrency=1):
                await anyio.sleep_forever()
        assert figures() == before


async def test_a_function_that_does_not_return_holds_nothing_but_its_thread(
    registry: Registry, gate: Gate
) -> None:
    threads, descriptors = figures()
    async with fastworker.local(registry=registry, concurrency=3) as client:
        await client.delay("wait")
        await settle(gate.has_started.is_set)
        started_at = time.monotonic()
    assert time.monotonic() - started_at < 1
    after, descriptors_after = figures()
    assert len(after) == len(threads) + 1
    assert descriptors_after == descriptors
    gate.is_open.set()
    await settle(lambda: figures()[0] == threads)


async def test_two_at_once_and_one_inside_the_other_do_not_meet(registry: Registry) -> None:
    async def use(number: int) -> None:
        async with fastworker.local(registry=registry, concurrency=1) as client:
            async with fastworker.local(registry=registry, concurrency=1) as inner:
                outer_id = await client.delay("add", number, 1)
                await settle(lambda: client.get_result(outer_id) is not None)
                assert await inner.get_task_result(outer_id) is None
            result = await client.get_task_result(outer_id)
            assert result is not None
            assert result.result == number + 1

    before = figures()
    async with anyio.create_task_group() as group:
        for number in range(3):
            group.start_soon(use, number)
    assert figures() == before


async def test_it_can_be_started_and_stopped_again_and_again(registry: Registry) -> None:
    client = fastworker.local(registry=registry)
    assert repr(client) == "<local Client: closed>"
    before = figures()
    for _ in range(3):
        await client.start()
        assert repr(client) == "<local Client: open>"
        assert (await client.submit_task("add", (1, 2))).result == 3
        await client.aclose()
        assert figures() == before
    async with client:
        assert (await client.submit_task("add", (1, 2))).result == 3


async def test_if_its_control_plane_breaks_every_call_raises_why(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors: list[ClientBroken] = []
    breaks = threading.Event()
    take = ControlPlaneWorker._take

    def take_or_break(*args: Any) -> int:
        if breaks.is_set():
            breaks.clear()
            raise LookupError("a bug of ours")
        return take(*args)

    async def call() -> None:
        with pytest.raises(ClientBroken, match="a bug of ours") as caught:
            await client.submit_task("wait_for_ever")
        errors.append(caught.value)

    monkeypatch.setattr(ControlPlaneWorker, "_take", take_or_break)
    before = figures()
    with anyio.fail_after(5):
        async with fastworker.local(registry=registry) as client:
            async with anyio.create_task_group() as group:
                group.start_soon(call)
                await settle(lambda: client.statistics().waiting == 1)
                breaks.set()
                group.start_soon(call)
            await call()
    assert len(errors) == 3
    assert all(isinstance(error.__cause__, LookupError) for error in errors)
    assert figures() == before


async def test_if_it_cannot_start_the_caller_is_told_why(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> None:
        raise OSError("no thread can be started")

    monkeypatch.setattr("fastworker._local.make_lane", fail)
    before = figures()
    with anyio.fail_after(5), pytest.raises(ClientBroken, match="no thread can be started"):
        await fastworker.local(registry=registry).start()
    assert figures() == before
    monkeypatch.setattr("fastworker._local.make_lane", make_lane)


@pytest.mark.nng
async def test_callbacks_may_go_anywhere_since_nobody_else_submits(registry: Registry) -> None:
    async with fastworker.local(registry=registry) as client:
        for address in ("tcp://192.0.2.77:9000", "tcp://hooks.invalid:9000"):
            assert await client.delay_with_callback("add", address, 1, 2)


@pytest.mark.nng
async def test_callbacks_reach_a_real_listener(registry: Registry) -> None:
    address = free_address()
    with pynng.Pair0(listen=address, recv_timeout=5000) as listener:
        async with fastworker.local(registry=registry) as client:
            task_id = await client.delay_with_callback("add", address, 1, 2)
            message = await listener.arecv()
    assert task_id.encode() in message


def test_it_works_in_a_loop_that_runs_already_as_in_a_notebook(registry: Registry) -> None:
    """One cell after the other, in a loop that never ends."""
    before = figures()
    loop = asyncio.new_event_loop()
    kernel = threading.Thread(target=loop.run_forever)
    kernel.start()

    def run_cell(cell: Coroutine[Any, Any, Any]) -> Any:
        future: Future[Any] = asyncio.run_coroutine_threadsafe(cell, loop)
        return future.result(20)

    async def use_a_block() -> Any:
        async with fastworker.local(registry=registry) as client:
            return (await client.submit_task(add, (1, 2))).result

    async def use(client: Client) -> Any:
        return (await client.submit_task(add, (3, 4))).result

    try:
        assert run_cell(use_a_block()) == 3
        client = fastworker.local(registry=registry)
        run_cell(client.start())
        assert run_cell(use(client)) == 7
        assert run_cell(use_a_block()) == 3
        assert run_cell(use(client)) == 7
        run_cell(client.aclose())
    finally:
        loop.call_soon_threadsafe(loop.stop)
        kernel.join(10)
        loop.close()
    assert figures() == before


def test_an_asyncio_task_that_is_cancelled_natively_leaves_nothing(registry: Registry) -> None:
    before = figures()

    async def use(is_up: asyncio.Event) -> None:
        async with fastworker.local(registry=registry) as client:
            is_up.set()
            await client.submit_task("wait_for_ever")

    async def main() -> None:
        is_up = asyncio.Event()
        task = asyncio.create_task(use(is_up))
        await is_up.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert figures() == before
