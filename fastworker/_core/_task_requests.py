"""What clients and subworkers ask of the control plane: to take, give and end tasks."""

from __future__ import annotations

from fastworker._core._answers import Answers
from fastworker._core._callback_addresses import CallbackRules
from fastworker._core._control_plane_events import NoteAction
from fastworker._core._deliveries import Deliveries
from fastworker._core._durability_barrier import Asker, DurabilityBarrier
from fastworker._core._link_responder import Ticket
from fastworker._core._messages import (
    Credits,
    Kind,
    Lease,
    Nothing,
    Poll,
    Refusal,
    RefusalCode,
    Report,
    Submit,
    SubmitReply,
    TaskIds,
    TaskSpec,
)
from fastworker._core._scheduler import Scheduler
from fastworker._core._scheduler_events import (
    AttemptsReported,
    CapacityStated,
    TasksCancelled,
    TasksSubmitted,
    TasksWatched,
    ValuesRead,
)
from fastworker._core._sessions import Session
from fastworker._core._task_lookup import TaskLookup
from fastworker._core._turn import Turn


class TaskRequests:
    """See the module's first lines.

    Args:
      turn: where it is put what has to be written down.
      scheduler: which decides.
      barrier: which knows the store's troubles; receipts for reports wait there.
      answers: by which whoever asks is answered.
      deliveries: by which the scheduler's answers go.
      lookup: of tasks that somebody asks about.
      callback_rules: where callbacks may go.
    """

    def __init__(
        self,
        turn: Turn,
        *,
        scheduler: Scheduler,
        barrier: DurabilityBarrier,
        answers: Answers,
        deliveries: Deliveries,
        lookup: TaskLookup,
        callback_rules: CallbackRules,
    ) -> None:
        self._turn = turn
        self._scheduler = scheduler
        self._barrier = barrier
        self._answers = answers
        self._deliveries = deliveries
        self._lookup = lookup
        self._callback_rules = callback_rules

    # --- of clients ---

    def submit(
        self, session: Session, ticket: Ticket, body: Submit, *, is_draining: bool
    ) -> None:
        """Take tasks, unless the control plane shuts down or the store fails."""
        tasks = body.tasks
        if is_draining:
            message = "the control plane is shutting down; try again later"
            self._refuse_all(session, ticket, tasks, RefusalCode.STOPPING, message)
            return
        if self._barrier.store_error:
            error = self._barrier.store_error
            message = f"the store cannot be written: {error}; try again later"[:4096]
            self._refuse_all(session, ticket, tasks, RefusalCode.STORE, message)
            return
        submitted = TasksSubmitted(session.key, tasks, self._misdirected(session, tasks))
        commands = self._scheduler.handle(submitted, now=self._turn.now)
        ids = [spec.id for spec in tasks]
        self._deliveries.carry_out(commands, Asker(session, ticket, body.hurry, ids))

    def _refuse_all(
        self,
        session: Session,
        ticket: Ticket,
        tasks: list[TaskSpec],
        code: RefusalCode,
        message: str,
    ) -> None:
        refusals = [Refusal(index, code, message) for index in range(len(tasks))]
        self._answers.answer(session, ticket, SubmitReply(refusals), keep=False)

    def _misdirected(self, session: Session, tasks: list[TaskSpec]) -> dict[int, str]:
        """Which tasks' callbacks may not go where their client wants them to, and why."""
        reasons: dict[int, str] = {}
        for index, spec in enumerate(tasks):
            if spec.callback is not None:
                reason = self._callback_rules.refuse(spec.callback.address, session.remote)
                if reason is not None:
                    reasons[index] = reason
        return reasons

    def poll(self, session: Session, ticket: Ticket, body: Poll) -> None:
        """Have it told of news, now or when there is some."""
        session.outbox.acknowledge(body.cursor)
        self._deliveries.park(session, ticket, body.cursor)

    def give_credit(self, session: Session, ticket: Ticket, body: Credits) -> None:
        """Note how far it has read the streams of its own."""
        for item in body.read:
            session.outbox.forget_read(item.task_id, item.count)
        values_read = ValuesRead(session.key, body.read)
        commands = self._scheduler.handle(values_read, now=self._turn.now)
        self._deliveries.carry_out(commands)
        self._answers.acknowledge(session, ticket, Nothing())

    def ask_of(
        self,
        session: Session,
        ticket: Ticket,
        kind: Kind,
        body: TaskIds,
        *,
        is_operator: bool,
    ) -> None:
        """Answer a QUERY, WATCH or CANCEL: what these tasks are, and will be told of."""
        ids = body.ids
        if kind is Kind.QUERY:
            self._lookup.look_up(session, ticket, ids)
            return
        event: TasksCancelled | TasksWatched
        if kind is Kind.CANCEL:
            watcher = session.key if body.wants_end else None
            leaver = session.key if body.leaves else None
            if not body.leaves:
                note = NoteAction("cancel", "asked", session.label, session.remote, ids)
                self._turn.commands.append(note)
            only_of = None if is_operator else session.key
            event = TasksCancelled(ids, body.grace, watcher, leaver, only_of)
        else:
            event = TasksWatched(session.key, ids, body.is_owner, is_operator)
        commands = self._scheduler.handle(event, now=self._turn.now)
        self._deliveries.carry_out(commands, Asker(session, ticket, kind=kind))

    # --- of subworkers ---

    def lease(self, session: Session, ticket: Ticket, body: Lease, *, is_repeat: bool) -> None:
        """Have it given work, now or when there is some."""
        session.handout.acknowledge(body.cursor)
        if body.draining:
            session.handout.wants_drain = False
        if not is_repeat:
            stated = CapacityStated(session.key, body)
            commands = self._scheduler.handle(stated, now=self._turn.now)
            self._deliveries.carry_out(commands)
        self._deliveries.park(session, ticket, body.cursor)

    def report(self, session: Session, ticket: Ticket, body: Report) -> None:
        """Take news of its attempts."""
        reported = AttemptsReported(session.key, body)
        commands = self._scheduler.handle(reported, now=self._turn.now)
        self._deliveries.carry_out(commands)
        # The next values of any stream wait for this receipt.
        hurry = bool(body.yielded)
        self._barrier.when_durable(
            lambda: self._answers.acknowledge(session, ticket, Nothing(), hurry=hurry),
            is_waited_for=hurry,
        )
