"""Asks the store what operators and clients want to know, in threads beside the commits.

An answer may be one commit behind what the control plane knows. Lists of tasks
have a reader of their own, since looking for them may take a while and the end
of a task should not wait for that. Questions wait for each other, and only so
many: whoever asks without end is told to try later.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
import trio

from fastworker._core._control_plane_events import PageRead, ReadPage, ReadTasks, TasksRead
from fastworker._core._messages import BATCH_BYTES, MAX_ITEM_BYTES, Kind
from fastworker._core._stored import StoredTask, TasksPage
from fastworker._core._task_questions import TaskAction
from fastworker._errors import StoreUnavailable
from fastworker._store._abc import Store, StoreReader

MAX_WAITING: Final = 100
BUSY: Final = f"{MAX_WAITING} questions about tasks wait already; try again later"

Question = ReadPage | ReadTasks


class StoreQuestions:
    """See the module's first lines. All methods belong to one Trio loop.

    Args:
      store: is open.
      tell: takes the answers.
    """

    def __init__(self, store: Store, tell: Callable[[PageRead | TasksRead], None]) -> None:
        self._tell = tell
        self._operators = _Line(store, tell)
        self._clients = _Line(store, tell)

    def ask(self, question: Question) -> None:
        """Take a question; never waits. If the store does not block, it is answered at once."""
        is_clients = isinstance(question, ReadTasks) and question.action is None
        (self._clients if is_clients else self._operators).ask(question)

    async def run(self) -> None:
        """Work until cancelled; a question that is being read is waited for."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._operators.run)
            nursery.start_soon(self._clients.run)


class _Line:
    """Questions that wait for each other, and the reader that answers them."""

    def __init__(self, store: Store, tell: Callable[[PageRead | TasksRead], None]) -> None:
        self._store = store
        self._tell = tell
        self._reader: StoreReader | None = None
        self._send, self._receive = trio.open_memory_channel[Question](MAX_WAITING)
        # Not the threads of the whole program: those may all be taken.
        self._limiter = trio.CapacityLimiter(1)

    def ask(self, question: Question) -> None:
        if not self._store.is_blocking:
            self._tell(self._answer(question))
            return
        try:
            self._send.send_nowait(question)
        except trio.WouldBlock:
            self._tell(_refusal(question, BUSY))

    async def run(self) -> None:
        try:
            async for question in self._receive:
                answer = await trio.to_thread.run_sync(
                    self._answer, question, limiter=self._limiter
                )
                self._tell(answer)
        finally:
            if self._reader is not None:
                self._reader.close()

    def _answer(self, question: Question) -> PageRead | TasksRead:
        if self._reader is None:
            self._reader = self._store.reader()
        try:
            if isinstance(question, ReadPage):
                page = self._reader.page(question.asked)
                return PageRead(question.session, question.ticket, page)
            return _read(self._reader, question)
        except StoreUnavailable as error:
            return _refusal(question, str(error))


def _read(reader: StoreReader, question: ReadTasks) -> TasksRead:
    """Read tasks one by one, until what is needed of them is enough for one answer."""
    limit = MAX_ITEM_BYTES if question.action is TaskAction.REQUEUE else BATCH_BYTES
    found: list[StoredTask] = []
    size = reached = 0
    for task_id in question.ids:
        for whole in reader.read([task_id]):
            task = _needed(whole, question)
            size += task.spec.size + (0 if task.outcome is None else task.outcome.size)
            found.append(task)
        reached += 1
        if size > limit:
            break
    return TasksRead(question, found, reached)


def _needed(task: StoredTask, question: ReadTasks) -> StoredTask:
    """A task without what the answer has no use for, however much that weighs."""
    if question.kind is Kind.TASK:
        return task
    if question.action is TaskAction.REQUEUE:
        return msgspec.structs.replace(task, outcome=None)
    bare = msgspec.structs.replace(task.spec, payload=b"")
    outcome = task.outcome if question.action is None else None
    return msgspec.structs.replace(task, spec=bare, outcome=outcome)


def _refusal(question: Question, problem: str) -> PageRead | TasksRead:
    if isinstance(question, ReadPage):
        return PageRead(
            question.session, question.ticket, TasksPage([], problem=problem[:4096])
        )
    return TasksRead(question, [], len(question.ids), problem[:4096])
