# /// script
# dependencies = ["huey", "redis", "hiredis"]
# ///
"""Huey with Redis."""

from __future__ import annotations

import sys
from typing import Any

from huey import RedisHuey
from measuring import PATIENCE, REDIS, introduce, measure, parser, running

SETTINGS = "8 threads; notify_result=True, so that nobody polls for results"

huey = RedisHuey("peers", url=REDIS, notify_result=True)


@huey.task()
def add(x: int, y: int) -> int:
    return x + y


def many(count: int) -> list[Any]:
    return add.map([(i, 1) for i in range(count)]).get(blocking=True, timeout=PATIENCE)


def one(number: int) -> Any:
    return add(number, 1).get(blocking=True, timeout=PATIENCE)


if __name__ == "__main__":
    # Under the name by which the worker knows it.
    from huey_redis import add  # type: ignore[no-redef]

    introduce(SETTINGS, "huey", "redis")
    worker = ["huey_redis.huey", "-w", "8", "-k", "thread", "-q"]
    with running(sys.executable, "-m", "huey.bin.huey_consumer", *worker):
        measure(many, one, parser().parse_args())
