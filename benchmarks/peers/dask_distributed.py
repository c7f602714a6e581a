# /// script
# dependencies = ["distributed"]
# ///
"""Dask.distributed: a scheduler and a worker, each a process of its own."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from typing import Any

from distributed import Client
from measuring import introduce, measure_async, parser, running

SETTINGS = "1 worker with 4 threads, no dashboard, pure=False; a burst is a map and a gather"


def add(x: int, y: int) -> int:
    return x + y


async def main(scheduler_file: str) -> None:
    async with Client(scheduler_file=scheduler_file, asynchronous=True) as client:

        async def one(number: int) -> Any:
            return await client.submit(add, number, 1, pure=False)

        async def many(count: int) -> list[Any]:
            return await client.gather(client.map(add, range(count), [1] * count, pure=False))

        await measure_async(many, one, parser().parse_args())


if __name__ == "__main__":
    introduce(SETTINGS, "distributed")
    dask = [sys.executable, "-m", "dask"]
    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/scheduler.json"
        where = ["--scheduler-file", file, "--no-dashboard"]
        one_worker = ["--nworkers", "1", "--nthreads", "4", "--local-directory", folder]
        with (
            running(*dask, "scheduler", "--host", "127.0.0.1", "--port", "0", *where),
            running(*dask, "worker", *one_worker, *where),
        ):
            asyncio.run(main(file))
