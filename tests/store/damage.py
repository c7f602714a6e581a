"""A store's file as a test wants it: full of tasks, copied as a crash leaves it, damaged."""

from __future__ import annotations

import random
import re
import shutil
from pathlib import Path

from fastworker._core._stored import CallbackStage, Changes, StoredKey, StoredTask
from fastworker._errors import StoreUnavailable
from fastworker._store._sqlite import SqliteStore

from .rows import BEGIN, ended, flat, started, task

SUFFIXES = ("", "-wal")


def now() -> float:
    return BEGIN


def make(path: Path) -> SqliteStore:
    return SqliteStore(path, wall_clock=now)


def transactions(count: int, *, seed: int = 1) -> list[Changes]:
    """Some of each kind of change, in ``count`` transactions."""
    choices = random.Random(seed)
    made: list[Changes] = []
    rows: dict[int, StoredTask] = {}
    for index in range(count):
        created = [
            task(number, payload=choices.randbytes(choices.choice([5, 300, 9_000])))
            for number in range(10 * index + 1, 10 * index + 11)
        ]
        updated: list[StoredTask] = []
        if rows:
            for number in choices.sample(sorted(rows), 5):
                row = rows[number]
                if row.state.is_terminal:
                    continue
                if choices.random() < 0.5:
                    updated.append(started(row, fence=row.life.fence + 1))
                else:
                    stage = choices.choice([CallbackStage.NONE, CallbackStage.DUE])
                    updated.append(ended(row, at=BEGIN + index, callback=stage))
        key = StoredKey(f"key-{index}", created[0].spec.id, index, BEGIN + 1_000)
        made.append(Changes(created, updated, keys=[key]))
        rows |= {row.sequence: row for row in (*created, *updated)}
    return made


class Truth:
    """What a store has after some transactions."""

    def __init__(self, changes: list[Changes]) -> None:
        self.rows: dict[str, StoredTask] = {}
        self.keys: dict[str, StoredKey] = {}
        for each in changes:
            self.rows |= {row.spec.id: row for row in (*each.created, *each.updated)}
            self.keys |= {key.key: key for key in each.keys}


class Found:
    """What a store gives back, by every way there is, and the problems it tells of."""

    def __init__(self, path: Path, ids: list[str]) -> None:
        store = make(path)
        self.problems = list(store.open().problems)
        try:
            came_back = flat(store.open_tasks())
            assert len(came_back) == len({row.spec.id for row in came_back}), "given twice"
            came_back += store.outcomes(limit=1_000_000, since=0.0)
            self.due = flat(store.due_callbacks())
            self.keys = {key.key: key for key in store.keys(now=BEGIN)}
            self.rows = {row.spec.id: row for row in came_back}
            reader = store.reader()
            try:
                rows = reader.read(ids)
            except StoreUnavailable:
                # Damage that only a reader has met is mended by the next step of trimming.
                store.trim(max_ended=1_000_000, before=0.0)
                rows = reader.read(ids)
            self.read = {row.spec.id: row for row in rows}
            reader.close()
            changes = Changes(created=[task(1_000_000_000, id="one-more")])
            try:
                store.write(changes)
            except StoreUnavailable:
                store.recover()
                store.write(changes)
            self.problems += store.take_problems()
        finally:
            store.close()

    def served_falsely(self, truth: Truth) -> list[object]:
        """Whatever differs from the truth; what is missing does not."""
        rows = [*self.rows.values(), *self.read.values(), *self.due]
        return [
            *(row for row in rows if truth.rows.get(row.spec.id) != row),
            *(row for row in self.due if row.callback is not CallbackStage.DUE),
            *(key for key in self.keys.values() if truth.keys.get(key.key) != key),
        ]

    def missing(self, truth: Truth) -> set[str]:
        """Of which tasks nothing came back."""
        return truth.rows.keys() - self.rows.keys()


def accounted_for(problems: list[str], missing: set[str]) -> bool:
    """Whether each task that did not come back is told of, by name or in a number."""
    told = "\n".join(problems)
    named = {task_id for task_id in missing if f"'{task_id}'" in told}
    more = sum(int(n.replace(",", "")) for n in re.findall(r"and ([\d,]+) more", told))
    # A row whose id itself was damaged is told of under another.
    unclear = sum("was set aside: " in problem for problem in problems)
    return len(missing - named) <= more + unclear


def fill(path: Path, changes: list[Changes], *, crash_to: Path | None = None) -> list[int]:
    """Write all of this; return the size of the log after each transaction.

    ``crash_to``: where the files go as they are while it is open.
    """
    store = make(path)
    store.open()
    sizes: list[int] = []
    for each in changes:
        store.write(each)
        sizes.append(Path(f"{path}-wal").stat().st_size)
    if crash_to is not None:
        copy(path, crash_to)
    store.close()
    return sizes


def copy(path: Path, to: Path) -> None:
    """Copy a file and its log, in place of what was there."""
    to.parent.mkdir(exist_ok=True)
    for old in to.parent.iterdir():
        old.unlink()
    for suffix in SUFFIXES:
        if Path(f"{path}{suffix}").exists():
            shutil.copyfile(f"{path}{suffix}", f"{to}{suffix}")


def flip(path: Path, position: int, bit: int) -> None:
    """Flip one bit of a file."""
    with open(path, "rb+") as file:
        file.seek(position)
        (byte,) = file.read(1)
        file.seek(position)
        file.write(bytes([byte ^ 1 << bit]))
