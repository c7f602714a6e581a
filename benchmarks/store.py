"""The SQLite store by itself: rows a second, how long a start takes, and a page.

One process, and a file in the folder that is given; its disk counts.

    python benchmarks/store.py [--rows 100000] [--folder .] [--only start] [--json]
"""

from __future__ import annotations

import argparse
import functools
import gc
import json
import sqlite3
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).parent))

from machine import describe_machine

from fastworker._core._messages import TaskEvent, TaskSpec, WireStatus
from fastworker._core._stored import (
    OPEN_STATES,
    Changes,
    StoredLife,
    StoredState,
    StoredTask,
    TasksAsked,
)
from fastworker._store._sqlite import SqliteStore

BEGIN = 1_700_000_000.0
BATCHES = (1, 10, 100, 1_000)

Figures = dict[str, object]


def random_id(number: int) -> str:
    """As a client makes them."""
    return str(uuid.uuid4())


def ordered_id(number: int) -> str:
    """A part that grows, and a random one, as in version 7."""
    return f"{number:012x}-{uuid.uuid4().hex[:20]}"


def queued(count: int, make_id: Callable[[int], str]) -> list[StoredTask]:
    """Small tasks of twenty names."""
    return [
        StoredTask(
            number,
            TaskSpec(
                make_id(number),
                f"shop.orders.step_{number % 20}",
                number % 4,
                1,
                b'[[17,"a short text"],{}]',
                BEGIN + number / 1_000,
            ),
            changed=BEGIN + number / 1_000,
        )
        for number in range(1, count + 1)
    ]


def ended(row: StoredTask) -> StoredTask:
    outcome = TaskEvent(row.spec.id, WireStatus.SUCCESS, 1, b"null", worker_id="w1", attempts=1)
    return msgspec.structs.replace(
        row, state=StoredState.SUCCESS, outcome=outcome, changed=BEGIN + row.sequence, content=1
    )


def leased(row: StoredTask) -> StoredTask:
    life = StoredLife(fence=1, fence_epoch=1, holder=b"h" * 16, worker="w1", started=BEGIN)
    return msgspec.structs.replace(row, state=StoredState.STARTED, life=life)


def timed(calls: Iterable[Callable[[], object]]) -> list[float]:
    """How long each took, in milliseconds."""
    times: list[float] = []
    for call in calls:
        begin = time.perf_counter()
        call()
        times.append((time.perf_counter() - begin) * 1_000)
    return times


def summary(rows: int, times: list[float]) -> Figures:
    ordered = sorted(times)
    return {
        "rows_per_second": round(rows / sum(times) * 1_000),
        "p50_ms": round(statistics.median(ordered), 2),
        "p99_ms": round(ordered[int(len(ordered) * 0.99)], 2),
        "max_ms": round(ordered[-1], 2),
    }


def batches(rows: list[StoredTask], size: int, kind: str) -> Iterator[Changes]:
    for first in range(0, len(rows), size):
        some = rows[first : first + size]
        yield Changes(created=some) if kind == "created" else Changes(updated=some)


def measure_writes(folder: Path, count: int) -> Iterator[Figures]:
    for make_id in (random_id, ordered_id):
        for size in BATCHES:
            rows = queued(min(count, 1_000 * size), make_id)
            store = SqliteStore(folder / f"{make_id.__name__}-{size}.db")
            store.open()
            for kind, given in (
                ("created", rows),
                ("started", [leased(row) for row in rows]),
                ("ended", [ended(row) for row in rows]),
            ):
                writes = [
                    functools.partial(store.write, changes)
                    for changes in batches(given, size, kind)
                ]
                begin = time.process_time()
                times = timed(writes)
                processor = time.process_time() - begin
                yield {
                    "what": f"{kind}, {size} a commit, {make_id.__name__}",
                    **summary(len(given), times),
                    "processor_us_a_row": round(processor / len(given) * 1e6, 1),
                }
            store.close()


def measure_start_and_pages(folder: Path, count: int) -> Iterator[Figures]:
    path = folder / "start.db"
    store = SqliteStore(path)
    store.open()
    rows = queued(count, random_id)
    for changes in batches(rows, 10_000, "created"):
        store.write(changes)
    store.close()
    yield {"what": "bytes a queued task", "bytes": round(path.stat().st_size / count)}
    rows.clear()
    gc.collect()
    gc.disable()
    store = SqliteStore(path)
    begin = time.perf_counter()
    store.open()
    opened = time.perf_counter() - begin
    back = sum(len(some) for some in store.open_tasks())
    assert back == count
    yield {
        "what": f"start with {count:,} queued tasks",
        "seconds": round(time.perf_counter() - begin, 2),
        "of_which_open": round(opened, 2),
    }
    gc.enable()
    reader = store.reader()
    for label, asked in (
        ("all", TasksAsked()),
        ("one state", TasksAsked(states=[StoredState.QUEUED])),
        ("four states", TasksAsked(states=list(OPEN_STATES))),
        ("a state without tasks", TasksAsked(states=[StoredState.FAILURE])),
        ("name", TasksAsked(name="shop.orders.step_3")),
        ("name and states", TasksAsked(states=list(OPEN_STATES), name="shop.orders.step_3")),
        ("a name without tasks", TasksAsked(name="nobody")),
        ("in the middle", TasksAsked(before=count // 2)),
        ("a worker without tasks", TasksAsked(worker="nobody")),
        ("one second, in the middle", TasksAsked(since=BEGIN + count / 2_000)),
    ):
        times = timed([functools.partial(reader.page, asked)] * 5)
        yield {"what": f"a page: {label}", "ms": round(min(times), 2)}
    reader.close()
    store.close()


def measure_trim(folder: Path, count: int) -> Iterator[Figures]:
    """A steady load: tasks come, end, and are forgotten."""
    store = SqliteStore(folder / "trim.db")
    store.open()
    rows = queued(count, random_id)
    writes: list[float] = []
    steps: list[float] = []
    log = Path(f"{store.name}-wal")
    largest = 0
    for first in range(0, count, 1_000):
        some = rows[first : first + 1_000]
        ends = [ended(row) for row in some]
        for changes in (Changes(created=some), Changes(updated=ends)):
            writes += timed([functools.partial(store.write, changes)])
        while True:
            begin = time.perf_counter()
            more = store.trim(max_ended=10_000, before=0.0)
            steps.append((time.perf_counter() - begin) * 1_000)
            if not more:
                break
        largest = max(largest, log.stat().st_size)
    yield {"what": "writes of 1,000, beside trimming", **summary(2 * count, writes)}
    yield {"what": "steps of trimming", **summary(count, steps)}
    yield {
        "what": "size of it, 10,000 ended tasks kept",
        "file_mib": round(Path(store.name).stat().st_size / 2**20, 1),
        "largest_log_mib": round(largest / 2**20, 1),
    }
    store.close()


MEASURES: dict[str, Callable[[Path, int], Iterator[Figures]]] = {
    "writes": measure_writes,
    "start": measure_start_and_pages,
    "trim": measure_trim,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, default=Path())
    parser.add_argument("--only", choices=sorted(MEASURES), action="append")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    print(describe_machine())
    print(f"sqlite    {sqlite3.sqlite_version}")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for name in arguments.only or MEASURES:
            for figures in MEASURES[name](Path(folder), arguments.rows):
                if arguments.json:
                    print(json.dumps(figures), flush=True)
                else:
                    values = ", ".join(f"{k} {v:,}" for k, v in figures.items() if k != "what")
                    print(f"{figures['what']:44} {values}", flush=True)


if __name__ == "__main__":
    main()
