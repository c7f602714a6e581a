"""What operators ask and do: tasks in the store, and subworkers to be drained.

The store has the answer, or that which something is to be done with; so it is asked
first. Whatever somebody has done is written down.
"""

from __future__ import annotations

from typing import TypeAlias, assert_never

from fastworker._core._answers import Answers
from fastworker._core._control_plane_events import (
    DescribeCallbacks,
    NoteAction,
    ReadPage,
    ReadTasks,
    TasksRead,
)
from fastworker._core._deliveries import Deliveries
from fastworker._core._durability_barrier import Asker, DurabilityBarrier
from fastworker._core._link_responder import Ticket
from fastworker._core._messages import CallbacksAsked, Kind
from fastworker._core._metrics import MetricsAsked
from fastworker._core._overview import DrainAsked, DrainReply, WorkersAsked
from fastworker._core._scheduler import Scheduler
from fastworker._core._scheduler_events import ActionDone, TasksPurged, TasksRequeued
from fastworker._core._session_table import SessionTable
from fastworker._core._sessions import Session
from fastworker._core._stored import TasksAsked
from fastworker._core._task_lookup import TaskLookup
from fastworker._core._task_questions import (
    TaskAction,
    TaskAsked,
    TaskDetail,
    TasksDone,
    TasksNamed,
    Untouched,
    detail_of,
)
from fastworker._core._turn import Turn
from fastworker._core._worker_rows import list_workers, why_not_drained

OperatorQuestion: TypeAlias = (
    TasksAsked
    | TaskAsked
    | TasksNamed
    | CallbacksAsked
    | MetricsAsked
    | WorkersAsked
    | DrainAsked
)


class OperatorRequests:
    """See the module's first lines.

    Args:
      turn: where questions to the store are put, and what is to be written down.
      sessions: those that live.
      scheduler: which does what operators want.
      barrier: which knows whether the store can be written.
      answers: by which operators are told.
      deliveries: by which the scheduler's answers go.
      lookup: of tasks that the store has not.
    """

    def __init__(
        self,
        turn: Turn,
        sessions: SessionTable,
        *,
        scheduler: Scheduler,
        barrier: DurabilityBarrier,
        answers: Answers,
        deliveries: Deliveries,
        lookup: TaskLookup,
    ) -> None:
        self._turn = turn
        self._sessions = sessions
        self._scheduler = scheduler
        self._barrier = barrier
        self._answers = answers
        self._deliveries = deliveries
        self._lookup = lookup

    def ask(self, session: Session, ticket: Ticket, asked: OperatorQuestion) -> None:
        """Answer, or have somebody asked who can."""
        match asked:
            case TasksAsked() | TaskAsked() | TasksNamed():
                self._ask_store(session, ticket, asked)
            case CallbacksAsked():
                self._turn.commands.append(DescribeCallbacks(session.key, ticket, asked))
            case MetricsAsked(after=after):
                series = self._scheduler.metrics.list_series(after)
                self._answers.answer(session, ticket, series, keep=False)
            case WorkersAsked(after=after):
                workers = self._sessions.subworkers()
                page = list_workers(self._scheduler, workers, after, now=self._turn.now)
                self._answers.answer(session, ticket, page, keep=False)
            case DrainAsked(worker_id=worker_id):
                problem = self._drain_subworker(worker_id)
                self._note(session, "drain", problem or "done", worker_id=worker_id)
                self._answers.answer(session, ticket, DrainReply(problem))
            case _:
                assert_never(asked)

    def _ask_store(
        self, session: Session, ticket: Ticket, asked: TasksAsked | TaskAsked | TasksNamed
    ) -> None:
        """Ask the store, which has the answer, or what something is to be done with."""
        command: ReadPage | ReadTasks
        match asked:
            case TasksAsked():
                command = ReadPage(session.key, ticket, asked)
            case TaskAsked(task_id=task_id):
                command = ReadTasks(session.key, ticket, Kind.TASK, [task_id])
            case TasksNamed() if self._barrier.store_error:
                error = self._barrier.store_error
                problem = f"the store cannot be written: {error}; try again later"
                done = TasksDone(problem=problem[:4096])
                self._answers.answer(session, ticket, done, keep=False)
                return
            case TasksNamed(action=action, ids=ids, newest=newest):
                kind = Kind.TASK_ACTION
                command = ReadTasks(session.key, ticket, kind, ids, action, newest)
        self._turn.commands.append(command)

    def tell_task(self, session: Session, read: TasksRead) -> None:
        """Answer a TASK with what the store has said."""
        found = read.tasks
        detail = detail_of(found[0]) if found else TaskDetail(problem=read.problem)
        self._answers.answer(session, read.question.ticket, detail, keep=False)

    def act_on_tasks(self, session: Session, read: TasksRead) -> None:
        """Do what a TASK_ACTION wants, with those that the store has."""
        question = read.question
        ticket = question.ticket
        verb = "requeue" if question.action is TaskAction.REQUEUE else "purge"
        if read.problem:
            self._note(session, verb, read.problem, question.ids)
            self._answers.answer(session, ticket, TasksDone(problem=read.problem), keep=False)
            return
        tasks = [task for task in read.tasks if task.sequence <= question.newest]
        is_requeue = question.action is TaskAction.REQUEUE
        action = TasksRequeued(tasks) if is_requeue else TasksPurged(tasks)
        commands = self._scheduler.handle(action, now=self._turn.now)
        asker = Asker(session, ticket)
        found = {task.spec.id: task.sequence for task in read.tasks}
        for task_id in question.ids[: read.reached]:
            if task_id not in found:
                asker.untouched.append(Untouched(task_id, self._why_missing(task_id)))
            elif found[task_id] > question.newest:
                asker.untouched.append(Untouched(task_id, "it was queued again meanwhile"))
        acted = [command for command in commands if isinstance(command, ActionDone)]
        done = [task_id for each in acted for task_id in each.done]
        left = len(asker.untouched) + sum(len(each.untouched) for each in acted)
        self._note(session, verb, f"done, except {left}" if left else "done", done)
        self._deliveries.carry_out(commands, asker)

    def _why_missing(self, task_id: str) -> str:
        if self._lookup.is_kept(task_id):
            return "it has not ended, or its end is not in the store yet"
        return "no such task is kept"

    def _drain_subworker(self, worker_id: str) -> str:
        """Have a subworker drained; why not, if that cannot be."""
        for session in self._sessions.subworkers():
            worker = self._scheduler.subworker(session.key)
            if worker.label == worker_id:
                problem = why_not_drained(worker, worker_id)
                session.handout.wants_drain = not problem and not worker.is_draining
                self._deliveries.owe(session)
                return problem
        return why_not_drained(None, worker_id)

    def _note(
        self,
        session: Session,
        action: str,
        outcome: str,
        task_ids: list[str] | None = None,
        worker_id: str = "",
    ) -> None:
        """Have it written down that this client has asked for something (X21)."""
        self._turn.commands.append(
            NoteAction(
                action, outcome, session.label, session.remote, task_ids or [], worker_id
            )
        )
