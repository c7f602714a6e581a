"""Files of the store that were damaged: their bytes, their tables, their rows.

What is sound is served, the rest is set aside, and nothing is served that was never
written. A file that is not one of ours any more is refused; no other error comes out.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from random import Random
from typing import Final, TypeVar

import msgspec

from fastworker._core._stored import Changes, StoredState, TasksAsked
from fastworker._errors import StoreError, StoreUnavailable
from fastworker._store._sqlite import SqliteStore
from fastworker._store._sqlite_tools import vacuum_store
from fastworker.cli import main
from tests.fuzz.quiet import quiet
from tests.fuzz.store_rows import a_value_of_sqlite
from tests.store.damage import Truth, accounted_for, copy, fill, flip, now, transactions
from tests.store.rows import BEGIN, flat, task

T = TypeVar("T")

CHANGES: Final = transactions(6)
TRUTH: Final = Truth(CHANGES)
IDS: Final = list(TRUTH.rows)
# A log that is cut off may take a task back to what it was before.
HISTORY: Final = [row for each in CHANGES for row in (*each.created, *each.updated)]
PAGE: Final = 4_096


class StoreFiles:
    """See the module's first lines."""

    name = "store files"
    share = 1.5
    life = 100

    def live(self, cases: Iterable[Random]) -> None:
        in_memory = Path("/dev/shm")
        place = in_memory if in_memory.is_dir() else None
        with tempfile.TemporaryDirectory(dir=place) as name:
            folder = Path(name)
            sources = _sources(folder)
            path = folder / "damaged" / "tasks.db"
            for rng in cases:
                source = rng.choice(sources)
                copy(source, path)
                # Of other damage nobody can know what it has taken away.
                is_told = source == sources[0] and rng.random() < 0.3
                if is_told:
                    flip(path, rng.randrange(path.stat().st_size), rng.randrange(8))
                else:
                    _damage(rng, path)
                with _kept_if_wrong(path):
                    if rng.random() < 0.3:
                        _look_with_tools(path)
                    _work_with(rng, path, is_told=is_told)


@contextlib.contextmanager
def _kept_if_wrong(path: Path) -> Iterator[None]:
    """Keep a file as it was: SQLite's logs have numbers that are others in each process."""
    found = {
        each.name: each.read_bytes() for each in (path, Path(f"{path}-wal")) if each.exists()
    }
    try:
        yield
    except BaseException as error:
        folder = Path(tempfile.mkdtemp(prefix="fastworker-fuzz-"))
        for name, content in found.items():
            (folder / name).write_bytes(content)
        error.add_note(f"the file as it was is in {folder}")
        raise


def _sources(folder: Path) -> list[Path]:
    """A file that was closed, one as a crash leaves it, and one with rows set aside."""
    fill(folder / "live.db", CHANGES, crash_to=folder / "crash" / "tasks.db")
    closed = folder / "closed" / "tasks.db"
    closed.parent.mkdir()
    shutil.copyfile(folder / "live.db", closed)
    mended = folder / "mended" / "tasks.db"
    mended.parent.mkdir()
    shutil.copyfile(closed, mended)
    with contextlib.closing(sqlite3.connect(mended)) as file, file:
        file.execute("UPDATE tasks SET changed = changed + 1 WHERE sequence % 7 = 0")
    _open_and_close(mended)
    return [closed, folder / "crash" / "tasks.db", mended]


def _open_and_close(path: Path) -> None:
    store = SqliteStore(path, wall_clock=now)
    store.open()
    flat(store.open_tasks())
    store.close()


# --- how it is damaged ---


def _damage(rng: Random, path: Path) -> None:
    if rng.random() < 0.5:
        for _ in range(rng.choice([1, 1, 2, 6])):
            _damage_table(rng, path)
    if rng.random() < 0.6:
        for _ in range(rng.choice([1, 1, 2, 6])):
            _damage_bytes(rng, path if rng.random() < 0.7 else Path(f"{path}-wal"))


