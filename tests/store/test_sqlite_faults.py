"""A store whose disk fails, and works again: full, read-only, not syncing, slow, lying.

Whatever was refused is not there, whatever was acknowledged is, and no restart is needed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.store.disk import Disk
from tests.store.store_process import StoreProcess

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Disk:
    return Disk(tmp_path_factory.mktemp("disk"))


@pytest.fixture
def disk(built: Disk) -> Iterator[Disk]:
    yield built
    built.work()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tasks.db"


@pytest.fixture
def store(disk: Disk, path: Path) -> Iterator[StoreProcess]:
    """One that is open and has acknowledged 1 to 10."""
    with StoreProcess(path, disk.environment) as store:
        assert store.ask("open") == {"tasks": [], "problems": []}
        assert was_acknowledged(store.ask("create", 1, 10, 10))
        yield store


def was_acknowledged(answer: object) -> bool:
    return not isinstance(answer, str)


def tasks_after_kill(store: StoreProcess, disk: Disk, path: Path) -> list[int]:
    """What the next process finds, with the disk as it is now."""
    store.kill()
    with StoreProcess(path, disk.environment) as again:
        found = again.ask("open")
        assert found["problems"] == []
        tasks: list[int] = found["tasks"]
        return tasks


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        pytest.param("full", "full", id="D1"),
        pytest.param("readonly", "", id="D2"),
        pytest.param("nosync", "disk I/O error", id="D3"),
    ],
)
def test_a_disk_that_fails_acknowledges_nothing_and_is_used_again(
    fault: str, says: str, disk: Disk, path: Path, store: StoreProcess
) -> None:
    """D1, D2, D3."""
    disk.fail(fault)
    refusal = store.ask("create", 11, 20, 10)
    assert not was_acknowledged(refusal)
    assert says in refusal
    assert str(path) in refusal
    assert not was_acknowledged(store.ask("create", 21, 30, 10)), "not before it has recovered"
    assert not was_acknowledged(store.ask("recover"))
    assert not was_acknowledged(store.ask("recover"))
    disk.work()
    assert store.ask("recover") is None
    assert sorted(map(int, store.ask("page"))) == list(range(1, 11)), "nothing that was refused"
    assert was_acknowledged(store.ask("create", 31, 40, 10))
    assert store.ask("end", 1, 31) is None
    assert store.ask("problems") == []
    assert tasks_after_kill(store, disk, path) == [*range(2, 11), *range(32, 41)]


@pytest.mark.parametrize("fault", ["full", "readonly", "nosync"])
def test_killed_while_its_disk_fails_it_has_what_was_acknowledged(
    fault: str, disk: Disk, path: Path, store: StoreProcess
) -> None:
    """D1, D2, D3, K4: of what was refused then, all may be there or nothing."""
    assert store.ask("start", 3) is None
    disk.fail(fault)
    assert not was_acknowledged(store.ask("create", 11, 20, 10))
    store.kill()
    disk.work()
    found = tasks_after_kill(store, disk, path)
    assert found in ([*range(1, 11)], [*range(1, 21)])


def test_large_transactions_fail_and_small_ones_fit_while_a_disk_is_nearly_full(
    disk: Disk, path: Path, store: StoreProcess
) -> None:
    """D1: rolled back wholly, however much of it was written."""
    disk.fail("full", "tasks.db-wal")
    assert not was_acknowledged(store.ask("create", 11, 3_000, 10_000))
    disk.work()
    assert store.ask("recover") is None
    assert was_acknowledged(store.ask("create", 11, 12, 10))
    assert tasks_after_kill(store, disk, path) == list(range(1, 13))


def test_a_small_file_system_that_fills_up_is_used_again_when_there_is_room(
    tmp_path: Path, disk: Disk
) -> None:
    """D1, on a real one where the machine lets us mount it; else the shim stands in."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=600k", "none", str(folder)]
    is_real = os.getuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0
    try:
        path = folder / "tasks.db"
        filler = folder / "filler"
        with StoreProcess(path, disk.environment) as store:
            assert store.ask("open")["tasks"] == []
            acknowledged = 0
            for first in range(1, 400, 10):
                if not is_real and first == 201:
                    disk.fail("full")
                if not was_acknowledged(store.ask("create", first, first + 9, 1_000)):
                    break
                acknowledged = first + 9
                if is_real and first == 1:
                    filler.write_bytes(b"x" * 200_000)
            assert 10 <= acknowledged < 400
            filler.unlink(missing_ok=True)
            disk.work()
            assert store.ask("recover") is None
            assert sorted(map(int, store.ask("page"))) == list(range(1, acknowledged + 1))
            assert was_acknowledged(store.ask("create", 1_000, 1_000, 10))
            assert tasks_after_kill(store, disk, path) == [*range(1, acknowledged + 1), 1_000]
    finally:
        if is_real:
            subprocess.run(["umount", str(folder)], check=True)


