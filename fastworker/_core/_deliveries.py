"""What peers are owed: news and values for clients, work and orders for subworkers.

The scheduler says what they are to have. It becomes theirs once what it rests on is
durable, and then lies ready until they fetch it, by a long request that waits here:
a client's POLL, a subworker's LEASE.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

from fastworker._core._answers import Answers
from fastworker._core._codec import AnyBody
from fastworker._core._control_plane_events import CallBack
from fastworker._core._durability_barrier import Asker, CarefulLeases, DurabilityBarrier
from fastworker._core._link_responder import Ticket
from fastworker._core._messages import (
    Assignment,
    Callback,
    LeaseReply,
    PollReply,
    Role,
    StreamValue,
    TaskEvent,
    TaskEvents,
)
from fastworker._core._scheduler import Scheduler
from fastworker._core._scheduler_events import (
    ActionDone,
    Assign,
    Dispatch,
    PassCredit,
    SchedulerCommand,
    SubmitDecided,
    TaskChanged,
    TasksDescribed,
    ValueCame,
)
from fastworker._core._sessions import Session
from fastworker._core._task_lookup import TaskLookup
from fastworker._core._task_questions import TasksDone
from fastworker._core._turn import Turn


class Deliveries:
    """See the module's first lines.

    ``owed``, for reading, are the sessions that may have something to fetch since it was
    looked last; ``overfull`` those that fetch nothing, and are owed too much.

    Args:
      turn: where callbacks are put.
      sessions: those that live, by key.
      scheduler: whose work is handed out.
      barrier: what waits for the store waits there.
      answers: by which peers are given what they are owed.
      lookup: of tasks that somebody has asked about.
    """

    def __init__(
        self,
        turn: Turn,
        sessions: Mapping[bytes, Session],
        *,
        scheduler: Scheduler,
        barrier: DurabilityBarrier,
        answers: Answers,
        lookup: TaskLookup,
    ) -> None:
        self._turn = turn
        self._sessions = sessions
        self._scheduler = scheduler
        self._barrier = barrier
        self._answers = answers
        self._lookup = lookup
        self.owed: dict[bytes, Session] = {}
        self.overfull: dict[bytes, Session] = {}
        self._parked_leases: dict[bytes, Session] = {}
        self._parked_polls: dict[bytes, Session] = {}

    # --- long requests ---

    def park(self, session: Session, ticket: Ticket, cursor: int) -> None:
        """Let a long request wait; one that waited before is answered empty."""
        if session.parked is not None:
            older, session.parked = session.parked, None
            is_subworker = session.role is Role.SUBWORKER
            empty = LeaseReply(session.cursor) if is_subworker else PollReply(session.cursor)
            self._answers.answer(session, older, empty, keep=False)
        session.parked = ticket
        session.cursor = cursor
        self._parking(session)[session.key] = session
        self.owed[session.key] = session

    def unpark(self, session: Session) -> Ticket:
        """Return the request that waited."""
        assert session.parked is not None
        ticket, session.parked = session.parked, None
        del self._parking(session)[session.key]
        return ticket

    def _parking(self, session: Session) -> dict[bytes, Session]:
        """Where the long requests of such peers wait."""
        return self._parked_leases if session.role is Role.SUBWORKER else self._parked_polls

    def flush(self, *, only_cancels: bool) -> None:
        """Hand out work, and make frames of what has gathered for those who wait for it."""
        if self._parked_leases and self._scheduler.has_work:
            reachable = [k for k, s in self._parked_leases.items() if not s.handout.has_orders]
            dispatch = Dispatch(
                reachable, only_cancels, avoids_careful=bool(self._barrier.store_error)
            )
            self.carry_out(self._scheduler.handle(dispatch, now=self._turn.now))
        # Who has not asked for it yet is looked at again when it does.
        owed, self.owed = self.owed, {}
        for session in owed.values():
            if session.parked is None or self._sessions.get(session.key) is not session:
                continue
            if session.role is Role.SUBWORKER:
                if len(session.handout):
                    self._give(session)
            elif len(session.outbox):
                reply = session.outbox.take(session.cursor)
                self._answers.answer(session, self.unpark(session), reply, keep=False)

    def _give(self, session: Session) -> None:
        """Answer a LEASE with what is new, and with what may have been lost before."""
        key, handout = session.key, session.handout
        handout.keep(lambda item: self._scheduler.is_leased(item.task_id, item.attempt, key))
        if len(handout):
            self._answers.answer(session, self.unpark(session), handout.take(), keep=False)

    def owe(self, session: Session) -> None:
        """There may be something for it to fetch."""
        self.owed[session.key] = session

    def end_session(self, session: Session) -> None:
        """Nobody will fetch what this session is owed."""
        self.overfull.pop(session.key, None)
        self.owed.pop(session.key, None)
        self._parked_leases.pop(session.key, None)
        self._parked_polls.pop(session.key, None)

    # --- what the scheduler wants ---

    def carry_out(self, commands: list[SchedulerCommand], asker: Asker | None = None) -> None:
        """Do what the scheduler wants, now or once it is durable, and answer who asked."""
        answer: AnyBody | None = None
        news: list[TaskChanged] = []  # that stand beside each other
        for command in commands:
            if isinstance(command, TaskChanged):
                if command.owner is not None:
                    news.append(command)
                if command.callback is not None:
                    self._call_back_when_durable(command.callback, command.event)
                continue
            if news:
                self._tell_when_durable(news)
                news = []
            match command:
                case SubmitDecided(reply=reply):
                    answer = reply
                case TasksDescribed(events=events):
                    answer = TaskEvents(events)
                case ActionDone(done=done, untouched=untouched):
                    more = [] if asker is None else asker.untouched
                    answer = TasksDone(done, [*untouched, *more])
                case ValueCame(owner=owner, value=value):
                    self._pass_when_durable(owner, value)
                case PassCredit(key=key, credit=credit):
                    owed = self.owed[key] = self._sessions[key]
                    owed.handout.put_credit(credit)
                case Assign(key=key, assignments=assignments, cancels=cancels):
                    owed = self.owed[key] = self._sessions[key]
                    handout = owed.handout
                    barrier = self._barrier
                    if command.careful and barrier.is_durable and not barrier.store_error:
                        careful = {item.task_id for item in command.careful}
                        self._give_when_durable(key, command.careful)
                        assignments = [i for i in assignments if i.task_id not in careful]
                    handout.put(assignments)
                    handout.put(cancels)
                case _:
                    assert_never(command)
        if news:
            self._tell_when_durable(news)
        if asker is not None and answer is not None:
            asker.answer = answer
            self._barrier.when_durable(
                lambda: self._answer_asker(asker), asker, is_waited_for=asker.hurry
            )

    def _answer_asker(self, asker: Asker) -> None:
        assert asker.answer is not None
        if isinstance(asker.answer, TaskEvents):
            # Of what is kept in memory no longer, the store may have the end.
            events = asker.answer.events
            self._lookup.tell(asker.session, asker.ticket, asker.kind, events, keep=True)
            return
        self._answers.acknowledge(asker.session, asker.ticket, asker.answer, hurry=asker.hurry)

    def _give_when_durable(self, key: bytes, careful: list[Assignment]) -> None:
        def give() -> None:
            # Should the lease have ended meanwhile, _give() leaves it out.
            session = self._sessions.get(key)
            if session is not None:
                session.handout.put(careful)
                self.owed[key] = session

        self._barrier.when_durable(give, CarefulLeases(key, careful))

    def _tell_when_durable(self, news: list[TaskChanged]) -> None:
        self._barrier.when_durable(lambda: self._tell(news))

    def _tell(self, news: list[TaskChanged]) -> None:
        owner: bytes | None = None
        session: Session | None = None
        for changed in news:
            if changed.owner != owner or session is None:
                owner = changed.owner
                session = None if owner is None else self._sessions.get(owner)
                if session is None:
                    continue
            session.outbox.put(changed.event)
            if session.outbox.is_overfull:
                self.overfull[session.key] = session
            self.owed[session.key] = session

    def _pass_when_durable(self, owner: bytes | None, value: StreamValue) -> None:
        """In one queue with the news, so that the end stays behind the values."""
        if owner is not None:
            self._barrier.when_durable(lambda: self._pass_value(owner, value))

    def _pass_value(self, owner: bytes, value: StreamValue) -> None:
        session = self._sessions.get(owner)
        if session is not None:
            session.outbox.put_value(value)
            self.owed[owner] = session

    def _call_back_when_durable(self, callback: Callback, event: TaskEvent) -> None:
        self._barrier.when_durable(
            lambda: self._turn.commands.append(CallBack(callback, event))
        )

    def check(self) -> None:
        """Assert every invariant."""
        for key, session in self._sessions.items():
            assert (session.parked is not None) == (key in self._parking(session))
        assert self.overfull.keys() <= self._sessions.keys()
        for key, session in [*self._parked_leases.items(), *self._parked_polls.items()]:
            assert key in self._sessions
            has_news = len(session.handout) or len(session.outbox)
            assert not has_news or key in self.owed, f"{session} would wait for ever"
