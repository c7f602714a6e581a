"""What every store does, and what those do that outlive their process.

The fake that other tests use is among them: what holds for it holds for the file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from fastworker._core._messages import WireStatus
from fastworker._core._stored import (
    CallbackStage,
    Changes,
    StoredKey,
    StoredState,
    StoredTask,
    TasksAsked,
    is_asked,
    row_of,
)
from fastworker._store._abc import Store
from fastworker._store._memory import MemoryStore
from fastworker._store._sqlite import SqliteStore
from tests.kept_store import KeptStore
from tests.store.rows import ended, fill, open_again, queued, started

Maker = Callable[[Path], Store]

DURABLE: dict[str, Maker] = {
    "sqlite": lambda folder: SqliteStore(folder / "tasks.db"),
    "kept": lambda folder: KeptStore(),
}
ALL: dict[str, Maker] = {"memory": lambda folder: MemoryStore(), **DURABLE}


@pytest.fixture(params=ALL)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    store = ALL[request.param](tmp_path)
    store.open()
    yield store
    store.close()


@pytest.fixture(params=DURABLE)
def durable(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    store = DURABLE[request.param](tmp_path)
    store.open()
    yield store
    store.close()


def ids(store: Store) -> list[str]:
    reader = store.reader()
    try:
        return [row.task_id for row in reader.page(TasksAsked()).rows]
    finally:
        reader.close()


def read(store: Store, *task_ids: str) -> list[StoredTask]:
    reader = store.reader()
    try:
        return reader.read(list(task_ids))
    finally:
        reader.close()


def test_what_was_written_is_read(store: Store) -> None:
    tasks = fill(store, 20)
    assert sorted(read(store, *tasks), key=lambda t: t.sequence) == list(tasks.values())
    assert read(store, "nobody") == []
    page = store.reader().page(TasksAsked())
    assert page.rows == [row_of(task) for task in reversed(tasks.values())]
    assert not page.more


def test_pages_follow_each_other_newest_first(store: Store) -> None:
    fill(store, 25)
    found: list[str] = []
    asked = TasksAsked(limit=10)
    lengths = []
    while True:
        page = store.reader().page(asked)
        lengths.append(len(page.rows))
        found += [row.task_id for row in page.rows]
        if not page.more:
            break
        asked = replace(asked, before=page.rows[-1].sequence)
    assert lengths == [10, 10, 5]
    assert found == [f"task-{n:06}" for n in range(25, 0, -1)]


def test_tasks_are_listed_by_number_in_whatever_order_they_came(store: Store) -> None:
    store.write(Changes(created=[queued(3), queued(1)]))
    store.write(Changes(created=[queued(2)]))
    assert ids(store) == ["task-000003", "task-000002", "task-000001"]


def test_a_purged_task_is_gone_and_its_id_may_be_used_in_the_same_transaction(
    store: Store,
) -> None:
    store.write(Changes(created=[queued(1), queued(2), queued(3)]))
    store.write(Changes(updated=[ended(queued(1)), ended(queued(2))]))
    again = replace(queued(4), spec=replace(queued(4).spec, id="task-000001"))
    store.write(
        Changes(created=[again], purged=["task-000001", "task-000002", "task-000003", "nobody"])
    )
    assert ids(store) == ["task-000001", "task-000003"], "what has not ended is not purged"
    assert read(store, "task-000001") == [again]


def test_a_task_of_whose_end_everybody_knows_is_settled(store: Store) -> None:
    store.write(Changes(created=[queued(1)]))
    store.write(Changes(updated=[ended(queued(1), is_due=True)]))
    store.write(Changes(called_back=["task-000001"]))
    (task,) = read(store, "task-000001")
    assert task == replace(ended(queued(1)), callback=CallbackStage.SETTLED)


def test_the_oldest_ended_tasks_are_forgotten_and_open_and_due_ones_never(
    store: Store,
) -> None:
    for number in range(1, 11):
        store.write(Changes(created=[queued(number)]))
    for number in range(2, 11):
        due = number == 3
        store.write(Changes(updated=[ended(queued(number), at=5_000.0 + number, is_due=due)]))
    while store.trim(max_ended=6, before=0.0):
        pass
    assert ids(store) == [f"task-{n:06}" for n in (10, 9, 8, 7, 6, 3, 1)]
    while store.trim(max_ended=6, before=5_009.0):
        pass
    assert ids(store) == [f"task-{n:06}" for n in (10, 9, 3, 1)]
    while store.trim(max_ended=0, before=0.0):
        pass
    assert ids(store) == ["task-000003", "task-000001"]


def test_an_epoch_is_never_the_same_again(store: Store) -> None:
    store.close()
    first = store.open().epoch
    store.close()
    if isinstance(store, MemoryStore):
        store._wall_clock = lambda: 2e9  # no two starts are within a millisecond
    assert store.open().epoch > first


def test_a_store_that_forgets_starts_empty() -> None:
    store = MemoryStore()
    store.open()
    fill(store, 20)
    assert not store.is_durable
    opened = store.open()
    assert opened.last_sequence == 0
    assert list(store.open_tasks()) == []
    assert list(store.due_callbacks()) == []
    assert store.outcomes(limit=10, since=0.0) == []
    assert store.keys(now=0.0) == []
    assert ids(store) == []


def test_what_a_store_in_memory_keeps_of_ended_tasks_has_a_bound_in_bytes() -> None:
    store = MemoryStore(max_ended_bytes=20_000)
    store.open()
    for number in range(1, 11):
        store.write(Changes(created=[queued(number)]))
        store.write(Changes(updated=[ended(queued(number), value=b"v" * 5_000)]))
    assert ids(store) == [f"task-{n:06}" for n in (10, 9, 8)]
    store.write(Changes(created=[queued(n, size=50_000) for n in (11, 12)]))
    assert len(ids(store)) == 5, "what has not ended is not counted"
    store.write(Changes(purged=[f"task-{n:06}" for n in (8, 9, 10)]))
    assert store._ended_bytes == 0


# --- stores that outlive their process ---


def test_all_comes_back_after_a_restart(durable: Store) -> None:
    """K1."""
    tasks = fill(durable, 120)
    key = StoredKey("key", "task-000001", 77, 9e9)
    durable.write(Changes(keys=[key, StoredKey("old", "task-000002", 78, 50.0)]))
    durable.close()
    opened = durable.open()
    assert durable.is_durable
    assert opened.last_sequence == 120
    assert opened.problems == []
    came_back = [task for some in durable.open_tasks() for task in some]
    assert came_back == [task for task in tasks.values() if not task.state.is_terminal]
    have_ended = [task for task in tasks.values() if task.state.is_terminal]
    assert durable.outcomes(limit=1_000, since=0.0) == have_ended
    assert durable.outcomes(limit=3, since=0.0) == have_ended[-3:]
    assert durable.outcomes(limit=1_000, since=3_100.0) == [
        task for task in have_ended if task.changed > 3_100.0
    ]
    due = [task for some in durable.due_callbacks() for task in some]
    assert due == [task for task in have_ended if task.callback is CallbackStage.DUE]
    assert due
    assert durable.keys(now=100.0) == [key]


def test_a_key_is_replaced_and_dropped(durable: Store) -> None:
    durable.write(Changes(keys=[StoredKey("a", "t1", 1, 9e9), StoredKey("b", "t2", 2, 9e9)]))
    durable.write(Changes(keys=[StoredKey("a", "t3", 3, 9e9)], dropped_keys=["b", "nobody"]))
    durable.close()
    open_again(durable)
    assert durable.keys(now=0.0) == [StoredKey("a", "t3", 3, 9e9)]


# --- and all of it in any order ---

STATUSES = [WireStatus.SUCCESS, WireStatus.FAILURE, WireStatus.CANCELLED, WireStatus.EXPIRED]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("create"), st.integers(1, 4), st.sampled_from(["add", "fail"])),
        st.tuples(st.just("start"), st.integers(0, 30), st.sampled_from(["w1", "w2"])),
        st.tuples(st.just("end"), st.integers(0, 30), st.sampled_from(STATUSES)),
        st.tuples(st.just("end due"), st.integers(0, 30), st.sampled_from(STATUSES)),
        st.tuples(st.just("called back"), st.integers(0, 30), st.none()),
        st.tuples(st.just("purge"), st.integers(0, 30), st.none()),
        st.tuples(st.just("key"), st.integers(0, 5), st.booleans()),
        st.tuples(st.just("trim"), st.integers(0, 6), st.integers(0, 40)),
        st.tuples(st.just("open again"), st.just(0), st.none()),
    ),
    max_size=30,
)
ASKED = st.builds(
    TasksAsked,
    states=st.lists(st.sampled_from(StoredState), max_size=3, unique=True),
    name=st.sampled_from(["", "add", "nobody"]),
    worker=st.sampled_from(["", "w1", "w2"]),
    priorities=st.lists(st.integers(0, 3), max_size=2, unique=True),
    since=st.sampled_from([0.0, 1_003.0]),
    until=st.sampled_from([0.0, 1_006.0]),
    before=st.integers(0, 12),
    limit=st.sampled_from([1, 3, 100]),
)


class Model:
    """What all stores together should know: a dictionary."""

    def __init__(self) -> None:
        self.rows: dict[str, StoredTask] = {}
        self.keys: dict[str, StoredKey] = {}
        self.last = 0
        self.now = 3_000.0

    def step(self, what: str, number: int, detail: object) -> Changes | None:
        self.now += 1.0
        pick = self._pick(number, is_ended=what in ("called back", "purge"))
        changes = None
        if what == "create":
            new = [
                queued(self.last + n, name=str(detail), priority=(self.last + n) % 4)
                for n in range(1, number + 1)
            ]
            self.last += number
            changes = Changes(created=new)
        elif what == "start" and pick is not None:
            changes = Changes(updated=[started(pick, str(detail))])
        elif what in ("end", "end due") and pick is not None:
            assert isinstance(detail, WireStatus)
            is_due = what == "end due"
            changes = Changes(updated=[ended(pick, detail, at=self.now, is_due=is_due)])
        elif what == "called back" and pick is not None:
            changes = Changes(called_back=[pick.spec.id])
        elif what == "purge" and pick is not None:
            changes = Changes(purged=[pick.spec.id])
        elif what == "key":
            name = f"key{number}"
            key = StoredKey(name, f"t{self.now}", number, 9e9)
            changes = Changes(keys=[key]) if detail else Changes(dropped_keys=[name])
        if changes is not None:
            self._apply(changes)
        return changes

    def _pick(self, number: int, *, is_ended: bool) -> StoredTask | None:
        fitting = [task for task in self.rows.values() if task.state.is_terminal is is_ended]
        return fitting[number % len(fitting)] if fitting else None

    def _apply(self, changes: Changes) -> None:
        for task_id in changes.purged:
            del self.rows[task_id]
        for task in (*changes.created, *changes.updated):
            self.rows[task.spec.id] = task
        for task_id in changes.called_back:
            task = self.rows[task_id]
            self.rows[task_id] = replace(task, callback=CallbackStage.SETTLED)
        self.keys.update({key.key: key for key in changes.keys})
        for name in changes.dropped_keys:
            self.keys.pop(name, None)

    def trim(self, max_ended: int, before: float) -> None:
        have_ended = [task for task in self.rows.values() if task.state.is_terminal]
        excess = len(have_ended) - max_ended
        have_ended = [t for t in have_ended if t.callback is not CallbackStage.DUE]
        have_ended.sort(key=lambda task: task.changed)
        for place, task in enumerate(have_ended):
            if place < excess or task.changed < before:
                del self.rows[task.spec.id]

    def page(self, asked: TasksAsked) -> list[object]:
        tasks = sorted(self.rows.values(), key=lambda task: -task.sequence)
        return [row_of(task) for task in tasks if is_asked(task, asked)]


@contextmanager
def folder_for(name: str) -> Iterator[Path]:
    needs: AbstractContextManager[str] = (
        tempfile.TemporaryDirectory() if name == "sqlite" else nullcontext("nowhere")
    )
    with needs as folder:
        yield Path(folder)


@pytest.mark.parametrize("name", ALL)
@settings(deadline=None, max_examples=30, suppress_health_check=list(HealthCheck))
@given(steps=STEPS, asked=ASKED)
def test_a_store_knows_what_a_dictionary_would(
    name: str, steps: list[tuple[str, int, object]], asked: TasksAsked
) -> None:
    model = Model()
    with folder_for(name) as folder:
        store = ALL[name](folder)
        store.open()
        try:
            for what, number, detail in steps:
                if what == "open again":
                    store.close()
                    check_what_came_back(store, model)
                elif what == "trim":
                    assert isinstance(detail, int)
                    before = 3_000.0 + detail
                    model.trim(number, before)
                    while store.trim(max_ended=number, before=before):
                        pass
                elif (changes := model.step(what, number, detail)) is not None:
                    store.write(changes)
                check_answers(store, model, asked)
        finally:
            store.close()


def check_what_came_back(store: Store, model: Model) -> None:
    if not store.is_durable:
        model.rows.clear()
        model.keys.clear()
    opened = store.open()
    assert opened.problems == []
    tasks = sorted(model.rows.values(), key=lambda task: task.sequence)
    assert opened.last_sequence == max((task.sequence for task in tasks), default=0)
    assert [task for some in store.open_tasks() for task in some] == [
        task for task in tasks if not task.state.is_terminal
    ]
    have_ended = sorted(
        (task for task in tasks if task.state.is_terminal), key=lambda task: task.changed
    )
    assert store.outcomes(limit=100, since=0.0) == have_ended
    due = [task for some in store.due_callbacks() for task in some]
    assert due == [task for task in tasks if task.callback is CallbackStage.DUE]
    keys = sorted(store.keys(now=0.0), key=lambda key: key.key)
    assert keys == [model.keys[name] for name in sorted(model.keys)]
    assert store.take_problems() == []


def check_answers(store: Store, model: Model, asked: TasksAsked) -> None:
    reader = store.reader()
    try:
        everything = model.page(asked)
        page = reader.page(asked)
        assert page.rows == everything[: asked.limit]
        assert page.more == (len(everything) > asked.limit)
        some = list(model.rows)[:5]
        found = sorted(reader.read([*some, "nobody"]), key=lambda task: task.spec.id)
        assert found == sorted((model.rows[i] for i in some), key=lambda task: task.spec.id)
    finally:
        reader.close()
