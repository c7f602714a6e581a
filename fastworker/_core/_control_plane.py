"""The control plane's machine: sessions, and the scheduler behind them.

Frames come in, frames go out. Whatever an answer promises is in the store
before the answer leaves: effects wait for the batch of records they rest on
(RecordsDurable), and come out in the order in which they were decided.

This is the machine as a whole: what each event and each request leads to. Its parts
know how: ``SessionTable``, ``SessionLifecycle``, ``DurabilityBarrier``, ``Answers``,
``Deliveries``, ``TaskLookup``, ``TaskRequests``, ``OperatorRequests``.
"""

from __future__ import annotations

from typing import assert_never

from fastworker._core._answers import Answers
from fastworker._core._callback_addresses import CallbackRules
from fastworker._core._codec import REQUEST_BODIES, decode_body, decode_frame, encode
from fastworker._core._control_plane_events import (
    CallbacksDescribed,
    CalledBack,
    ClosePipe,
    ControlPlaneCommand,
    ControlPlaneEvent,
    DrainRequested,
    FrameArrived,
    OldProcessesEnded,
    PageRead,
    Port,
    ProcessExited,
    RecordsDurable,
    RecordsFailed,
    StoreRecovered,
    TasksRead,
)
from fastworker._core._control_plane_figures import (
    ControlPlaneFigures,
    ControlPlaneStatistics,
)
from fastworker._core._deliveries import Deliveries
from fastworker._core._durability_barrier import DurabilityBarrier
from fastworker._core._event_messages import EventsAsked
from fastworker._core._feed import Feed, Told
from fastworker._core._link_responder import (
    AnswerBeat,
    CloseSession,
    Execute,
    RequestReceived,
    ResponderCommand,
    SendTo,
)
from fastworker._core._messages import (
    Credits,
    FunctionsAsked,
    HandedBack,
    Hello,
    Kind,
    Lease,
    Nothing,
    Poll,
    Rehello,
    Report,
    Request,
    Role,
    Submit,
    TaskIds,
)
from fastworker._core._operator_requests import OperatorRequests
from fastworker._core._overview import (
    About,
    Overview,
    OverviewAsked,
)
from fastworker._core._pipes import DeadlinePassed, Flush, PipeClosed, PipeOpened, Route
from fastworker._core._reception import Reception
from fastworker._core._roles import Authority, allowed_kinds, may_open, may_touch_others
from fastworker._core._scheduler import Scheduler
from fastworker._core._scheduler_events import (
    AttemptsReported,
    ChildrenEnded,
)
from fastworker._core._session_lifecycle import SessionLifecycle
from fastworker._core._session_table import SessionTable
from fastworker._core._sessions import Session
from fastworker._core._stored import StoredTask
from fastworker._core._task_lookup import TaskLookup
from fastworker._core._task_questions import cut_page
from fastworker._core._task_requests import TaskRequests
from fastworker._core._turn import Turn
from fastworker._core._worker_rows import SubworkerView, view_workers
from fastworker._errors import RemoteProtocolError


