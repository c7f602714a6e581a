"""Files that are not what was written: flipped bits, and ends that are cut off (D5)."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from fastworker._core._stored import Changes, TasksAsked
from fastworker._errors import StoreError, StoreUnavailable
from fastworker._store._sqlite_tools import check_store

from .damage import (
    SUFFIXES,
    Found,
    Truth,
    accounted_for,
    copy,
    fill,
    flip,
    make,
    transactions,
)
from .rows import flat, task

CHANGES = transactions(40)
TRUTH = Truth(CHANGES)
IDS = list(TRUTH.rows)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that was closed: all is in it, and there is no log."""
    path = tmp_path_factory.mktemp("sound") / "tasks.db"
    fill(path, CHANGES)
    return path


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[int]]:
    """A file as a crash leaves it, all of it in the log; and where its transactions end."""
    folder = tmp_path_factory.mktemp("crashed")
    sizes = fill(folder / "live.db", CHANGES[:12], crash_to=folder / "crash" / "tasks.db")
    assert sizes == sorted(set(sizes)), "the log has begun anew"
    return folder / "crash" / "tasks.db", sizes


@pytest.mark.parametrize("seed", range(8))
def test_d5_of_a_file_with_a_flipped_bit_nothing_false_is_served_and_losses_are_told(
    sound: Path, tmp_path: Path, seed: int
) -> None:
    """D5."""
    choices = random.Random(seed)
    path = tmp_path / "damaged" / "tasks.db"
    size = sound.stat().st_size
    for _ in range(10):
        copy(sound, path)
        position, bit = choices.randrange(size), choices.randrange(8)
        flip(path, position, bit)
        found = Found(path, IDS)
        where = f"byte {position} bit {bit}: {found.problems}"
        assert found.served_falsely(TRUTH) == [], where
        missing = found.missing(TRUTH)
        assert accounted_for(found.problems, missing), f"{where} {missing}"
        # A page has a dozen rows of these, a page of pointers points to all of them.
        assert len(missing) <= 40, where


@pytest.mark.parametrize("position", [0, 16, 18, 30, 44, 52, 56, 68, 100, 103, 105, 130])
def test_d5_a_damaged_first_page_costs_no_task(
    sound: Path, tmp_path: Path, position: int
) -> None:
    """D5."""
    path = tmp_path / "damaged" / "tasks.db"
    for bit in (0, 3, 6):
        copy(sound, path)
        flip(path, position, bit)
        found = Found(path, IDS)
        assert found.served_falsely(TRUTH) == []
        assert not found.missing(TRUTH), (bit, found.problems)


def test_d5_a_damaged_description_of_the_tables_costs_no_task(
    sound: Path, tmp_path: Path
) -> None:
    """D5."""
    path = tmp_path / "damaged" / "tasks.db"
    first = sound.read_bytes()[:4096]
    choices = random.Random(9)
    words = [b"CREATE", b"spec_sum", b"sequence INTEGER", b"meta", b"bad_rows"]
    for position in [first.rindex(word) for word in words] + choices.sample(
        range(1_500, 4_096), 8
    ):
        copy(sound, path)
        flip(path, position, choices.randrange(8))
        found = Found(path, IDS)
        assert found.served_falsely(TRUTH) == []
        assert not found.missing(TRUTH), (position, found.problems)


def test_d5_a_description_of_the_tables_that_is_no_text_costs_no_task(
    sound: Path, tmp_path: Path
) -> None:
    """D5."""
    path = tmp_path / "damaged" / "tasks.db"
    copy(sound, path)
    # SQLite quotes what it cannot read of it.
    path.write_bytes(
        path.read_bytes().replace(b"CREATE TABLE meta (", b"CREATE TABLE meta \xd3")
    )
    assert "malformed database schema" in check_store(path).problems[0]
    with pytest.raises(StoreUnavailable, match="malformed"):
        make(path).reader().page(TasksAsked())
    found = Found(path, IDS)
    assert found.served_falsely(TRUTH) == []
    assert not found.missing(TRUTH), found.problems


def test_d5_a_log_that_is_cut_at_any_byte_has_every_transaction_before_the_cut(
    crashed: tuple[Path, list[int]], tmp_path: Path
) -> None:
    """D5."""
    source, ends = crashed
    path = tmp_path / "cut" / "tasks.db"
    choices = random.Random(1)
    cuts = [0, 1, 31, 32, 33, *(end + off for end in ends for off in (-4120, -1, 0))]
    cuts += [choices.randrange(ends[-1]) for _ in range(15)]
    for cut in cuts:
        copy(source, path)
        with open(f"{path}-wal", "rb+") as log:
            log.truncate(cut)
        whole = sum(end <= cut for end in ends)
        truth = Truth(CHANGES[:whole])
        found = Found(path, IDS)
        assert (found.rows, found.keys) == (truth.rows, truth.keys), cut
        assert found.problems == [], cut


@pytest.mark.parametrize("position", [0, 18, 30, 56, 70, 105])
def test_d5_a_crash_and_a_damaged_first_page_cost_no_task(
    crashed: tuple[Path, list[int]], tmp_path: Path, position: int
) -> None:
    """D5."""
    source, _ = crashed
    path = tmp_path / "both" / "tasks.db"
    copy(source, path)
    flip(path, position, 1)
    found = Found(path, IDS)
    truth = Truth(CHANGES[:12])
    assert (found.rows, found.keys) == (truth.rows, truth.keys), found.problems


