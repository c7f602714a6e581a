# /// script
# dependencies = ["arq", "hiredis"]
# ///
"""arq with Redis."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from arq import create_pool
from arq.connections import RedisSettings
from measuring import PATIENCE, REDIS, introduce, measure_async, parser, running

SETTINGS = "100 jobs at once; the worker polls each ms, and so do callers"
POLL_SECONDS = 0.001


async def add(context: dict[str, Any], x: int, y: int) -> int:
    return x + y


class WorkerSettings:
    functions = (add,)
    redis_settings = RedisSettings.from_dsn(REDIS)
    max_jobs = 100
    poll_delay = POLL_SECONDS
    log_results = False


async def main() -> None:
    pool = await create_pool(RedisSettings.from_dsn(REDIS))

    async def one(number: int) -> Any:
        job = await pool.enqueue_job("add", number, 1)
        return await job.result(PATIENCE, poll_delay=POLL_SECONDS)

    async def many(count: int) -> list[Any]:
        jobs = await asyncio.gather(*(pool.enqueue_job("add", i, 1) for i in range(count)))
        return [await job.result(PATIENCE, poll_delay=POLL_SECONDS) for job in jobs]

    await measure_async(many, one, parser().parse_args())


if __name__ == "__main__":
    introduce(SETTINGS, "arq", "redis")
    with running(sys.executable, "-m", "arq", "arq_redis.WorkerSettings"):
        asyncio.run(main())
