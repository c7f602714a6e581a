"""asyncio's ``Task.cancel`` at every step, on every public coroutine.

The same as tests/shell/test_cancel_sweep.py, on the other loop: there is a
thread with the control plane in it, so the steps are not the same each time.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from typing import Any

import pytest
import trio

import fastworker
from fastworker import (
    Cancelled,
    Client,
    Completed,
    ControlPlaneWorker,
    NeverStarted,
    SubWorker,
    TaskStatus,
)
from fastworker._registry import Registry
from fastworker._transport._in_process import InProcessNetwork
from tests.facade.plane import count_threads
from tests.public_coroutines import Sweep

pytestmark = pytest.mark.slow

ASYNCIO_SWEEP = Sweep()
# Nobody listens there: what is told is told in vain.
CALLBACK_ADDRESS = "tcp://127.0.0.1:9"


async def echo(what: Any) -> Any:
    return what


async def wait_for_ever() -> None:
    await trio.sleep_forever()


async def count(end: int) -> AsyncIterator[int]:
    for number in range(end):
        yield number


class Stubborn:
    """A task that goes on when it is asked to stop, until it is let go."""

    def __init__(self) -> None:
        self.runs = threading.Event()
        self.was_asked = threading.Event()
        self.is_let_go = threading.Event()

    async def __call__(self) -> None:
        self.runs.set()
        try:
            await trio.sleep_forever()
        finally:
            self.was_asked.set()
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self.is_let_go.wait, 30)


@pytest.fixture
def stubborn() -> Iterator[Stubborn]:
    stubborn = Stubborn()
    yield stubborn
    stubborn.is_let_go.set()


@pytest.fixture
def registry(stubborn: Stubborn) -> Registry:
    registry = Registry()
    registry.register(echo)
    registry.register(wait_for_ever)
    registry.register(count)
    registry.register(stubborn.__call__, name="stubborn")
    return registry


class _Stepped:
    """Awaits a call, and cancels the task that does at its so manieth suspension."""

    def __init__(self, call: Awaitable[Any], steps: int) -> None:
        self._call = call
        self._left = steps

    def __await__(self) -> Generator[Any, None, Any]:
        task = asyncio.current_task()
        assert task is not None
        inner = self._call.__await__()
        error: BaseException | None = None
        while True:
            try:
                waits_for = inner.send(None) if error is None else inner.throw(error)
            except StopIteration as ended:
                return ended.value
            self._left -= 1
            if self._left == 0:
                asyncio.get_running_loop().call_soon(task.cancel)
            error = None
            try:
                yield waits_for
            except BaseException as raised:  # noqa: BLE001 - passed on
                error = raised


async def at_suspension(steps: int, call: Callable[[], Awaitable[Any]]) -> tuple[bool, Any]:
    """Call, be cancelled at so manieth suspension; whether it was, and what it returned."""

    async def run() -> Any:
        return await _Stepped(call(), steps)

    task = asyncio.create_task(run())
    await asyncio.wait([task])
    return task.cancelled(), None if task.cancelled() else task.result()


async def at_loop_step(steps: int, call: Callable[[], Awaitable[Any]]) -> tuple[bool, Any]:
    """As the other one, after so many steps of the event loop."""

    async def run() -> Any:
        return await call()

    task = asyncio.create_task(run())
    for _ in range(steps):
        await asyncio.sleep(0)
        if task.done():
            break
    task.cancel()
    await asyncio.wait([task])
    return task.cancelled(), None if task.cancelled() else task.result()


CancelAt = Callable[[int, Callable[[], Awaitable[Any]]], Awaitable[tuple[bool, Any]]]
WAYS = pytest.mark.parametrize("cancel_at", [at_suspension, at_loop_step])


async def sweep(attempt: Callable[[int], Awaitable[bool]]) -> None:
    """Go on until the call has ended before it could be cancelled, three times running."""
    steps = untouched = 0
    before = len(asyncio.all_tasks())
    while untouched < 3 and steps < 300:
        steps += 1
        untouched = 0 if await attempt(steps) else untouched + 1
        await until(lambda: len(asyncio.all_tasks()) == before)
    assert steps > 3, "that was no sweep"


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


async def assert_idle(client: Client) -> None:
    """Nothing is under way, or it is about to end."""
    session = client._session
    assert session is not None
    assert not session._submits
    assert not session.questions
    await until(lambda: not client.statistics().waiting)
    await until(lambda: not session.watches)
    await until(lambda: _under_way(client) == 0)


def _under_way(client: Client) -> int:
    tasks = _tasks(client)
    return tasks.held + sum(tasks.ready) + tasks.leased


def _tasks(client: Client) -> Any:
    return client._plane.statistics().tasks  # type: ignore[attr-defined]


def run(use: Callable[[Client], Coroutine[Any, Any, None]], registry: Registry) -> None:
    async def main() -> None:
        async with fastworker.local(registry=registry, timeout=20) as client:
            await client.submit_task("echo", (1,))
            await use(client)
            await assert_idle(client)

    threads = count_threads()
    asyncio.run(main())
    assert count_threads() == threads


def test_none_is_forgotten() -> None:
    # These two run under Trio only.
    ASYNCIO_SWEEP.check(without={"SubWorker.run", "ControlPlaneWorker.run"})


@ASYNCIO_SWEEP.covers("Submitter.delay", "Submitter.delay_with_callback", "Submitter.submit")
@WAYS
@pytest.mark.parametrize("kind", ["delay", "delay_with_callback", "submit"])
def test_handing_in(registry: Registry, cancel_at: CancelAt, kind: str) -> None:
    async def use(client: Client) -> None:
        calls: dict[str, Callable[[], Awaitable[Any]]] = {
            "delay": lambda: client.delay("wait_for_ever"),
            "delay_with_callback": lambda: client.delay_with_callback(
                "wait_for_ever", CALLBACK_ADDRESS
            ),
            "submit": lambda: client.submit("wait_for_ever"),
        }

        async def attempt(steps: int) -> bool:
            was_cancelled, given = await cancel_at(steps, calls[kind])
            if not was_cancelled:
                task_id = given if isinstance(given, str) else given.id
                assert client.get_status(task_id) in (TaskStatus.PENDING, TaskStatus.STARTED)
                await client.cancel(task_id)
            await assert_idle(client)  # although it would run for ever
            return was_cancelled

        await sweep(attempt)

    run(use, registry)


@ASYNCIO_SWEEP.covers("Submitter.submit_task")
@WAYS
def test_submit_task(registry: Registry, cancel_at: CancelAt) -> None:
    async def use(client: Client) -> None:
        async def attempt(steps: int) -> bool:
            was_cancelled, result = await cancel_at(
                steps, lambda: client.submit_task("echo", (steps,))
            )
            assert was_cancelled or result.result == steps
            await assert_idle(client)
            return was_cancelled

        await sweep(attempt)
        for steps in range(1, 20):
            was_cancelled, _ = await at_loop_step(
                steps, lambda: client.submit_task("wait_for_ever")
            )
            assert was_cancelled
            await assert_idle(client)
        tasks = _tasks(client)
        assert tasks.submitted == tasks.succeeded + tasks.cancelled

    run(use, registry)


@ASYNCIO_SWEEP.covers("Client.get_task_result")
@WAYS
def test_get_task_result(registry: Registry, cancel_at: CancelAt) -> None:
    async def use(client: Client) -> None:
        known = await client.submit_task("echo", (1,))

        async def attempt(steps: int) -> bool:
            was_cancelled, result = await cancel_at(
                steps, lambda: client.get_task_result(known.task_id)
            )
            assert was_cancelled or result == known
            await assert_idle(client)
            return was_cancelled

        await sweep(attempt)

    run(use, registry)


@ASYNCIO_SWEEP.covers("Client.list_task_functions")
@WAYS
def test_list_task_functions(registry: Registry, cancel_at: CancelAt) -> None:
    async def use(client: Client) -> None:
        async def attempt(steps: int) -> bool:
            was_cancelled, found = await cancel_at(steps, client.list_task_functions)
            assert was_cancelled or [each.name for each in found] == registry.names()
            await assert_idle(client)
            return was_cancelled

        await sweep(attempt)

    run(use, registry)


@ASYNCIO_SWEEP.covers("Submitter.stream", "Stream.__anext__")
@WAYS
def test_reading_a_stream(registry: Registry, cancel_at: CancelAt) -> None:
    async def use(client: Client) -> None:
        async def attempt(steps: int) -> bool:
            got: list[int] = []

            async def read() -> None:
                async with client.options(buffer=1).stream("count", 3) as values:
                    async for value in values:
                        got.append(value)

            was_cancelled, _ = await cancel_at(steps, read)
            assert got == list(range(len(got)))
            assert was_cancelled or len(got) == 3
            await assert_idle(client)
            assert not client._usable_session()._readers
            return was_cancelled

        await sweep(attempt)

    run(use, registry)


@ASYNCIO_SWEEP.covers("Client.events", "EventStream.read", "EventStream.__anext__")
@WAYS
@pytest.mark.parametrize("way", ["read", "iterate"])
def test_hearing_of_changes(registry: Registry, cancel_at: CancelAt, way: str) -> None:
    async def use(client: Client) -> None:
        async def attempt(steps: int) -> bool:
            got: list[int] = []

            async def read() -> None:
                async with client.events(statuses="success", min_interval=0) as events:
                    for number in (1, 2):
                        await client.submit_task("echo", (number,))
                    while len(got) < 2:
                        if way == "read":
                            got.extend([change.number for change in await events.read()])
                        else:
                            got.append((await anext(events)).number)

            was_cancelled, _ = await cancel_at(steps, read)
            assert got == sorted(set(got))
            assert was_cancelled or len(got) == 2
            await assert_idle(client)
            assert not client._usable_session().questions._listeners
            return was_cancelled

        await sweep(attempt)

    run(use, registry)


@ASYNCIO_SWEEP.covers("Client.cancel", "TaskHandle.cancel")
@WAYS
@pytest.mark.parametrize("by", ["client", "handle"])
def test_cancel(registry: Registry, cancel_at: CancelAt, by: str) -> None:
    async def use(client: Client) -> None:
        async def attempt(steps: int) -> bool:
            handle = await client.submit("wait_for_ever")
            was_cancelled, outcome = await cancel_at(
                steps, handle.cancel if by == "handle" else lambda: client.cancel(handle.id)
            )
            await until(lambda: handle.is_done)  # it is cancelled all the same
            assert isinstance(handle.outcome, Cancelled | NeverStarted)
            assert was_cancelled or outcome == handle.outcome
            await assert_idle(client)
            return was_cancelled

        await sweep(attempt)

    run(use, registry)


@ASYNCIO_SWEEP.covers("TaskHandle.wait")
@WAYS
def test_wait(registry: Registry, cancel_at: CancelAt) -> None:
    async def use(client: Client) -> None:
        async def attempt(steps: int) -> bool:
            handle = await client.submit("echo", steps)
            was_cancelled, _ = await cancel_at(steps, handle.wait)
            assert (await handle.wait()).result == steps, "to look changes nothing"
            await assert_idle(client)
            return was_cancelled

        await sweep(attempt)

    run(use, registry)


@ASYNCIO_SWEEP.covers("TaskHandle.result")
@WAYS
def test_result(registry: Registry, cancel_at: CancelAt) -> None:
    async def use(client: Client) -> None:
        async def attempt(steps: int) -> bool:
            handle = await client.submit("echo", steps)
            was_cancelled, value = await cancel_at(steps, handle.result)
            assert handle.is_done
            if was_cancelled:
                assert isinstance(handle.outcome, Cancelled | NeverStarted | Completed)
            else:
                assert value == steps
            await assert_idle(client)
            return was_cancelled

        await sweep(attempt)

    run(use, registry)


@ASYNCIO_SWEEP.covers("Submitter.open_task_group", "TaskGroup.submit", "_Ended.__anext__")
@WAYS
def test_group(registry: Registry, cancel_at: CancelAt) -> None:
    async def use_group(client: Client) -> list[Any]:
        async with client.open_task_group(max_in_flight=2) as group:
            for number in range(3):
                await group.submit("echo", number)
            return [await handle.result() async for handle in group.as_completed()]

    async def use(client: Client) -> None:
        async def attempt(steps: int) -> bool:
            was_cancelled, values = await cancel_at(steps, lambda: use_group(client))
            assert was_cancelled or sorted(values) == [0, 1, 2]
            assert _under_way(client) == 0, "the block ends when nothing of it runs"
            await assert_idle(client)
            return was_cancelled

        await sweep(attempt)

    run(use, registry)


@ASYNCIO_SWEEP.covers("Submitter.map", "Values.__anext__", "Values.collect")
@WAYS
def test_map(registry: Registry, cancel_at: CancelAt) -> None:
    async def use_map(client: Client) -> list[Any]:
        async with client.map("echo", range(4), max_in_flight=2) as values:
            return [value async for value in values]

    async def use(client: Client) -> None:
        async def attempt(steps: int) -> bool:
            was_cancelled, values = await cancel_at(steps, lambda: use_map(client))
            assert was_cancelled or values == [0, 1, 2, 3]
            assert _under_way(client) == 0, "the block ends when nothing of it runs"
            await assert_idle(client)
            return was_cancelled

        await sweep(attempt)
        got = []
        async with client.map("echo", range(40), max_in_flight=3) as values:
            for steps in range(1, 20):
                was_cancelled, value = await cancel_at(steps, lambda: anext(values))
                if not was_cancelled:
                    got.append(value)
            got += [value async for value in values]
        assert got == list(range(40)), "no value is lost"
        for steps in range(1, 20):
            async with client.map("echo", range(9), max_in_flight=3) as values:
                was_cancelled, collected = await cancel_at(steps, values.collect)
                rest = await values.collect()
                all_of_it = rest if was_cancelled else [*collected, *rest]
                assert all_of_it == list(range(9)), "no value is lost"

    run(use, registry)


@ASYNCIO_SWEEP.covers("Client.start", "Client.aclose")
def test_start_and_aclose(registry: Registry) -> None:
    async def main() -> None:
        client = fastworker.local(registry=registry)

        async def start_first(steps: int) -> bool:
            was_cancelled, _ = await at_suspension(steps, client.start)
            assert ("closed" in repr(client)) == was_cancelled
            await client.start()
            assert (await client.submit_task("echo", (steps,))).result == steps
            await client.aclose()
            return was_cancelled

        async def close_first(steps: int) -> bool:
            await client.start()
            was_cancelled, _ = await at_suspension(steps, client.aclose)
            assert "closed" in repr(client)
            await until(lambda: count_threads() == threads)
            return was_cancelled

        threads = count_threads()
        await sweep(start_first)
        await until(lambda: count_threads() == threads)
        await sweep(close_first)

    asyncio.run(main())


@ASYNCIO_SWEEP.covers("Client.__aenter__", "Client.__aexit__")
def test_entering_and_leaving(registry: Registry) -> None:
    async def main() -> None:
        async def enter_and_leave() -> None:
            async with fastworker.local(registry=registry) as client:
                await client.submit_task("echo", (1,))

        async def attempt(steps: int) -> bool:
            was_cancelled, _ = await at_suspension(steps, enter_and_leave)
            await until(lambda: count_threads() == threads)
            return was_cancelled

        threads = count_threads()
        await sweep(attempt)

    asyncio.run(main())


@ASYNCIO_SWEEP.covers("ControlPlaneWorker.start", "SubWorker.start")
def test_workers(registry: Registry) -> None:
    async def main() -> None:
        network = InProcessNetwork()
        plane = ControlPlaneWorker(
            transport=network, registry=registry, concurrency=1, executes=False
        )
        worker = SubWorker(
            "w1", "tcp://127.0.0.1:5555", transport=network, registry=registry, concurrency=1
        )

        async def attempt(steps: int) -> bool:
            was_cancelled, _ = await at_suspension(steps, plane.start)
            assert plane.statistics() is None
            assert not network._listeners
            await until(lambda: count_threads() == threads)
            return was_cancelled

        async def attempt_worker(steps: int) -> bool:
            was_cancelled, _ = await at_suspension(steps, worker.start)
            assert worker.statistics() is None
            await until(lambda: plane.get_subworker_status()["total"] == 0)
            return was_cancelled

        threads = count_threads()
        for steps in range(1, 4):  # it never ends by itself
            await asyncio.wait_for(_or_stop(plane, attempt(steps)), 20)
        serving = asyncio.create_task(plane.start())
        await until(lambda: network._listeners)
        for steps in range(1, 4):
            await asyncio.wait_for(_or_stop(worker, attempt_worker(steps)), 20)
        serving.cancel()
        await asyncio.wait([serving])
        await until(lambda: count_threads() == threads)

    asyncio.run(main())


async def _or_stop(worker: SubWorker | ControlPlaneWorker, attempt: Awaitable[bool]) -> None:
    """Should it go on, because the call had no step left to cancel it at, stop it."""
    attempting = asyncio.ensure_future(attempt)
    while not attempting.done():
        await asyncio.wait([attempting], timeout=0.2)
        worker.stop()


@pytest.mark.parametrize("call", ["result", "submit_task"])
def test_a_second_cancel_skips_the_wait_and_not_the_cancelling(
    registry: Registry, stubborn: Stubborn, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    monkeypatch.setattr("fastworker._client_cancels.CANCEL_SECONDS", 60)
    monkeypatch.setattr("fastworker._task_handle.CANCEL_SECONDS", 60)

    async def main() -> None:
        async with fastworker.local(registry=registry) as client:
            if call == "result":
                handle = await client.submit("stubborn")
                waiting = asyncio.create_task(handle.result())
            else:
                waiting = asyncio.create_task(client.submit_task("stubborn"))
            await asyncio.sleep(0)
            await until(stubborn.runs.is_set)
            waiting.cancel()
            await until(stubborn.was_asked.is_set)
            assert not waiting.done()
            waiting.cancel()
            async with asyncio.timeout(10):
                await asyncio.wait([waiting])
            assert waiting.cancelled()
            assert not stubborn.is_let_go.is_set()
            stubborn.is_let_go.set()
            await assert_idle(client)

    asyncio.run(main())


@pytest.mark.parametrize("call", ["result", "submit_task"])
def test_a_second_cancel_at_once_does_not_take_back_the_first(
    registry: Registry, stubborn: Stubborn, call: str
) -> None:
    async def main() -> None:
        async with fastworker.local(registry=registry) as client:
            if call == "result":
                handle = await client.submit("stubborn")
                waiting = asyncio.create_task(handle.result())
            else:
                waiting = asyncio.create_task(client.submit_task("stubborn"))
            await asyncio.sleep(0)  # what never began has nothing to take back
            await until(stubborn.runs.is_set)
            waiting.cancel()
            await asyncio.sleep(0)
            waiting.cancel()
            async with asyncio.timeout(10):
                await asyncio.wait([waiting])
            await until(stubborn.was_asked.is_set)
            stubborn.is_let_go.set()
            await assert_idle(client)

    asyncio.run(main())
