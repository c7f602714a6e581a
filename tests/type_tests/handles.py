"""What ``submit``, groups and maps give is typed by the task function. Checked, never run."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from typing import Any, assert_type

from fastworker import (
    Cancelled,
    CancelOutcome,
    Client,
    ClientWithOptions,
    TaskGroup,
    TaskHandle,
    TaskResult,
    task,
)


@task
def add(x: int, y: int = 2, *, verbose: bool = False) -> int:
    return x + y


@task(backend="asyncio")
async def fetch(url: str) -> bytes:
    return url.encode()


async def check_handles(client: Client) -> None:
    handle = await client.submit(add, 1, y=3)
    assert_type(handle, TaskHandle[int])
    assert_type(await handle.result(), int)
    assert_type(await handle.wait(), TaskResult)
    assert_type(await client.submit(fetch, "x"), TaskHandle[bytes])
    assert_type(await client.submit("by.name", 1, key=2), TaskHandle[Any])
    assert_type(await handle.cancel(grace=1), CancelOutcome)
    match await client.cancel(handle.id):
        case Cancelled(after):
            assert_type(after, float | None)
        case _:
            pass


async def check_options(client: Client) -> None:
    view = client.options(priority="high", timeout=3, max_retries=2, expires=60)
    assert_type(view, ClientWithOptions)
    assert_type(await view.submit(fetch, "x"), TaskHandle[bytes])
    assert_type(await view.delay(add, 1), str)
    keyed = view.options(idempotency_key="k", idempotency_ttl=60, when_full="wait")
    assert_type(keyed, ClientWithOptions)
    assert_type(await keyed.submit(add, 1), TaskHandle[int])
    assert_type(await client.options(task_id="mine").delay(add, 1), str)


async def check_many(client: Client) -> None:
    async with client.open_task_group(max_in_flight=4, on_error="collect") as group:
        assert_type(group, TaskGroup)
        assert_type(await group.submit(add, 1), TaskHandle[int])
    async with client.map(fetch, ["a", "b"], ordered=False) as pages:
        async for page in pages:
            assert_type(page, bytes)


async def check_wrong_calls(client: Client) -> None:
    await client.submit(add, "1")  # type: ignore[call-overload]
    await client.submit(add)  # type: ignore[call-overload]
    await client.submit(fetch, "x", "y")  # type: ignore[call-overload]
    view = client.options(max_retries=1)
    await view.submit(add, 1, verbose="no")  # type: ignore[arg-type]
    client.options(when_full="never")  # type: ignore[arg-type]
    client.options(retries=3)  # type: ignore[call-arg]
    async with client.open_task_group(on_error="ignore") as group:  # type: ignore[arg-type]
        await group.submit(add, 1, 2, 3)  # type: ignore[call-overload]
