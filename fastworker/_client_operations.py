"""What the command line and the dashboard ask the control plane, and have it do.

With tokens or certificates most of it needs the role operator. Answers that are
longer than one frame are asked for page by page.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

import msgspec

from fastworker._client_session import ClientSession
from fastworker._core._messages import (
    CallbacksAsked,
    CallbacksReply,
    FunctionsAsked,
    FunctionsReply,
    LiveFunction,
)
from fastworker._core._metrics import MetricsAsked, MetricsReply, Series
from fastworker._core._overview import (
    DrainAsked,
    DrainReply,
    Overview,
    OverviewAsked,
    WorkerRow,
    WorkersAsked,
    WorkersReply,
)
from fastworker._core._stored import MAX_PAGE_ROWS, TaskRow, TasksAsked, TasksPage
from fastworker._core._task_questions import (
    TaskAction,
    TaskAsked,
    TaskDetail,
    TasksDone,
    TasksNamed,
    Untouched,
)
from fastworker._errors import RemoteProtocolError, StoreUnavailable, TaskNotFound
from fastworker._models import TaskFunctionInfo

T = TypeVar("T")


class InTime(Protocol):
    """Waits for an answer, as long as the client does."""

    def __call__(self, answer: Awaitable[T], /) -> Awaitable[T]:
        """Return the answer.

        Raises:
          ControlPlaneUnreachable: it has not come in time.
        """
        ...


class Operations:
    """See the module's first lines. All of it raises what :meth:`Client.get_task_result` does.

    Args:
      usable_session: gives that of the client, or raises why there is none.
      in_time: bounds each call.
    """

    def __init__(self, usable_session: Callable[[], ClientSession], in_time: InTime) -> None:
        self._usable_session = usable_session
        self._in_time = in_time

    async def list_task_functions(self) -> list[TaskFunctionInfo]:
        """As :meth:`list_live_functions`, with what every client is told of them."""
        return [_function_info(live) for live in await self.list_live_functions()]

    async def list_live_functions(self) -> list[LiveFunction]:
        """Ask for task functions, with all that their workers have announced."""
        return await self._in_time(_all_functions(self._usable_session()))

    async def list_callbacks(self, asked: CallbacksAsked) -> CallbacksReply:
        """Ask for callbacks that have not arrived."""
        return await self._in_time(self._usable_session().questions.ask(asked, CallbacksReply))

    async def list_tasks(self, asked: TasksAsked) -> TasksPage:
        """Ask for a page of tasks, the newest first.

        Raises:
          StoreUnavailable: the control plane cannot read its store now.
        """
        return await self._in_time(self._find_tasks(asked))

    async def _find_tasks(self, asked: TasksAsked) -> TasksPage:
        rows: list[TaskRow] = []
        while True:
            page = await self._usable_session().questions.ask(asked, TasksPage)
            if page.problem:
                raise StoreUnavailable(page.problem)
            rows += page.rows
            left = asked.limit - len(page.rows)
            if not page.reached or not left:
                return msgspec.structs.replace(page, rows=rows)
            asked = msgspec.structs.replace(asked, before=page.reached, limit=left)

    async def describe_task(self, task_id: str) -> TaskDetail:
        """Ask for all that is known of a task; raises as :meth:`list_tasks`.

        Raises:
          TaskNotFound: no such task is kept.
        """
        session = self._usable_session()
        detail = await self._in_time(session.questions.ask(TaskAsked(task_id), TaskDetail))
        if detail.problem:
            raise StoreUnavailable(detail.problem)
        if detail.row is None:
            raise TaskNotFound(f"task {task_id!r}: no such task is kept", task_id=task_id)
        return detail

    async def overview(self) -> Overview:
        """Ask how the control plane is."""
        return await self._in_time(
            self._usable_session().questions.ask(OverviewAsked(), Overview)
        )

    async def workers(self) -> list[WorkerRow]:
        """Ask for all subworkers."""
        return await self._in_time(self._all_workers())

    async def _all_workers(self) -> list[WorkerRow]:
        rows: list[WorkerRow] = []
        while True:
            asked = WorkersAsked(rows[-1].number if rows else 0)
            page = await self._usable_session().questions.ask(asked, WorkersReply)
            rows += page.workers
            if not page.more or not page.workers:
                return rows

    async def metrics(self) -> list[Series]:
        """Ask how long tasks take."""
        return await self._in_time(self._all_series())

    async def _all_series(self) -> list[Series]:
        found: list[Series] = []
        while True:
            asked = MetricsAsked(len(found))
            page = await self._usable_session().questions.ask(asked, MetricsReply)
            found += page.series
            if not page.more or not page.series:
                return found

    async def drain_worker(self, worker_id: str) -> None:
        """Have a subworker end when what it runs has ended.

        A supervised one is started again then. After ``Cancelled`` it may be drained.

        Raises:
          LookupError: that cannot be; the message says why.
        """
        session = self._usable_session()
        reply = await self._in_time(session.questions.ask(DrainAsked(worker_id), DrainReply))
        if reply.problem:
            raise LookupError(reply.problem)

    async def act_on_tasks(
        self, action: TaskAction, ids: list[str], *, newest: int | None = None
    ) -> TasksDone:
        """Have ended tasks run again, or forgotten; raises as :meth:`list_tasks`.

        Args:
          action: which of it.
          ids: of the tasks.
          newest: what has a higher number is left alone; the highest one that there is
            if not given.

        After ``Cancelled`` it may have been done with some of them, or be done yet.
        """
        if newest is None:
            page = await self.list_tasks(TasksAsked(limit=1))
            newest = page.rows[0].sequence if page.rows else 0
        done: list[str] = []
        untouched: list[Untouched] = []
        left = list(dict.fromkeys(ids))
        while left:
            named = TasksNamed(action, left[:MAX_PAGE_ROWS], newest)
            some = await self._in_time(self._usable_session().questions.ask(named, TasksDone))
            if some.problem:
                raise StoreUnavailable(some.problem)
            done += some.done
            untouched += some.untouched
            told = {*some.done, *(each.task_id for each in some.untouched)}
            if not told.intersection(left):
                raise RemoteProtocolError("nothing was said of any task")
            left = [task_id for task_id in left if task_id not in told]
        return TasksDone(done, untouched)


async def _all_functions(session: ClientSession) -> list[LiveFunction]:
    found: list[LiveFunction] = []
    while True:
        asked = FunctionsAsked(found[-1].function.name if found else "")
        reply = await session.questions.ask(asked, FunctionsReply)
        found += reply.functions
        if not reply.more or not reply.functions:
            return found


def _function_info(live: LiveFunction) -> TaskFunctionInfo:
    info = live.function
    return TaskFunctionInfo(
        name=info.name,
        signature=info.signature,
        doc=info.doc,
        lane=info.lane,
        on_lost=info.on_lost,
        workers=tuple(live.workers),
        worker_count=live.worker_count,
    )
