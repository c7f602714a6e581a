"""Public names have their types through the lazy package. Checked, never run."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, assert_type

import fastworker
from fastworker import (
    CallbackInfo,
    CancelOutcome,
    Client,
    ControlPlaneWorker,
    Progress,
    SerializationFormat,
    SubWorker,
    SyncClient,
    SyncClientWithOptions,
    SyncTaskGroup,
    SyncTaskHandle,
    Task,
    TaskError,
    TaskFunctionInfo,
    TaskPriority,
    TaskResult,
    TaskStatus,
    UnknownTask,
    check_cancelled,
    local,
    task,
)


def check_models(result: TaskResult, submitted: Task, info: CallbackInfo) -> None:
    assert_type(result.status, TaskStatus)
    assert_type(result.status.is_terminal, bool)
    assert_type(result.error, str | None)
    assert_type(result.completed_at, datetime | None)
    assert_type(submitted.args, tuple[Any, ...])
    assert_type(submitted.priority, TaskPriority)
    assert_type(info.data, dict[str, Any] | None)
    assert_type(SerializationFormat.parse("json"), SerializationFormat)


async def check_client(client: Client) -> None:
    await client.start()
    assert_type(await client.delay("add", 1, 2), str)
    assert_type(await client.submit_task("add", args=(1, 2)), TaskResult)
    assert_type(await client.get_task_result("id"), TaskResult | None)
    assert_type(client.get_result("id"), TaskResult | None)
    assert_type(client.get_status("id"), TaskStatus | None)
    assert_type(await client.list_task_functions(), list[TaskFunctionInfo])
    assert_type(client.stop(), None)


@task
def add(x: int, y: int = 2) -> int:
    return x + y


async def check_submitting_a_function(client: Client) -> None:
    assert_type(await client.delay(add, 1, y=3), str)
    await client.delay(add, "1")  # type: ignore[call-overload]


async def check_callbacks(client: Client) -> None:
    address = "tcp://127.0.0.1:9000"
    assert_type(await client.delay_with_callback("add", address, 1, y=2), str)
    assert_type(
        await client.delay_with_callback(
            "add", address, callback_data={"a": 1}, priority=TaskPriority.LOW
        ),
        str,
    )
    assert_type(await client.delay_with_callback(add, address, 1, y=2), str)
    await client.delay_with_callback("add", address, callback_data=[1])  # type: ignore[call-overload]
    await client.delay_with_callback("add", 9000)  # type: ignore[call-overload]
    await client.delay_with_callback(add, address, "1")  # type: ignore[call-overload]
    await client.delay_with_callback(add, address, 1, callback_data={})  # type: ignore[call-arg]


def check_sync_client() -> None:
    with SyncClient("tcp://127.0.0.1:5550", timeout=3, connect_timeout=1) as client:
        assert_type(client, SyncClient)
        assert_type(client.start(), None)
        assert_type(client.delay("add", 1, 2, priority="high"), str)
        assert_type(client.delay(add, 1, y=3), str)
        assert_type(client.delay_with_callback("add", "tcp://h:1", 1, callback_data={}), str)
        assert_type(client.delay_with_callback(add, "tcp://h:1", 1), str)
        assert_type(client.submit_task(add, args=(1, 2)), TaskResult)
        assert_type(client.get_task_result("id"), TaskResult | None)
        assert_type(client.list_task_functions(), list[TaskFunctionInfo])
        assert_type(client.get_result("id"), TaskResult | None)
        assert_type(client.get_status("id"), TaskStatus | None)
        assert_type(client.cancel("id", grace=1), CancelOutcome)
        client.delay(add, "1")  # type: ignore[call-overload]
        client.delay(add)  # type: ignore[call-overload]
        client.delay_with_callback(add, "tcp://h:1", "1")  # type: ignore[call-overload]
    SyncClient("tcp://127.0.0.1:5550", "JSON", 3, 1, 5)  # type: ignore[call-arg]


@task
async def fetch(url: str) -> bytes:
    return url.encode()


@task
def count_up(end: int) -> Iterator[int]:
    yield from range(end)


def check_what_a_sync_client_gives(client: SyncClient) -> None:
    handle = client.submit(add, 1, y=2)
    assert_type(handle, SyncTaskHandle[int])
    assert_type(client.submit(fetch, "x"), SyncTaskHandle[bytes])
    assert_type(client.submit("add", 1), SyncTaskHandle[Any])
    assert_type(handle.result(timeout=1), int)
    assert_type(handle.wait(1), TaskResult)
    assert_type(handle.cancel(grace=1), CancelOutcome)
    assert_type(handle.outcome, CancelOutcome | None)
    assert_type(handle.progress(), Progress | None)
    view = client.options(priority="high", max_retries=3)
    assert_type(view, SyncClientWithOptions)
    assert_type(view.submit(add, 1).result(), int)
    assert_type(view.delay(add, 1), str)
    with client.open_task_group(on_error="collect", first=1) as group:
        assert_type(group, SyncTaskGroup)
        assert_type(group.submit(fetch, "x").result(), bytes)
        assert_type(group.failures, list[TaskError])
        for member in group.as_completed():
            assert_type(member, SyncTaskHandle[Any])
        group.submit(add, "1")  # type: ignore[call-overload]
    with client.map(len, ["a"]) as lengths:
        for length in lengths:
            assert_type(length, int)
    with client.map("add", [1], ordered=False) as values:
        assert_type(next(values), Any)
    with client.options(buffer=2).stream(count_up, 3) as numbers:
        assert_type(next(numbers), int)
        for number in numbers:
            assert_type(number, int)
    client.submit(add, "1")  # type: ignore[call-overload]
    client.open_task_group(on_error="ignore")  # type: ignore[arg-type]
    client.options(prioriti="high")  # type: ignore[call-arg]


async def check_local() -> None:
    async with local("mytasks", concurrency=4, backend="asyncio", timeout=3) as client:
        assert_type(client, Client)
        assert_type(await client.delay(add, 1), str)
    with SyncClient.local("mytasks", "other", serialization_format="PICKLE") as sync:
        assert_type(sync, SyncClient)
    local(concurency=4)  # type: ignore[call-arg]
    local(backend="curio")  # type: ignore[arg-type]


def check_components() -> None:
    assert_type(ControlPlaneWorker(), ControlPlaneWorker)
    assert_type(
        SubWorker(worker_id="w1", control_plane_address="tcp://127.0.0.1:5555"), SubWorker
    )
    assert_type(fastworker.__version__, str)
    assert_type(check_cancelled(), None)


def check_errors(error: UnknownTask) -> None:
    assert_type(error.task_name, str)
    base: fastworker.SubmitError = error
    assert isinstance(base, fastworker.FastWorkerError)


def check_misspelt_names() -> None:
    fastworker.Clint  # type: ignore[attr-defined]  # noqa: B018
