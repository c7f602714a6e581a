# /// script
# dependencies = ["taskiq", "taskiq-redis", "hiredis"]
# ///
"""taskiq with Redis. (This file must not have the name of the package taskiq_redis.)"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from measuring import PATIENCE, REDIS, introduce, measure_async, parser, running
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

SETTINGS = "1 process, 100 tasks at once, a list as the queue; callers poll each 2 ms"
POLL_SECONDS = 0.002

broker = ListQueueBroker(REDIS).with_result_backend(RedisAsyncResultBackend(REDIS))


@broker.task(task_name="add")
async def add(x: int, y: int) -> int:
    return x + y


async def one(number: int) -> Any:
    task = await add.kiq(number, 1)
    return (await task.wait_result(POLL_SECONDS, PATIENCE)).return_value


async def many(count: int) -> list[Any]:
    tasks = [await add.kiq(i, 1) for i in range(count)]
    return [(await task.wait_result(POLL_SECONDS, PATIENCE)).return_value for task in tasks]


async def main() -> None:
    await broker.startup()
    await measure_async(many, one, parser().parse_args())
    await broker.shutdown()


if __name__ == "__main__":
    introduce(SETTINGS, "taskiq", "taskiq-redis", "redis")
    worker = ["taskiq_on_redis:broker", "--workers", "1", "--max-async-tasks", "100"]
    quiet = ["--log-level", "WARNING"]
    with running(sys.executable, "-m", "taskiq", "worker", *worker, *quiet):
        asyncio.run(main())
