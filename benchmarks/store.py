"""What the SQLite store does in a second: rows written, rows brought back, pages read.

    python benchmarks/store.py [--rows 100000] [--folder PATH]

Each task is written three times, as it is in life: queued, started, ended. Reading
means all of ``open_tasks``, every checksum verified, with all of the tasks still queued.
"""

from __future__ import annotations

import argparse
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from machine import describe_machine
from msgspec.structs import replace

from fastworker._core._messages import TaskEvent, TaskSpec, WireStatus
from fastworker._core._stored import Changes, StoredLife, StoredState, StoredTask, TasksAsked
from fastworker._store._memory import MemoryStore
from fastworker._store._sqlite import SqliteStore

COMMITS = (1, 10, 100, 1_000)
# Of each size; a fsync may take milliseconds.
SECONDS = 2.0
PAGES = 50


def queued(number: int, now: float) -> StoredTask:
    spec = TaskSpec(f"task-{number:032}", "no_op", 2, 1, b"[[],{}]", now)
    return StoredTask(number, spec, changed=now)


def life_of(tasks: list[StoredTask]) -> list[Changes]:
    """The three transactions of some tasks."""
    life = StoredLife(fence=1, fence_epoch=1, holder=b"h" * 16, worker="w1", started=1.8e9)
    started = [replace(task, state=StoredState.STARTED, life=life) for task in tasks]
    ended = [
        replace(
            task,
            state=StoredState.SUCCESS,
            outcome=TaskEvent(
                task.spec.id, WireStatus.SUCCESS, 1, b"null", worker_id="w1", attempts=1
            ),
            content=1,
        )
        for task in started
    ]
    return [Changes(created=tasks), Changes(updated=started), Changes(updated=ended)]


def write_rate(store: SqliteStore | MemoryStore, rows: int) -> float:
    """Rows a second, with that many in each transaction."""
    store.open()
    number, done, spent = 0, 0, 0.0
    while spent < SECONDS:
        tasks = [queued(number + n, 1.8e9) for n in range(1, rows + 1)]
        number += rows
        for changes in life_of(tasks):
            began = time.perf_counter()
            store.write(changes)
            spent += time.perf_counter() - began
            done += rows
    store.close()
    return done / spent


def page_times(store: SqliteStore, asked: TasksAsked) -> tuple[float, float]:
    """The median and the longest time of a page, in milliseconds."""
    reader = store.reader()
    times = []
    for _ in range(PAGES):
        began = time.perf_counter()
        reader.page(asked)
        times.append((time.perf_counter() - began) * 1000)
    reader.close()
    return statistics.median(times), max(times)


def show(name: str, figure: float, unit: str) -> None:
    print(f"{name:40}{figure:14,.2f} {unit}", flush=True)


def seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000, help="how many are read")
    parser.add_argument("--folder", help="where the file is made; its disk is measured")
    arguments = parser.parse_args()
    print(f"{describe_machine()}\nsqlite    {sqlite3.sqlite_version}")
    for rows in COMMITS:
        show(f"memory, {rows:,} rows a commit", write_rate(MemoryStore(), rows), "rows/s")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for rows in COMMITS:
            store = SqliteStore(f"{folder}/{rows}.db")
            show(f"file, {rows:,} rows a commit", write_rate(store, rows), "rows/s")
        path = Path(folder) / "many.db"
        store = SqliteStore(path)
        store.open()
        for first in range(1, arguments.rows + 1, 5_000):
            last = min(first + 5_000, arguments.rows + 1)
            store.write(Changes(created=[queued(n, 1.8e9) for n in range(first, last)]))
        store.close()
        show("bytes in the file per row", path.stat().st_size / arguments.rows, "")
        show(f"open, with {arguments.rows:,} rows", seconds(store.open), "s")
        show("read and verify all", seconds(lambda: list(map(len, store.open_tasks()))), "s")
        for name, asked in (
            ("first page of 100", TasksAsked()),
            ("a page of 100 in the middle", TasksAsked(before=arguments.rows // 2)),
            ("page of a state that nothing has", TasksAsked([StoredState.FAILURE])),
            ("page of a name that nothing has", TasksAsked(name="nothing")),
        ):
            median, longest = page_times(store, asked)
            show(f"{name}, median", median, "ms")
            show(f"{name}, longest", longest, "ms")
        store.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
