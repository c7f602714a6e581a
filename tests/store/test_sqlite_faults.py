"""Disks that fail, and files that others lay hands on: D1 to D4, D6, and K4 and K5."""

from __future__ import annotations

import errno
import os
import random
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fastworker._core._stored import Changes, StoredTask
from fastworker._errors import StoreError, StoreUnavailable
from fastworker._store._sqlite import SqliteStore
from fastworker._store._sqlite_rows import PUT_MARK, mark_row

from .damage import Found, copy, make
from .faulty import FaultyProcess, changes, ids
from .rows import ended, flat, task

Start = Callable[..., FaultyProcess]


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``faults.c``, ready to be loaded."""
    made = tmp_path_factory.mktemp("faults") / "faults.so"
    source = Path(__file__).with_name("faults.c")
    flags = ["-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-O1", "-ldl", "-lpthread"]
    subprocess.run(["cc", *flags[:-2], "-o", made, source, *flags[-2:]], check=True)
    return made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    return tmp_path / "state" / "tasks.db"


@pytest.fixture
def start(path: Path, library: Path) -> Iterator[Start]:
    """Starts processes on ``path``, whose disk can be broken; none is left."""
    begun: list[FaultyProcess] = []

    def one(*, crash: str = "") -> FaultyProcess:
        begun.append(FaultyProcess(path, library, crash=crash))
        return begun[-1]

    yield one
    for each in begun:
        if each.process.poll() is None:
            each.kill()


def kept(path: Path, *, may_be_torn: bool = False) -> set[str]:
    """The ids of all open tasks that a new process finds.

    Args:
      may_be_torn: whether the files may end in a transaction that was being written.
    """
    store = make(path)
    try:
        problems = store.open().problems
        found = {row.spec.id for row in flat(store.open_tasks())}
        problems = [*problems, *store.take_problems()]
        if may_be_torn:
            torn = "power was cut before it was acknowledged"
            problems = [problem for problem in problems if torn not in problem]
        assert problems == []
    finally:
        store.close()
    return found


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (f"write {errno.ENOSPC}", "full"),  # D1
        (f"write {errno.EROFS}", "disk I/O error"),  # D2
        (f"write {errno.EIO}", "disk I/O error"),  # D3
        (f"fsync {errno.EIO}", "disk I/O error"),  # D3
    ],
)
def test_d1_d2_d3_nothing_is_acknowledged_while_the_disk_fails_and_all_goes_on_after_it(
    start: Start, path: Path, fault: str, words: str
) -> None:
    """D1, D2, D3."""
    process = start()
    assert process.ask("write 0").startswith("ok")
    process.break_disk(fault)
    answer = process.ask("write 1")
    assert answer.startswith("unavailable")
    assert words in answer
    assert str(path) in answer
    assert process.ask("write 2").startswith("unavailable")
    assert process.ask("recover").startswith("unavailable")
    # What is kept can still be looked at.
    assert process.ask("page").startswith("ok")
    process.mend_disk()
    assert process.ask("write 3").startswith("unavailable")
    assert process.ask("recover").startswith("ok")
    assert process.ask("write 4").startswith("ok")
    assert process.ask("write 2").startswith("ok")
    process.kill()
    assert kept(path) == ids([0, 4, 2])


def test_d3_after_a_failed_fsync_nothing_is_written_behind_what_never_reached_the_disk(
    start: Start, path: Path, tmp_path: Path
) -> None:
    """D3, K5."""
    process = start()
    done = [0, 1]
    for number in done:
        assert process.ask(f"write {number}").startswith("ok")
    for number in range(2, 8):
        # What was written before it stays readable, and is not on the disk.
        process.break_disk(f"fsync {errno.EIO}")
        assert process.ask(f"write {100 + number}").startswith("unavailable")
        process.mend_disk()
        assert process.ask("recover").startswith("ok")
        assert process.ask(f"write {number}").startswith("ok")
        done.append(number)
    process.cut_power(tmp_path / "after")
    assert kept(tmp_path / "after" / path.name) == ids(done)


def test_d4_a_slow_fsync_makes_the_acknowledgement_late_and_readers_do_not_wait(
    start: Start, path: Path
) -> None:
    """D4."""
    process = start()
    process.break_disk("slow 300")
    answer = process.ask("write 0")
    assert answer.startswith("ok")
    assert float(answer.split()[1]) >= 0.3
    answer = process.ask("page")
    assert float(answer.split()[1]) < 0.3
    process.kill()
    assert kept(path) == ids([0])


def test_k5_what_was_acknowledged_is_there_after_a_power_cut(
    start: Start, path: Path, tmp_path: Path
) -> None:
    """K5."""
    choices = random.Random(5)
    done = 0
    for _ in range(4):
        process = start()
        # Enough for the log to go into the file, and to begin anew.
        for number in range(done, done + choices.randrange(150, 400)):
            assert process.ask(f"write {number}").startswith("ok")
            done = number + 1
        process.cut_power(tmp_path / "after")
        assert kept(tmp_path / "after" / path.name) >= ids(range(done))
        shutil.rmtree(path.parent)
        shutil.copytree(tmp_path / "after", path.parent)
        shutil.rmtree(process.disk)


def test_k4_a_copy_of_the_files_at_any_moment_has_all_that_was_acknowledged(
    start: Start, path: Path, tmp_path: Path
) -> None:
    """K4."""
    process = FaultyProcess(path)
    try:
        choices = random.Random(4)
        process.send("endless")
        acknowledged = 0
        copied = tmp_path / "copy" / "tasks.db"
        for _ in range(8):
            for _ in range(choices.randrange(1, 120)):
                acknowledged = int(process.answer())
            process.stop()
            copy(path, copied)
            process.go_on()
            found = kept(copied, may_be_torn=True)
            assert found >= ids(range(acknowledged + 1))
            # More of them, in whole transactions, may be on their way to us.
            assert found == ids(range(len(found) // len(ids([0]))))
    finally:
        rest = process.kill()
    acknowledged = max([acknowledged, *(int(line) for line in rest[:-1] if line)])
    # It was killed at any moment too, so maybe in the middle of a write.
    found = kept(path, may_be_torn=True)
    assert found >= ids(range(acknowledged + 1))
    assert found == ids(range(len(found) // len(ids([0]))))


@pytest.mark.parametrize(
    ("point", "expected"), [("before-commit", [0, 1]), ("after-commit", [0, 1, 2])]
)
def test_k1_a_process_that_is_killed_at_a_commit_leaves_all_of_it_or_nothing(
    start: Start, path: Path, point: str, expected: list[int]
) -> None:
    """K1."""
    process = start(crash=f"{point}:3")
    assert process.ask("write 0").startswith("ok")
    assert process.ask("write 1").startswith("ok")
    assert process.ask("write 2") == ""
    process.kill()
    assert kept(path) == ids(expected)


def test_d6_a_second_process_is_refused_until_the_first_has_ended(
    start: Start, path: Path
) -> None:
    """D6."""
    process = start()
    with pytest.raises(StoreError, match=r"another process has .*tasks\.db open; .* --store"):
        make(path).open()
    assert process.ask("write 0").startswith("ok")
    process.kill()
    assert kept(path) == ids([0])


def test_d6_a_store_is_opened_once_in_a_process_too(path: Path) -> None:
    """D6."""
    store = make(path)
    store.open()
    with pytest.raises(StoreError, match="open already"):
        store.open()
    with pytest.raises(StoreError, match="another process"):
        make(path).open()
    store.write(changes(0))
    store.close()
    assert kept(path) == ids([0])


# --- D2: files that others lay hands on ---


def write_refused(store: SqliteStore, number: int) -> str:
    with pytest.raises(StoreUnavailable) as refused:
        store.write(changes(number))
    return str(refused.value)


@pytest.mark.parametrize("gone", [[""], ["-wal"], ["", "-wal"], ["", "-wal", "-shm"]])
def test_d2_a_file_that_was_deleted_is_written_again(path: Path, gone: list[str]) -> None:
    """D2."""
    store = make(path)
    store.open()
    store.write(changes(0))
    for suffix in gone:
        Path(f"{path}{suffix}").unlink()
    assert "is gone" in write_refused(store, 1)
    store.recover()
    (problem,) = store.take_problems()
    assert "written again" in problem
    store.write(changes(2))
    reader = store.reader()
    assert {row.spec.id for row in reader.read(sorted(ids(range(3))))} == ids([0, 2])
    reader.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    store.close()
    assert kept(path) == ids([0, 2])


def test_d2_a_reader_follows_a_file_that_was_written_again(path: Path) -> None:
    """D2."""
    store = make(path)
    store.open()
    store.write(changes(0))
    reader = store.reader()
    assert len(reader.read(["task-1"])) == 1
    path.unlink()
    with pytest.raises(StoreUnavailable):
        reader.read(["task-1"])
    write_refused(store, 1)
    store.recover()
    store.write(changes(1))
    assert len(reader.read(["task-1", "task-11"])) == 2
    reader.close()
    store.close()


def test_d2_a_file_that_was_replaced_is_not_touched_and_nothing_is_acknowledged(
    path: Path,
) -> None:
    """D2."""
    store = make(path)
    store.open()
    store.write(changes(0))
    other = path.with_name("other.db")
    other.write_bytes(b"somebody else's")
    os.replace(other, path)
    assert "replaced by another file" in write_refused(store, 1)
    with pytest.raises(StoreUnavailable, match="move that away"):
        store.recover()
    assert path.read_bytes() == b"somebody else's"
    os.rename(path, other)
    store.recover()
    store.write(changes(2))
    store.close()
    assert kept(path) == ids([0, 2])


def test_d2_a_folder_that_went_away_and_came_back_is_used_again(path: Path) -> None:
    """D2."""
    store = make(path)
    store.open()
    store.write(changes(0))
    away = path.parent.with_name("away")
    path.parent.rename(away)
    assert "is gone" in write_refused(store, 1)
    with pytest.raises(StoreUnavailable, match="No such file"):
        store.recover()
    away.rename(path.parent)
    store.recover()
    store.write(changes(2))
    store.close()
    assert kept(path) == ids([0, 2])


def test_a_folder_and_a_file_are_for_their_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "tasks.db"
    before = os.umask(0)
    try:
        store = make(path)
        store.open()
        store.write(changes(0))
    finally:
        os.umask(before)
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    assert set(modes.values()) == {0o600}, modes
    for folder in (path.parent, path.parent.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    store.close()


def test_a_file_of_a_later_version_is_refused(path: Path) -> None:
    store = make(path)
    store.open()
    store._held.connection.execute(PUT_MARK, mark_row("schema", "99"))
    store.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"schema '99'.*--store"):
        make(path).open()
    assert path.read_bytes() == before


def test_a_file_of_another_project_is_refused_and_names_the_option(path: Path) -> None:
    for project in ("", "/one", "/one", ""):
        store = SqliteStore(path, project=project)
        store.open()
        store.close()
    with pytest.raises(StoreError, match=r"'/one'.*'/two'.*--store PATH"):
        SqliteStore(path, project="/two").open()
    SqliteStore(path, project="/one").open()


def test_rows_that_were_set_aside_are_whole_again_when_their_task_changes(path: Path) -> None:
    store = make(path)
    store.open()
    rows: list[StoredTask] = changes(0).created
    store.write(Changes(created=rows))
    store._held.connection.execute("DELETE FROM tasks WHERE sequence=3")
    store.write(Changes(updated=[ended(rows[2]), ended(rows[3])]))
    store.close()
    found = Found(path, [row.spec.id for row in rows])
    assert found.rows["task-3"] == ended(rows[2])
    assert found.rows["task-4"] == ended(rows[3])
    assert found.problems == []


def test_a_name_of_a_task_may_be_anything_in_problems_too(path: Path) -> None:
    store = make(path)
    store.open()
    store.write(Changes(created=[task(1, id="ü\n\0")]))
    store._held.connection.execute("UPDATE tasks SET id=CAST(x'ff0aff' AS TEXT)")
    store.close()
    store = make(path)
    store.open()
    assert flat(store.open_tasks()) == []
    (problem,) = store.take_problems()
    problem.encode()
    assert "\n" not in problem
    store.close()