class ControlPlaneState:
    """The machine.

    Args:
      epoch: the start counter from the store; at least 1.
      scheduler: the machine behind the sessions.
      worker_id: a label.
      base_port, management_port: where HELLO on the discovery port sends
        clients and subworkers.
      is_durable: whether the store outlives this process.
      authenticates: whether peers have to prove who they are. Then a pipe of which
        there was no news may do nothing, else everything.
      about: what operators are told of it.
      callback_rules: where callbacks may go.
    """

    def __init__(
        self,
        *,
        epoch: int,
        scheduler: Scheduler,
        worker_id: str,
        base_port: int,
        management_port: int,
        is_durable: bool = False,
        authenticates: bool = False,
        about: About | None = None,
        callback_rules: CallbackRules | None = None,
    ) -> None:
        self._epoch = epoch
        self._scheduler = scheduler
        self._is_draining = False
        self._feed = Feed(epoch)
        turn = self._turn = Turn()
        self._sessions = SessionTable(epoch, authenticates=authenticates)
        self._by_key = sessions = self._sessions.by_key
        reception = Reception(
            self._sessions,
            scheduler,
            epoch=epoch,
            worker_id=worker_id,
            is_durable=is_durable,
            ports={Role.CLIENT: base_port, Role.SUBWORKER: management_port},
        )
        barrier = DurabilityBarrier(scheduler.changes, is_durable=is_durable)
        answers = Answers(turn, sessions)
        lookup = TaskLookup(
            turn, sessions, scheduler=scheduler, barrier=barrier, answers=answers
        )
        deliveries = Deliveries(
            turn,
            sessions,
            scheduler=scheduler,
            barrier=barrier,
            answers=answers,
            lookup=lookup,
        )
        self._requests = TaskRequests(
            turn,
            scheduler=scheduler,
            barrier=barrier,
            answers=answers,
            deliveries=deliveries,
            lookup=lookup,
            callback_rules=callback_rules or CallbackRules(),
        )
        self._operators = OperatorRequests(
            turn,
            self._sessions,
            scheduler=scheduler,
            barrier=barrier,
            answers=answers,
            deliveries=deliveries,
            lookup=lookup,
        )
        self._figures = ControlPlaneFigures(
            sessions,
            scheduler=scheduler,
            barrier=barrier,
            epoch=epoch,
            worker_id=worker_id,
            about=about or About(),
        )
        self._life = SessionLifecycle(
            turn,
            self._sessions,
            reception=reception,
            scheduler=scheduler,
            answers=answers,
            deliveries=deliveries,
            feed=self._feed,
            figures=self._figures,
        )
        self._barrier = barrier
        self._answers = answers
        self._lookup = lookup
        self._deliveries = deliveries

    @property
    def epoch(self) -> int:
        """This control plane's start counter."""
        return self._epoch

    @property
    def scheduler(self) -> Scheduler:
        """The machine behind the sessions; for reading only."""
        return self._scheduler

    @property
    def has_pending_changes(self) -> bool:
        """Whether the store does not have everything yet, and can be written."""
        return self._barrier.has_pending_changes

    @property
    def wants_flush(self) -> bool:
        """Whether Flush would find something to do that the last one did not."""
        deliveries = self._deliveries
        return bool(deliveries.owed or deliveries.overfull) or self._barrier.can_append

    @property
    def is_drained(self) -> bool:
        """Whether nothing runs any more since DrainRequested."""
        return self._is_draining and self._scheduler.leased_count == 0

    # --- after a restart ---

    def restore(self, tasks: list[StoredTask], *, now: float) -> None:
        """Take back tasks that have not ended; see ``Scheduler.restore``."""
        self._turn.now = now
        self._deliveries.carry_out(self._scheduler.restore(tasks, now=now))

    # --- the one mutator ---

    def handle(self, event: ControlPlaneEvent, *, now: float) -> list[ControlPlaneCommand]:
        """Apply an event and return what has to be done."""
        self._turn.now = now
        match event:
            case FrameArrived(port=port, route=route, data=data):
                self._on_frame(port, route, data)
            case Flush():
                self._on_flush()
            case RecordsDurable(batch=batch):
                self._on_durable(batch)
            case RecordsFailed(batch=batch, reason=reason):
                self._on_failed(batch, reason)
            case StoreRecovered():
                self._barrier.note_recovered()
            case CalledBack(task_ids=task_ids):
                for task_id in task_ids:
                    self._scheduler.changes.mark_called_back(task_id)
            case PipeOpened(pipe=pipe, authority=authority, remote=remote):
                self._sessions.open_pipe(pipe, authority, remote, now=now)
            case PipeClosed(pipe=pipe):
                self._sessions.close_pipe(pipe, now=now)
            case DrainRequested():
                self._is_draining = True
            case CallbacksDescribed(session=key, ticket=ticket, reply=reply):
                session = self._by_key.get(key)
                if session is not None:
                    self._answers.answer(session, ticket, reply, keep=False)
            case PageRead(session=key, ticket=ticket, page=page):
                session = self._by_key.get(key)
                if session is not None:
                    self._answers.answer(session, ticket, cut_page(page), keep=False)
            case TasksRead():
                self._on_tasks_read(event)
            case OldProcessesEnded(worker_ids=worker_ids):
                ended = ChildrenEnded(worker_ids)
                self._deliveries.carry_out(self._scheduler.handle(ended, now=now))
            case ProcessExited(worker_id=worker_id):
                self._life.end_process(worker_id)
            case DeadlinePassed():
                self._on_deadline()
            case _:
                assert_never(event)
        commands, self._turn.commands = self._turn.commands, []
        return commands

    def next_deadline(self) -> float:
        """When DeadlinePassed is wanted, ``inf`` for never."""
        return min(
            self._sessions.next_deadline(),
            self._answers.next_deadline(),
            self._lookup.next_deadline(),
            self._barrier.next_deadline(),
            self._feed.next_deadline(),
            self._scheduler.next_deadline(),
        )

    # --- reading ---

    def statistics(self) -> ControlPlaneStatistics:
        """Return a snapshot."""
        return self._figures.statistics()

    def overview(self, *, now: float) -> Overview:
        """Everything in numbers, all of one moment."""
        return self._figures.overview(is_draining=self._is_draining, now=now)

    def subworkers(self, *, now: float) -> list[SubworkerView]:
        """Describe every subworker, in the order in which they joined."""
        return view_workers(self._scheduler, self._sessions.subworkers(), now=now)

    def check(self) -> None:
        """Assert every invariant."""
        self._scheduler.check()
        self._sessions.check()
        self._barrier.check()
        self._answers.check()
        self._lookup.check()
        self._deliveries.check()
        self._feed.check(lambda key, ticket: self._by_key[key].link.waits(ticket))

    # --- what happens ---

    def _on_frame(self, port: Port, route: Route, data: bytes | memoryview) -> None:
        try:
            frame = decode_frame(data)
        except RemoteProtocolError:
            frame = None
        if isinstance(frame, Request):
            self._on_request(route, frame)
        elif isinstance(frame, Hello):
            self._life.begin(port, route, frame)
        else:
            # Whoever sends such bytes is no peer of ours, or a broken one.
            self._figures.malformed_frames += 1
            self._turn.commands.append(ClosePipe(route.pipe))

    def _on_deadline(self) -> None:
        now = self._turn.now
        self._life.end_due()
        self._answers.pass_deadline()
        self._lookup.pass_deadline()
        self._barrier.pass_deadline(now)
        self._tell_listeners(self._feed.pass_deadline(now=now))
        if self._scheduler.next_deadline() <= now:
            self._deliveries.carry_out(self._scheduler.handle(DeadlinePassed(), now=now))

    # --- requests ---

    def _on_request(self, route: Route, request: Request) -> None:
        session = self._by_key.get(request.session)
        if session is None or request.epoch != self._epoch:
            self._say_rehello(route, request)
            return
        authority = self._sessions.authority_of(route.pipe)
        if not may_open(authority, session.role):
            # Not even a sign of life: it knows a session id that it must not know.
            self._say_rehello(route, request)
            return
        self._sessions.hear(session, route.pipe, now=self._turn.now)
        if request.kind not in allowed_kinds(authority, session.role):
            reason = f"a {session.role.name.lower()} may not ask {request.kind.name}"
            self._life.close(session, route, reason)
            return
        received = RequestReceived(route, request)
        try:
            commands = session.link.handle(received, now=self._turn.now)
            self._follow(session, commands, authority)
        except RemoteProtocolError as error:  # its body is not what its kind promises
            self._life.close(session, route, str(error)[:1000])

    def _say_rehello(self, route: Route, request: Request) -> None:
        """Say that there is no such session here."""
        rehello = Rehello(request.session, self._epoch)
        self._turn.commands.append(SendTo(route, encode(rehello)))

    def _follow(
        self, session: Session, commands: list[ResponderCommand], authority: Authority
    ) -> None:
        for command in commands:
            match command:
                case SendTo():
                    self._answers.send(session, command)
                case AnswerBeat():
                    self._answers.gather_beat(session, command)
                case Execute():
                    self._execute(session, command, authority)
                case CloseSession(route=route, reason=reason):
                    self._life.close(session, route, reason)

    def _execute(self, session: Session, request: Execute, authority: Authority) -> None:
        body = decode_body(REQUEST_BODIES[request.kind], request.body)
        ticket, requests = request.ticket, self._requests
        if session.parked is not None and session.parked.slot == ticket.slot:
            self._deliveries.unpark(session)
        if len(self._feed):
            self._feed.free_slot(session.key, ticket.slot)
        match body:
            case Submit():
                requests.submit(session, ticket, body, is_draining=self._is_draining)
            case Report():
                requests.report(session, ticket, body)
            case Credits():
                requests.give_credit(session, ticket, body)
            case Poll():
                requests.poll(session, ticket, body)
            case Lease():
                requests.lease(session, ticket, body, is_repeat=request.repeat)
            case TaskIds():
                is_operator = may_touch_others(authority)
                requests.ask_of(session, ticket, request.kind, body, is_operator=is_operator)
            case FunctionsAsked(after=after):
                functions = self._scheduler.live_functions(after)
                self._answers.answer(session, ticket, functions, keep=False)
            case OverviewAsked():
                overview = self.overview(now=self._turn.now)
                self._answers.answer(session, ticket, overview, keep=False)
            case EventsAsked():
                told = self._feed.ask(session.key, ticket, body, now=self._turn.now)
                self._tell_listeners(told)
            case Nothing():
                self._answers.answer(session, ticket, body)
                self._life.end(session, f"{session.label} said goodbye", is_clean=True)
            case _:
                self._operators.ask(session, ticket, body)

    def _on_tasks_read(self, read: TasksRead) -> None:
        session = self._by_key.get(read.question.session)
        if session is None:
            return
        if read.question.kind is Kind.TASK:
            self._operators.tell_task(session, read)
        elif read.question.kind is Kind.TASK_ACTION:
            self._operators.act_on_tasks(session, read)
        else:
            self._lookup.take_answer(session, read)

    # --- what has gathered ---

    def _on_flush(self) -> None:
        """Make frames of what has gathered: work, records, news, receipts.

        Work goes ahead of the records: a lease that is lost with this process
        is no promise to anybody.
        """
        if self._deliveries.overfull:
            self._life.end_overfull()
        self._deliveries.flush(only_cancels=self._is_draining)
        if self._barrier.can_append:
            at_once = self._is_draining or len(self._feed) > 0
            append = self._barrier.take_batch(self._turn.now, at_once=at_once)
            if append is not None:
                self._turn.commands.append(append)

    def _on_durable(self, batch: int) -> None:
        changes = self._barrier.note_durable(batch)
        if len(self._feed):
            tasks = [*changes.created, *changes.updated]
            self._tell_listeners(self._feed.publish(tasks, now=self._turn.now))

    def _on_failed(self, batch: int, reason: str) -> None:
        """Nothing of the batch is kept: it goes into the next one, without what can go."""
        now = self._turn.now
        new = self._barrier.note_failed(batch, reason)
        gone = {record.spec.id for record in self._scheduler.withdraw(new)}
        for careful in self._barrier.refuse(gone):
            # Nobody was given these; meanwhile others may have their slots.
            items = [HandedBack(item.task_id, item.attempt) for item in careful.assignments]
            report = AttemptsReported(careful.key, Report(self._epoch, handed_back=items))
            self._deliveries.carry_out(self._scheduler.handle(report, now=now))

    def _tell_listeners(self, told: list[Told]) -> None:
        for key, ticket, reply in told:
            self._answers.answer(self._by_key[key], ticket, reply, keep=False)
