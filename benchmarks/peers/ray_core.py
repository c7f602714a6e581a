# /// script
# dependencies = ["ray"]
# ///
"""Ray's core tasks."""

from __future__ import annotations

import asyncio
import os
import tempfile
from typing import Any

# Before the import. It calls nobody, and leaves no token in the home folder.
os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_AUTH_MODE="disabled")

import ray
from measuring import introduce, measure_async, parser

SETTINGS = "num_cpus=2, no dashboard; a burst is one ray.get"


@ray.remote
def add(x: int, y: int) -> int:
    return x + y


async def one(number: int) -> Any:
    return await add.remote(number, 1)


async def many(count: int) -> list[Any]:
    return ray.get([add.remote(i, 1) for i in range(count)])


if __name__ == "__main__":
    introduce(SETTINGS, "ray")
    with tempfile.TemporaryDirectory() as folder:
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, _temp_dir=folder)
        asyncio.run(measure_async(many, one, parser().parse_args()))
        ray.shutdown()