@pytest.mark.parametrize("seed", range(5))
def test_d5_a_flipped_bit_in_the_log_is_set_right_and_told(
    crashed: tuple[Path, list[int]], tmp_path: Path, seed: int
) -> None:
    """D5."""
    source, ends = crashed
    path = tmp_path / "flipped" / "tasks.db"
    choices = random.Random(seed)
    truth = Truth(CHANGES[:12])
    # Its header and those of its first frames, where every bit counts; then anywhere.
    positions = choices.sample(range(60), 4) + [choices.randrange(ends[-1]) for _ in range(6)]
    for position in positions:
        copy(source, path)
        flip(Path(f"{path}-wal"), position, choices.randrange(8))
        found = Found(path, IDS)
        where = f"byte {position}: {found.problems}"
        assert found.served_falsely(truth) == [], where
        assert accounted_for(found.problems, found.missing(truth)), where
        if any("set right" in problem for problem in found.problems):
            assert (found.rows, found.keys) == (truth.rows, truth.keys), where
        else:
            # A high bit, which may have been in many places: its row has a sum of its own.
            assert "cannot be mended" in found.problems[0], where


def test_d5_a_page_of_the_log_that_cannot_be_mended_does_not_take_the_others_with_it(
    crashed: tuple[Path, list[int]], tmp_path: Path
) -> None:
    """D5."""
    source, ends = crashed
    path = tmp_path / "zeros" / "tasks.db"
    truth = Truth(CHANGES[:12])
    choices = random.Random(3)
    for _ in range(6):
        copy(source, path)
        frame = choices.randrange((ends[-2] - 32) // 4120)
        with open(f"{path}-wal", "rb+") as log:
            log.seek(32 + 4120 * frame + 24 + 512 * choices.randrange(8))
            log.write(choices.randbytes(512))
        found = Found(path, IDS)
        assert found.served_falsely(truth) == []
        missing = found.missing(truth)
        assert any("cannot be mended" in problem for problem in found.problems)
        assert accounted_for(found.problems, missing), (missing, found.problems)
        # The last transaction lies behind the damage.
        assert any(row.spec.id in found.rows for row in CHANGES[11].created)


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.99])
def test_d5_a_file_that_was_cut_short_is_set_aside_and_the_rest_of_it_kept(
    sound: Path, tmp_path: Path, part: float
) -> None:
    """D5."""
    path = tmp_path / "short" / "tasks.db"
    copy(sound, path)
    store = make(path)
    store.open()
    store.close()
    size = int(path.stat().st_size * part)
    with open(path, "rb+") as file:
        file.truncate(size)
    found = Found(path, IDS)
    assert found.served_falsely(TRUTH) == []
    assert len(found.rows) > len(TRUTH.rows) * (part - 0.6)
    assert "set aside" in found.problems[0] or "emptied" in found.problems[0]
    (aside,) = path.parent.glob("tasks.db.bad-*")
    assert aside.stat().st_size == size


def test_d5_what_was_set_aside_can_be_looked_at(sound: Path, tmp_path: Path) -> None:
    """D5."""
    path = tmp_path / "aside" / "tasks.db"
    copy(sound, path)
    row = CHANGES[0].created[0]
    position = path.read_bytes().index(row.spec.payload[:200])
    flip(path, position, 3)
    store = make(path)
    store.open()
    came_back = flat(store.open_tasks())
    assert row.spec.id not in {each.spec.id for each in came_back}
    (problem,) = store.take_problems()
    assert row.spec.id in problem
    assert "checksum" in problem
    ((kept,),) = store._held.connection.execute("SELECT row FROM bad_rows").fetchall()
    assert row.spec.id.encode() in kept
    store.close()
    # Told once, and gone for good.
    store = make(path)
    assert store.open().problems == []
    list(store.open_tasks())
    assert store.take_problems() == []
    store.close()


def test_d5_a_start_number_that_was_damaged_is_still_later_than_before(
    sound: Path, tmp_path: Path
) -> None:
    """D5."""
    path = tmp_path / "epoch" / "tasks.db"
    copy(sound, path)
    store = make(path)
    before = store.open().epoch
    store.close()
    position = path.read_bytes().rindex(str(before).encode())
    flip(path, position + 2, 6)
    store = make(path)
    assert store.open().epoch > before
    store.close()


def test_d5_a_file_that_was_never_a_store_is_left_alone(tmp_path: Path) -> None:
    """D5."""
    path = tmp_path / "letter.txt"
    path.write_text("Dear diary, " * 1_000)
    store = make(path)
    with pytest.raises(StoreError, match=r"letter\.txt is not a store .* --store"):
        store.open()
    assert path.read_text() == "Dear diary, " * 1_000
    assert {each.name for each in tmp_path.iterdir()} <= {"letter.txt", "letter.txt.lock"}


def test_d5_a_file_that_was_deleted_between_two_starts_is_told_of(
    sound: Path, tmp_path: Path
) -> None:
    """D5."""
    path = tmp_path / "gone" / "tasks.db"
    copy(sound, path)
    store = make(path)
    epoch = store.open().epoch
    store.close()
    for suffix in SUFFIXES:
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    store = make(path)
    opened = store.open()
    assert "deleted" in opened.problems[0]
    assert opened.last_sequence == 0
    assert opened.epoch >= epoch - 1
    store.write(Changes(created=[task(1)]))
    store.close()
