# /// script
# dependencies = ["dramatiq[redis]", "hiredis"]
# ///
"""Dramatiq, with Redis as its broker and for its results."""

from __future__ import annotations

import os
import sys
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend
from measuring import PATIENCE, REDIS, introduce, measure, parser, running

SETTINGS = "1 process with 8 threads, prefetch 500; a burst is a group"

broker = RedisBroker(url=REDIS)
broker.add_middleware(Results(backend=RedisBackend(url=REDIS)))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def add(x: int, y: int) -> int:
    return x + y


def many(count: int) -> list[Any]:
    burst = dramatiq.group([add.message(i, 1) for i in range(count)]).run()
    return list(burst.get_results(block=True, timeout=PATIENCE * 1000))


def one(number: int) -> Any:
    return add.send(number, 1).get_result(block=True, timeout=PATIENCE * 1000)


if __name__ == "__main__":
    os.environ["dramatiq_queue_prefetch"] = "500"  # noqa: SIM112  twice as fast as 16
    introduce(SETTINGS, "dramatiq", "redis")
    worker = ["dramatiq_redis", "--processes", "1", "--threads", "8"]
    with running(sys.executable, "-m", "dramatiq", *worker):
        measure(many, one, parser().parse_args())
