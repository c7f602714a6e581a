"""Asks the store what operators want to know, in a thread beside the commits.

A page may be one commit behind what the control plane knows. Questions wait for
each other, and only so many: whoever asks without end is told to try later.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from fastworker._core._control_plane_events import PageRead, ReadPage, ReadTasks, TasksRead
from fastworker._core._stored import StoredTask, TasksPage
from fastworker._errors import StoreUnavailable
from fastworker._store._abc import Store, StoreReader

MAX_WAITING: Final = 100
BUSY: Final = f"{MAX_WAITING} questions about tasks wait already; try again later"


class StoreQuestions:
    """See the module's first lines. All methods belong to one Trio loop.

    Args:
      store: is open.
      tell: takes the answers.
    """

    def __init__(self, store: Store, tell: Callable[[PageRead | TasksRead], None]) -> None:
        self._store = store
        self._tell = tell
        self._reader: StoreReader | None = None
        self._send, self._receive = trio.open_memory_channel[ReadPage | ReadTasks](MAX_WAITING)

    def ask(self, question: ReadPage | ReadTasks) -> None:
        """Take a question; never waits. If the store does not block, it is answered at once."""
        if not self._store.is_blocking:
            self._tell(self._answer(question))
            return
        try:
            self._send.send_nowait(question)
        except trio.WouldBlock:
            self._tell(_refusal(question, BUSY))

    async def run(self) -> None:
        """Work until cancelled; a question that is being read is waited for."""
        try:
            async for question in self._receive:
                self._tell(await trio.to_thread.run_sync(self._answer, question))
        finally:
            if self._reader is not None:
                self._reader.close()

    def _answer(self, question: ReadPage | ReadTasks) -> PageRead | TasksRead:
        if self._reader is None:
            self._reader = self._store.reader()
        try:
            if isinstance(question, ReadPage):
                page = self._reader.page(question.asked)
                return PageRead(question.session, question.ticket, page)
            tasks: list[StoredTask] = self._reader.read(question.ids)
        except StoreUnavailable as error:
            return _refusal(question, str(error))
        return TasksRead(question, tasks)


def _refusal(question: ReadPage | ReadTasks, problem: str) -> PageRead | TasksRead:
    if isinstance(question, ReadPage):
        return PageRead(
            question.session, question.ticket, TasksPage([], problem=problem[:4096])
        )
    return TasksRead(question, [], problem[:4096])
