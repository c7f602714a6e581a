"""A file that is not what was written: flipped bits, cut logs, lost ends, other files.

Whatever has happened: no row is served that was not written, what is sound is served or
set aside with a line that says so, and the errors are those of the API.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from fastworker import StoreError, StoreUnavailable
from fastworker._core._stored import (
    CallbackStage,
    Changes,
    StoredKey,
    StoredTask,
    TasksAsked,
    row_of,
)
from fastworker._store._sqlite import SqliteStore
from fastworker._stores import make_store
from tests.store.rows import ended, fill, open_again, queued, started

KEYS = [StoredKey(f"key-{n}", f"task-{n:06}", n, 9e9) for n in range(1, 20)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, StoredTask]]:
    """A folder with a sound file of 300 tasks, and what is in it."""
    folder = tmp_path_factory.mktemp("whole")
    store = SqliteStore(folder / "tasks.db", project="ours")
    store.open()
    tasks = fill(store, 300, size=100)
    store.write(Changes(keys=KEYS))
    store.close()
    return folder, tasks


def flip(path: Path, bit: int) -> None:
    with path.open("rb+") as file:
        file.seek(bit // 8)
        (byte,) = file.read(1)
        file.seek(bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))


class Found:
    """What a store says after it was opened on a file like that."""

    def __init__(self, path: Path) -> None:
        store = SqliteStore(path, project="ours")
        self.problems: list[str] = []
        self.refusal = ""
        self.tasks: list[StoredTask] = []
        self.keys: list[StoredKey] = []
        try:
            opened = store.open()
            self.epoch = opened.epoch
            self.problems += opened.problems
            for tasks in store.open_tasks():
                self.tasks += tasks
            self.tasks += store.outcomes(limit=10_000, since=0.0)
            due = [task for some in store.due_callbacks() for task in some]
            assert all(task.callback is CallbackStage.DUE for task in due)
            self.keys = store.keys(now=0.0)
            reader = store.reader()
            by_id = {task.spec.id: task for task in self.tasks}
            self.rows = reader.page(TasksAsked(limit=1_000)).rows
            self.read = reader.read([f"task-{n:06}" for n in range(1, 303)])
            reader.close()
            assert {task.spec.id for task in self.read} == set(by_id)
            store.write(Changes(created=[queued(opened.last_sequence + 1)]))
            while store.trim(max_ended=10, before=0.0):
                pass
            self.problems += store.take_problems()
        except (StoreError, StoreUnavailable) as error:
            self.refusal = str(error)
        finally:
            store.close()

    def assert_true_to(self, tasks: dict[str, StoredTask]) -> None:
        ids = [task.spec.id for task in self.tasks]
        assert len(ids) == len(set(ids)), "served twice"
        for task in self.tasks:
            assert task == tasks[task.spec.id], "never written like that"
        if self.refusal:
            return
        for row in self.rows:
            assert row == row_of(tasks[row.task_id])
        for task in self.read:
            assert task == tasks[task.spec.id]
        for key in self.keys:
            assert key in KEYS
        missing = set(tasks) - set(ids)
        if missing or len(self.keys) < len(KEYS):
            assert self.problems, f"{missing} are gone without a word"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(240))
def test_a_flipped_bit_is_noticed_wherever_it_is(
    seed: int, tmp_path: Path, whole: tuple[Path, dict[str, StoredTask]]
) -> None:
    """D6."""
    folder, tasks = whole
    path = tmp_path / "tasks.db"
    shutil.copy(folder / "tasks.db", path)
    rng = random.Random(seed + 39)
    where = [rng.randrange(path.stat().st_size * 8) for _ in range(1 + seed % 3)]
    if seed % 10 == 9:  # where a file says what it is
        where = [rng.randrange(100 * 8)]
    for bit in where:
        flip(path, bit)
    found = Found(path)
    found.assert_true_to(tasks)
    if not found.refusal and len(where) == 1 and not list(tmp_path.glob("*.bad-*")):
        assert len(set(tasks) - {task.spec.id for task in found.tasks}) <= 1
    again = Found(path)
    assert again.refusal == "" or found.refusal, "what was repaired can be opened"


def test_most_rows_survive_a_page_that_is_lost(
    tmp_path: Path, whole: tuple[Path, dict[str, StoredTask]]
) -> None:
    """D6: what can be read of a damaged file is in the new one."""
    folder, tasks = whole
    path = tmp_path / "tasks.db"
    for page in range(2, (folder / "tasks.db").stat().st_size // 4096):
        shutil.copy(folder / "tasks.db", path)
        with path.open("rb+") as file:
            file.seek(page * 4096)
            file.write(os.urandom(4096))
        found = Found(path)
        found.assert_true_to(tasks)
        assert found.refusal == ""
        assert len(found.tasks) >= 250 or "set aside" in found.problems[0], page
        for left in tmp_path.iterdir():
            left.unlink()


def test_a_row_that_does_not_fit_is_named_and_the_others_are_served(
    tmp_path: Path, whole: tuple[Path, dict[str, StoredTask]]
) -> None:
    """D6."""
    folder, tasks = whole
    path = tmp_path / "tasks.db"
    shutil.copy(folder / "tasks.db", path)
    content = path.read_bytes()
    flip(path, 8 * content.index(b"[[7],{}][[7]") + 8 * 2)
    found = Found(path)
    assert [line for line in found.problems if "'task-000007'" in line and "set aside" in line]
    assert {task.spec.id for task in found.tasks} == set(tasks) - {"task-000007"}
    with closing(sqlite3.connect(path)) as file:
        ((kept,),) = file.execute("SELECT row FROM bad_rows").fetchall()
    assert b"task-000007" in kept
    assert not list(tmp_path.glob("*.bad-*"))


def test_a_file_that_was_cut_short_is_set_aside_and_named(
    tmp_path: Path, whole: tuple[Path, dict[str, StoredTask]]
) -> None:
    """D5, D6."""
    folder, tasks = whole
    path = tmp_path / "tasks.db"
    size = (folder / "tasks.db").stat().st_size
    rng = random.Random(5)
    for length in [0, 1, 99, 4096, size // 2, size - 4096, size - 1] + [
        rng.randrange(size) for _ in range(20)
    ]:
        shutil.copy(folder / "tasks.db", path)
        os.truncate(path, length)
        found = Found(path)
        found.assert_true_to(tasks)
        assert found.refusal == "", length
        (aside,) = tmp_path.glob("*.bad-*")
        assert any(str(aside) in line and str(path) in line for line in found.problems), length
        assert aside.stat().st_size == length
        for left in tmp_path.iterdir():
            left.unlink()


def test_the_epoch_grows_although_it_cannot_be_read(
    tmp_path: Path, whole: tuple[Path, dict[str, StoredTask]]
) -> None:
    """D6: fences of before must not come again."""
    folder, _ = whole
    path = tmp_path / "tasks.db"
    shutil.copy(folder / "tasks.db", path)
    for _ in range(3):
        store = SqliteStore(path, project="ours")
        epoch = store.open().epoch
        store.close()
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("UPDATE meta SET value='1' WHERE name='epoch'")
    found = Found(path)
    assert found.epoch > epoch
    assert any("start counter" in line for line in found.problems)


# --- the log ---


@pytest.fixture
def logged(tmp_path: Path) -> tuple[Path, list[int]]:
    """A copy of a file whose transactions are in its log; where each of them ends there."""
    folder = tmp_path / "running"
    folder.mkdir()
    store = SqliteStore(folder / "tasks.db")
    store.open()
    ends = []
    for number in range(1, 13):
        store.write(Changes(created=[queued(3 * number + n) for n in range(3)]))
        ends.append((folder / "tasks.db-wal").stat().st_size)
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("tasks.db", "tasks.db-wal"):
        shutil.copy(folder / name, copy / name)
    store.close()
    return copy, ends


def test_a_log_that_was_cut_at_any_byte_has_whole_transactions(
    logged: tuple[Path, list[int]], tmp_path: Path
) -> None:
    """K4, D6: those before the cut are there, the one that is cut is not."""
    folder, ends = logged
    rng = random.Random(1)
    size = ends[-1]
    cuts = [0, 1, 31, 32, 33, *ends, *(end - 1 for end in ends)]
    for cut in cuts + [rng.randrange(size) for _ in range(60)]:
        work = tmp_path / "work"
        shutil.copytree(folder, work)
        os.truncate(work / "tasks.db-wal", cut)
        store = SqliteStore(work / "tasks.db")
        numbers = [task.sequence for task in open_again(store)]
        assert store.take_problems() == []
        store.close()
        whole = sum(end <= cut for end in ends)
        assert numbers == list(range(3, 3 + 3 * whole)), cut
        shutil.rmtree(work)


def test_a_flipped_bit_in_the_log_is_noticed(
    logged: tuple[Path, list[int]], tmp_path: Path
) -> None:
    """D6: SQLite would take it for the end of the log, and say nothing."""
    folder, ends = logged
    rng = random.Random(2)
    for bit in [5, 90, 170, 200] + [rng.randrange(ends[-1] * 8) for _ in range(80)]:
        work = tmp_path / "work"
        shutil.copytree(folder, work)
        flip(work / "tasks.db-wal", bit)
        before = (work / "tasks.db-wal").read_bytes()
        store = SqliteStore(work / "tasks.db")
        opened = store.open()
        tasks = [task for some in store.open_tasks() for task in some]
        store.close()
        assert tasks == [queued(n) for n in range(3, 3 + len(tasks))], "whole transactions"
        assert len(tasks) % 3 == 0
        if len(tasks) < 36:
            assert any("log" in line for line in opened.problems), bit
            assert before in [file.read_bytes() for file in work.glob("*.bad-*-wal")], bit
        shutil.rmtree(work)


def test_a_copy_made_at_any_moment_has_all_that_was_durable_then(tmp_path: Path) -> None:
    """K4, S19: the file first, then its log, as a backup does it that knows nothing."""
    folder = tmp_path / "running"
    folder.mkdir()
    store = SqliteStore(folder / "tasks.db")
    store.open()
    rng = random.Random(3)
    open_now: dict[str, StoredTask] = {}
    number = 0
    for step in range(60):
        new = [queued(number + n) for n in range(1, rng.randrange(2, 40))]
        number += len(new)
        open_now.update({task.spec.id: task for task in new})
        store.write(Changes(created=new))
        some = rng.sample(sorted(open_now), min(len(open_now), rng.randrange(10)))
        store.write(Changes(updated=[started(open_now[task_id]) for task_id in some]))
        open_now.update({task_id: started(open_now[task_id]) for task_id in some})
        gone = rng.sample(sorted(open_now), min(len(open_now), rng.randrange(8)))
        store.write(Changes(updated=[ended(open_now.pop(task_id)) for task_id in gone]))
        if step % 4 == 0:
            copy = tmp_path / f"copy{step}"
            copy.mkdir()
            for name in ("tasks.db", "tasks.db-wal"):
                shutil.copy(folder / name, copy / name)
            restored = SqliteStore(copy / "tasks.db")
            assert {task.spec.id: task for task in open_again(restored)} == open_now
            assert restored.take_problems() == []
            restored.close()
    store.close()


# --- not ours, or not for us ---


@pytest.mark.parametrize("content", [b"not a database", b"SQLite format 3\0" + b"x" * 5000])
def test_what_is_no_database_is_set_aside_and_named(content: bytes, tmp_path: Path) -> None:
    """D6."""
    path = tmp_path / "tasks.db"
    path.write_bytes(content)
    found = Found(path)
    assert found.refusal == ""
    (aside,) = tmp_path.glob("tasks.db.bad-*")
    assert aside.read_bytes() == content
    assert str(aside) in found.problems[0]


def test_the_database_of_another_program_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "tasks.db"
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("CREATE TABLE addresses (name TEXT)")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="some other program"):
        SqliteStore(path).open()
    assert path.read_bytes() == before


def test_a_file_of_a_newer_version_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "tasks.db"
    store = SqliteStore(path)
    store.open()
    store.close()
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("UPDATE meta SET value='2' WHERE name='schema'")
        file.execute("ALTER TABLE tasks ADD COLUMN something TEXT")
    with pytest.raises(StoreError, match="schema '2'"):
        SqliteStore(path).open()
    assert not list(tmp_path.glob("*.bad-*"))


def test_a_file_belongs_to_the_project_that_used_it_first(tmp_path: Path) -> None:
    path = tmp_path / "tasks.db"
    for project in ("", "one", "one", ""):
        store = SqliteStore(path, project=project)
        store.open()
        store.close()
    with pytest.raises(StoreError, match="another project"):
        SqliteStore(path, project="two").open()


def test_a_second_process_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    """K5: two writers would each undo what the other has promised."""
    path = tmp_path / "tasks.db"
    script = (
        "import sys; from fastworker._store._sqlite import SqliteStore\n"
        "store = SqliteStore(sys.argv[1]); store.open(); print('open', flush=True)\n"
        "sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(StoreError, match="another process"):
            SqliteStore(path).open()
        other.kill()
    store = SqliteStore(path)
    assert store.open().epoch == 2
    store.close()


def test_the_file_and_all_beside_it_are_for_their_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        store = SqliteStore(tmp_path / "new" / "tasks.db")
        store.open()
        fill(store, 20)
    finally:
        os.umask(before)
    files = list((tmp_path / "new").iterdir())
    assert {file.name for file in files} >= {"tasks.db", "tasks.db-wal", "tasks.db-shm"}
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    store.close()


def test_a_folder_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is a folder"):
        SqliteStore(tmp_path).open()
    with pytest.raises(ValueError, match="is a folder"):
        make_store(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert not Path(f"{tmp_path}.lock").exists()


def test_a_row_that_was_lost_comes_back_with_its_next_change(tmp_path: Path) -> None:
    """D6: the control plane knows its task, whatever became of its row."""
    store = SqliteStore(tmp_path / "tasks.db")
    store.open()
    tasks = [queued(n) for n in range(1, 4)]
    store.write(Changes(created=tasks))
    with closing(sqlite3.connect(tmp_path / "tasks.db")) as file, file:
        file.execute("DELETE FROM tasks WHERE sequence=2")
    after = [started(task) for task in tasks]
    store.write(Changes(updated=after))
    store.close()
    assert open_again(store) == after
    store.close()


def test_a_name_on_the_wrong_row_settles_nobodys_callback(tmp_path: Path) -> None:
    """D6."""
    path = tmp_path / "tasks.db"
    store = SqliteStore(path)
    store.open()
    due = [replace(ended(queued(n), is_due=True)) for n in (1, 2)]
    store.write(Changes(created=due))
    store.close()
    open_again(store)
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("UPDATE tasks SET id='other' WHERE sequence=1")
        file.execute("UPDATE tasks SET id='task-000001' WHERE sequence=2")
    store.write(Changes(called_back=["task-000001"]))
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("SELECT callback FROM tasks").fetchall() == [(1,), (1,)]
    store.close()
