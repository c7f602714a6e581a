"""Questions to the store, in threads: what waits for what, and how much one answer holds."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
import trio
import trio.testing

from fastworker import StoreUnavailable, _store_reader
from fastworker._core._control_plane_events import PageRead, ReadPage, ReadTasks, TasksRead
from fastworker._core._link_responder import Ticket
from fastworker._core._messages import BATCH_BYTES, Kind, TaskEvent, TaskSpec, WireStatus
from fastworker._core._stored import StoredState, StoredTask, TasksAsked, TasksPage
from fastworker._core._task_questions import TaskAction
from fastworker._store_reader import MAX_WAITING, StoreQuestions
from tests.kept_store import KeptStore

pytestmark = pytest.mark.trio

SESSION = b"s" * 16
PAGE = ReadPage(SESSION, Ticket(0, 1), TasksAsked())


class SlowStore(KeptStore):
    """Its reader belongs into a thread, and gives no page before it may."""

    is_blocking = True

    def __init__(self) -> None:
        super().__init__()
        self.may_go_on = threading.Event()
        self.readers = 0
        self.closed = 0

    def reader(self) -> SlowStore:
        self.readers += 1
        return self

    def page(self, asked: TasksAsked) -> TasksPage:
        assert self.may_go_on.wait(20)
        return super().page(asked)

    def close(self) -> None:
        self.closed += 1


class Desk:
    """Whoever asks, and what it was told."""

    def __init__(self, store: KeptStore) -> None:
        self.told: list[PageRead | TasksRead] = []
        self._news = trio.Event()
        self.questions = StoreQuestions(store, self._hear)

    def _hear(self, answer: PageRead | TasksRead) -> None:
        self.told.append(answer)
        self._news.set()

    async def take(self) -> PageRead | TasksRead:
        with trio.fail_after(20):
            while not self.told:
                await self._news.wait()
                self._news = trio.Event()
        return self.told.pop(0)


@asynccontextmanager
async def open_desk(store: KeptStore) -> AsyncIterator[Desk]:
    desk = Desk(store)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.questions.run)
        yield desk
        nursery.cancel_scope.cancel()


def ended(task_id: str, *, arguments: int = 2, value: int = 2) -> StoredTask:
    spec = TaskSpec(task_id, "add", 2, 1, b"a" * arguments, 1.0)
    event = TaskEvent(task_id, WireStatus.SUCCESS, payload=b"v" * value)
    return StoredTask(int(task_id), spec, StoredState.SUCCESS, outcome=event)


def full(store: KeptStore, number: int, *, arguments: int = 2, value: int = 2) -> list[str]:
    ids = [f"{n}" for n in range(1, number + 1)]
    for task_id in ids:
        store.rows[task_id] = ended(task_id, arguments=arguments, value=value)
    return ids


async def test_the_end_of_a_task_does_not_wait_for_lists_of_tasks() -> None:
    store = SlowStore()
    (first,) = full(store, 1)
    async with open_desk(store) as desk:
        desk.questions.ask(PAGE)
        desk.questions.ask(ReadTasks(SESSION, Ticket(1, 1), Kind.QUERY, [first]))
        read = await desk.take()
        assert isinstance(read, TasksRead)
        assert [task.outcome for task in read.tasks] == [store.rows[first].outcome]
        store.may_go_on.set()
        assert isinstance(await desk.take(), PageRead)
    assert store.closed == store.readers == 2


async def test_questions_beyond_those_that_may_wait_are_refused_at_once() -> None:
    """B1."""
    store = SlowStore()
    async with open_desk(store) as desk:
        desk.questions.ask(PAGE)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(MAX_WAITING):
            desk.questions.ask(PAGE)
        assert desk.told == []
        desk.questions.ask(PAGE)
        refused = desk.told.pop()
        assert isinstance(refused, PageRead)
        assert "100 questions about tasks wait already" in refused.page.problem
        store.may_go_on.set()
        for _ in range(1 + MAX_WAITING):
            answer = await desk.take()
            assert isinstance(answer, PageRead)
            assert answer.page.problem == ""


async def test_other_threads_of_the_program_may_all_be_taken() -> None:
    store = SlowStore()
    store.may_go_on.set()
    limiter = trio.to_thread.current_default_thread_limiter()
    tokens = [object() for _ in range(int(limiter.total_tokens))]
    for token in tokens:
        limiter.acquire_on_behalf_of_nowait(token)
    try:
        async with open_desk(store) as desk:
            desk.questions.ask(PAGE)
            assert isinstance(await desk.take(), PageRead)
    finally:
        for token in tokens:
            limiter.release_on_behalf_of(token)


async def read(store: KeptStore, question: ReadTasks) -> TasksRead:
    desk = Desk(store)
    desk.questions.ask(question)
    answer = await desk.take()
    assert isinstance(answer, TasksRead)
    return answer


async def test_ends_are_read_until_they_fill_one_answer_without_the_arguments() -> None:
    """B2: however many a client asks for."""
    store = KeptStore()
    ids = full(store, 30, arguments=1000, value=BATCH_BYTES // 10)
    question = ReadTasks(SESSION, Ticket(1, 1), Kind.WATCH, [*ids, "nobody"])
    answer = await read(store, question)
    assert answer.reached == len(answer.tasks) == 10
    assert {task.spec.payload for task in answer.tasks} == {b""}
    whole = await read(store, msgspec.structs.replace(question, ids=["nobody", ids[0]]))
    assert (whole.reached, len(whole.tasks)) == (2, 1)


async def test_what_is_to_run_again_is_read_with_its_arguments_and_in_portions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_store_reader, "MAX_ITEM_BYTES", 10_000)
    store = KeptStore()
    ids = full(store, 30, arguments=3000, value=100_000)
    named = ReadTasks(
        SESSION, Ticket(1, 1), Kind.TASK_ACTION, ids, action=TaskAction.REQUEUE, newest=99
    )
    answer = await read(store, named)
    assert answer.reached == len(answer.tasks) == 4
    assert {len(task.spec.payload) for task in answer.tasks} == {3000}
    purged = await read(store, msgspec.structs.replace(named, action=TaskAction.PURGE))
    assert (purged.reached, len(purged.tasks)) == (30, 30)
    assert {task.spec.payload for task in purged.tasks} == {b""}


async def test_a_store_that_cannot_be_read_is_the_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(self: KeptStore, asked: object) -> None:
        raise StoreUnavailable("the disk is gone")

    monkeypatch.setattr(KeptStore, "read", fail)
    question = ReadTasks(SESSION, Ticket(1, 1), Kind.WATCH, ["1", "2"])
    answer = await read(KeptStore(), question)
    assert (answer.reached, answer.problem) == (2, "the disk is gone")
