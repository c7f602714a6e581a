# /// script
# dependencies = ["celery[redis]", "hiredis"]
# ///
"""Celery, with Redis as its broker and for its results."""

from __future__ import annotations

import sys
from typing import Any

from celery import Celery
from celery.result import ResultSet
from measuring import PATIENCE, REDIS, introduce, measure, parser, running

SETTINGS = (
    "prefork with 1 process, prefetch 128, JSON, early acks, no gossip, mingle, heartbeat or "
    "rate limits; a burst is a ResultSet, a little faster than a group"
)

app = Celery("celery_redis", broker=REDIS, backend=REDIS)
app.conf.update(
    worker_prefetch_multiplier=128,
    worker_disable_rate_limits=True,
    broker_connection_retry_on_startup=True,
)


@app.task
def add(x: int, y: int) -> int:
    return x + y


def many(count: int) -> list[Any]:
    results = ResultSet([add.delay(i, 1) for i in range(count)])
    return results.join_native(timeout=PATIENCE)


def one(number: int) -> Any:
    return add.delay(number, 1).get(timeout=PATIENCE)


if __name__ == "__main__":
    introduce(SETTINGS, "celery", "redis")
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "WARNING"]
    worker = ["-A", "celery_redis", "worker", "-P", "prefork", "-c", "1", *quiet]
    with running(sys.executable, "-m", "celery", *worker):
        measure(many, one, parser().parse_args())