def _damage_bytes(rng: Random, path: Path) -> None:
    if not path.exists() or not path.stat().st_size:
        return
    data = bytearray(path.read_bytes())
    place = rng.choice([rng.randrange(len(data)), min(len(data) - 1, rng.randrange(200))])
    page = place - place % PAGE
    match rng.randrange(9):
        case 0 | 1 | 2:
            data[place] ^= 1 << rng.randrange(8)
        case 3:
            del data[place:]
        case 4:
            data[place : place + 60] = rng.randbytes(rng.randrange(60))
        case 5:
            data[page : page + PAGE] = bytes(PAGE)
        case 6:
            other = PAGE * rng.randrange(1 + len(data) // PAGE)
            data[page : page + PAGE] = data[other : other + PAGE]
        case 7:
            data += rng.randbytes(rng.choice([1, 100, PAGE]))
        case _:
            data = bytearray(
                rng.choice([b"", b"x", b"SQLite format 3\0", rng.randbytes(9_000)])
            )
    path.write_bytes(data)


_COLUMNS: Final = {
    "tasks": "sequence id name priority created state changed worker callback content life "
    "outcome sum spec spec_sum",
    "keys": "key task_id content expires_at sum",
    "meta": "name value sum",
    "bad_rows": "found reason row",
}
_STATEMENTS: Final = (
    "DROP TABLE keys",
    "DROP TABLE bad_rows",
    "DROP INDEX tasks_by_id",
    "DROP INDEX tasks_due",
    "DELETE FROM meta",
    "DELETE FROM meta WHERE name = 'epoch'",
    "CREATE TABLE more (x)",
    "CREATE TRIGGER t AFTER UPDATE ON tasks BEGIN DELETE FROM tasks; END",
    "CREATE VIEW v AS SELECT * FROM tasks",
    "ALTER TABLE tasks ADD COLUMN more",
    "ALTER TABLE bad_rows RENAME TO worse_rows",
    "INSERT INTO bad_rows VALUES (0, CAST(x'ff' AS TEXT), x'')",
    "INSERT INTO bad_rows SELECT created, id, spec FROM tasks",
    "INSERT INTO keys SELECT CAST(x'fffe' AS TEXT), id, 0, created, 0 FROM tasks LIMIT 1",
    "INSERT INTO tasks SELECT sequence + 1000000, id || 'x', name, priority, created, state, "
    "changed, worker, callback, content, life, outcome, sum, spec, spec_sum FROM tasks",
    "PRAGMA user_version = 77",
    "PRAGMA application_id = 77",
    "PRAGMA journal_mode = DELETE",
    "PRAGMA writable_schema = ON",
    "UPDATE sqlite_master SET sql = 'CREATE TABLE tasks (x)' WHERE name = 'tasks'",
)


def _damage_table(rng: Random, path: Path) -> None:
    """As far as SQLite lets us; what it refuses stays as it was."""
    with (
        contextlib.closing(sqlite3.connect(path, isolation_level=None)) as file,
        contextlib.suppress(sqlite3.Error),
    ):
        file.execute("PRAGMA synchronous = OFF")
        if rng.random() < 0.2:
            for statement in rng.sample(_STATEMENTS, rng.choice([1, 2])):
                file.execute(statement)
            return
        table = rng.choice([*_COLUMNS, "tasks", "tasks"])
        column = rng.choice(_COLUMNS[table].split())
        value = a_value_of_sqlite(rng)
        what = "?"
        if isinstance(value, str):
            value, what = value.encode("utf-8", "surrogateescape"), "CAST(? AS TEXT)"
        share = rng.choice([0.02, 0.2, 1.0])
        file.create_function("is_hit", 0, lambda: rng.random() < share)
        file.execute(f"UPDATE {table} SET {column} = {what} WHERE is_hit()", (value,))


# --- what is done with it ---


def _look_with_tools(path: Path) -> None:
    """Tools tell what is there, or why they cannot."""
    for command in (["info"], ["info", "--json"], ["check"], ["check", "--json"]):
        with quiet(), contextlib.suppress(SystemExit):
            main.main(["store", *command, str(path)], prog_name="fastworker")
    with contextlib.suppress(StoreError, StoreUnavailable):
        vacuum_store(path)


def _work_with(rng: Random, path: Path, *, is_told: bool) -> None:
    """As a control plane does: start with it, serve, write, trim, and start again."""
    truth = Truth(CHANGES)
    store = SqliteStore(path, wall_clock=now)
    try:
        problems = store.open().problems
    except StoreError as error:
        # Only of a file that is not ours any more, or of another version.
        if "is not a store of tasks" in str(error) or "has schema" in str(error):
            return
        raise
    try:
        came_back = flat(store.open_tasks())
        came_back += store.outcomes(limit=1_000, since=0.0)
        missing = truth.rows.keys() - {row.spec.id for row in came_back}
        problems += store.take_problems()
        if is_told and not accounted_for(problems, missing):
            raise AssertionError(f"{missing} are lost, and only this is told: {problems}")
        due = flat(store.due_callbacks())
        keys = store.keys(now=BEGIN)
        reader = store.reader()
        read = _mended(store, lambda: reader.read(IDS))
        for asked in _QUESTIONS:
            page = _mended(store, lambda: reader.page(asked))  # noqa: B023 - called at once
            msgspec.msgpack.decode(msgspec.msgpack.encode(page), type=type(page))
        reader.close()
        _mended(store, lambda: store.trim(max_ended=rng.choice([3, 1_000]), before=0.0))
        _mended(store, lambda: store.write(_NEWS))
        problems += store.take_problems()
    finally:
        store.close()
    for row in (*came_back, *due, *read):
        if truth.rows.get(row.spec.id) != row and row not in HISTORY:
            raise AssertionError(f"served falsely: {row}")
    for key in keys:
        if truth.keys.get(key.key) != key:
            raise AssertionError(f"served falsely: {key}")
    "\n".join(problems).encode("utf-8", "backslashreplace")
    again = SqliteStore(path, wall_clock=lambda: BEGIN + 1e6)
    try:
        again.open()
        if "news" not in {row.spec.id for row in flat(again.open_tasks())}:
            raise AssertionError("what was acknowledged is not there any more")
        # All keys have expired by now.
        while _mended(again, lambda: again.trim(max_ended=0, before=BEGIN + 1e6)):
            pass
    finally:
        again.close()


def _mended(store: SqliteStore, call: Callable[[], T]) -> T:
    """What fails since the file is damaged goes well once it was mended."""
    try:
        return call()
    except StoreUnavailable:
        store.recover()
        store.trim(max_ended=1_000, before=0.0)
        return call()


_NEWS: Final = Changes(
    created=[task(1_000_000_000, id="news")],
    updated=[],
    called_back=IDS[:20],
    purged=IDS[20:25],
    dropped_keys=["key-1"],
)
_QUESTIONS: Final = (
    TasksAsked(),
    TasksAsked(states=[StoredState.SUCCESS, StoredState.QUEUED], name="add", limit=5),
    TasksAsked(text="task-1", priorities=[1, 2], since=1.0, until=BEGIN * 2, before=50),
    TasksAsked(worker="w1", is_poison=True),
)
