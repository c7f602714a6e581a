"""Overviews and series as a control plane would tell them, for tests of what reads them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import Any

import msgspec

from fastworker._core._metrics import BUCKETS, Histogram, Series
from fastworker._core._overview import LaneRow, Overview, WorkerRow

AN_OVERVIEW = Overview(
    worker_id="control-plane",
    version="0.1.0",
    epoch=1,
    now=1_000_000.0,
    started=999_000.0,
    store="memory",
    is_durable=False,
    store_error="",
    is_draining=False,
    submitted=0,
    refused=0,
    held=0,
    queued=[0, 0, 0, 0],
    leased=0,
    running=0,
    away=0,
    retrying=0,
    succeeded=0,
    failed=0,
    cancelled=0,
    expired=0,
    queued_bytes=0,
    max_queued=100_000,
    max_queued_bytes=2**30,
    clients=1,
    workers=1,
    functions=1,
)


def an_overview(**changed: Any) -> Overview:
    return msgspec.structs.replace(AN_OVERVIEW, **changed)


def a_worker(number: int = 1, **changed: Any) -> WorkerRow:
    row = WorkerRow(
        number=number,
        worker_id=f"worker-{number}",
        address=f"tcp://127.0.0.1:{6000 + number}",
        status="active",
        is_inside=False,
        load=0,
        capacity=10,
        idle=0.5,
        joined=999_001.0,
        lanes=[LaneRow("trio", 10, 0, 0)],
        functions=["add"],
        function_count=1,
    )
    return msgspec.structs.replace(row, **changed)


def a_histogram(seconds: Iterable[float]) -> Histogram:
    counts = [0] * (len(BUCKETS) + 1)
    total = 0.0
    for value in seconds:
        counts[bisect_left(BUCKETS, value)] += 1
        total += value
    return Histogram(counts, total)


def a_series(
    name: str = "add",
    *,
    whole: Iterable[float] = (),
    wait: Iterable[float] = (),
    run: Iterable[float] = (),
) -> Series:
    histogram = a_histogram(whole)
    return Series(
        name,
        2,
        succeeded=sum(histogram.counts),
        failed=0,
        cancelled=0,
        expired=0,
        retries=0,
        wait=a_histogram(wait),
        run=a_histogram(run),
        whole=histogram,
    )
