"""How large a file may become: at most 3 times what it has, and 64 MiB."""

from __future__ import annotations

from pathlib import Path

from fastworker._core._stored import Changes

from .damage import make
from .rows import BEGIN, ended, task, trim_all

MIB = 1024 * 1024


def test_a_file_gives_back_what_was_trimmed_and_its_log_stays_small(tmp_path: Path) -> None:
    path = tmp_path / "tasks.db"
    log = Path(f"{path}-wal")
    store = make(path)
    store.open()
    value = bytes(60_000)
    largest = 0
    for first in range(0, 1_600, 20):
        numbers = range(first + 1, first + 21)
        rows = [ended(task(n, payload=value), at=BEGIN + n) for n in numbers]
        store.write(Changes(created=rows))
        largest = max(largest, log.stat().st_size)
    assert path.stat().st_size > 80 * MIB
    steps = trim_all(store, max_ended=10)
    largest = max(largest, log.stat().st_size)
    assert steps > 50
    assert largest <= 16 * MIB
    live = 10 * len(value)
    # The log has the last pages; they go into the file with the next commits.
    store.recover()
    assert path.stat().st_size + log.stat().st_size <= 3 * live + 64 * MIB
    store.close()


def test_what_was_trimmed_is_used_again(tmp_path: Path) -> None:
    path = tmp_path / "tasks.db"
    store = make(path)
    store.open()
    sizes: list[int] = []
    for turn in range(6):
        for first in range(1_000 * turn, 1_000 * (turn + 1), 100):
            numbers = range(first + 1, first + 101)
            rows = [ended(task(n, payload=bytes(900)), at=BEGIN + n) for n in numbers]
            store.write(Changes(created=rows))
        trim_all(store, max_ended=100)
        store.recover()
        sizes.append(path.stat().st_size)
    assert max(sizes[1:]) < 1.5 * sizes[0]
    store.close()