def test_a_slow_disk_acknowledges_late_and_nothing_else(
    disk: Disk, path: Path, store: StoreProcess
) -> None:
    """D4."""
    disk.fail("slow")
    took = store.ask("create", 11, 20, 10)
    assert took >= 2.0
    disk.work()
    assert tasks_after_kill(store, disk, path) == list(range(1, 21))


def test_a_deleted_file_is_noticed_at_once_and_written_again(
    disk: Disk, path: Path, store: StoreProcess
) -> None:
    """D5."""
    assert sorted(map(int, store.ask("page"))) == list(range(1, 11))
    for name in ("tasks.db", "tasks.db-wal", "tasks.db-shm"):
        path.with_name(name).unlink()
    refusal = store.ask("create", 11, 20, 10)
    assert not was_acknowledged(refusal)
    assert "gone" in refusal
    assert store.ask("recover") is None
    assert ["was deleted" in line for line in store.ask("problems")] == [True]
    assert sorted(map(int, store.ask("page"))) == list(range(1, 11))
    assert was_acknowledged(store.ask("create", 21, 30, 10))
    assert path.stat().st_mode & 0o777 == 0o600
    assert tasks_after_kill(store, disk, path) == [*range(1, 11), *range(21, 31)]


def test_a_deleted_log_is_noticed_too_although_the_file_is_there(
    disk: Disk, path: Path, store: StoreProcess
) -> None:
    """D5: what was committed into a log without a name would be gone after a crash."""
    path.with_name("tasks.db-wal").unlink()
    assert not was_acknowledged(store.ask("create", 11, 20, 10))
    assert store.ask("recover") is None
    assert was_acknowledged(store.ask("create", 21, 30, 10))
    assert tasks_after_kill(store, disk, path) == [*range(1, 11), *range(21, 31)]


def test_a_replaced_file_is_not_touched_and_ours_is_written_when_it_is_moved_away(
    disk: Disk, path: Path, store: StoreProcess
) -> None:
    """D5."""
    other = path.with_name("other.db")
    other.write_bytes(b"what somebody needs")
    os.replace(other, path)
    refusal = store.ask("create", 11, 20, 10)
    assert not was_acknowledged(refusal)
    assert "replaced" in refusal
    assert "replaced" in store.ask("recover")
    assert path.read_bytes() == b"what somebody needs"
    shutil.move(path, other)
    assert store.ask("recover") is None
    assert was_acknowledged(store.ask("create", 21, 30, 10))
    assert other.read_bytes() == b"what somebody needs"
    assert tasks_after_kill(store, disk, path) == [*range(1, 11), *range(21, 31)]


def test_a_file_that_was_deleted_between_two_transactions_is_missed_when_it_is_trimmed(
    path: Path, store: StoreProcess
) -> None:
    """D5: so that it is noticed although nobody submits anything."""
    path.unlink()
    assert "gone" in store.ask("trim", 10)
    assert store.ask("recover") is None
    assert path.exists()


def test_a_disk_that_lies_is_found_out_when_it_is_read(
    disk: Disk, path: Path, store: StoreProcess
) -> None:
    """D6: nothing is served that was not written, and what is missing is said."""
    disk.fail("flip")
    store.ask("create", 11, 200, 500)
    disk.work()
    store.kill()
    with StoreProcess(path, disk.environment) as again:
        found = again.ask("open")
    assert set(found["tasks"]) <= set(range(1, 201))
    assert found["tasks"] == sorted(found["tasks"])
    if len(found["tasks"]) < 200:
        assert found["problems"]
