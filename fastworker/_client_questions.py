"""What callers of a client ask the control plane, and their subscriptions to events.

A subscription is a question that is asked again and again, and waits for its answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from fastworker._client_call import Call
from fastworker._client_life import SessionLife
from fastworker._core._client_events import (
    QUESTIONS,
    ClientEvent,
    QueryAbandoned,
    QueryAnswered,
    QueryMade,
    Question,
    QuestionAnswered,
    QuestionAsked,
)
from fastworker._core._event_messages import EventsAsked, EventsReply
from fastworker._core._feed import MAX_SUBSCRIPTIONS_OF_A_SESSION
from fastworker._core._messages import Kind, TaskEvent
from fastworker._errors import FastWorkerError, LinkBroken, LocalProtocolError

R = TypeVar("R")


class Questions:
    """See the module's first lines.

    Args:
      life: of the session.
      address: where the control plane is looked for.
      apply: has the machine apply an event.
      wake: has what comes of that sent.
    """

    def __init__(
        self,
        life: SessionLife,
        address: str,
        apply: Callable[[ClientEvent], None],
        wake: Callable[[], None],
    ) -> None:
        self._life = life
        self._address = address
        self._apply = apply
        self._wake = wake
        self._calls: dict[int, Call] = {}
        self._count = 0
        self._listener_count = 0  # in all; names the subscriptions
        self._listeners = 0  # that are open

    def __len__(self) -> int:
        """How many answers somebody waits for."""
        return len(self._calls)

    async def query(self, task_id: str) -> TaskEvent:
        """Ask the control plane for a task.

        Raises:
          what the session has ended with.
        """
        call = await self._ask(lambda query_id: QueryMade(query_id, task_id))
        assert call.answer is not None
        return call.answer

    async def ask(self, question: Question, reply_type: type[R]) -> R:
        """Ask the control plane something about itself, or to do something.

        Raises:
          NotPermitted: it is for operators.
          or what the session has ended with.
        """
        self._life.check_permitted(QUESTIONS[type(question)][0])
        call = await self._ask(lambda query_id: QuestionAsked(query_id, question))
        assert isinstance(call.reply, reply_type)
        return call.reply

    # --- subscriptions ---

    def open_subscription(self) -> int:
        """Return a number for a subscription to events, until :meth:`close_subscription`.

        Raises:
          LocalProtocolError: too many are open.
          NotPermitted: they are for operators.
          or what the session has ended with.
        """
        self._life.check_open()
        self._life.check_permitted(Kind.EVENTS)
        if self._listeners >= MAX_SUBSCRIPTIONS_OF_A_SESSION:
            raise LocalProtocolError(
                f"this client has {self._listeners} streams of events open, which is the "
                f"limit; leave one, or use another client"
            )
        self._listeners += 1
        self._listener_count += 1
        return self._listener_count

    def listen(self, asked: EventsAsked) -> Call:
        """Ask for changes. The call may be waited for again and again; see :meth:`heard`.

        Raises:
          what the session has ended with.
        """
        self._life.check_open()
        return self._start(lambda query_id: QuestionAsked(query_id, asked))

    def heard(self, call: Call) -> EventsReply:
        """The answer to a call that is done.

        Raises:
          LinkBroken: the control plane refused the subscription.
          or what the session has ended with.
        """
        self._calls.pop(call.query_id, None)
        if call.error is not None:
            raise call.error
        assert isinstance(call.reply, EventsReply)
        if call.reply.problem:
            why = call.reply.problem
            raise LinkBroken(f"the control plane at {self._address} refused: {why}")
        return call.reply

    def close_subscription(self, number: int, call: Call | None) -> None:
        """Hear no more of it, and wait for this call no more. To be called once."""
        self._listeners -= 1
        if call is not None:
            self._calls.pop(call.query_id, None)
        if self._life.is_over:
            return
        if call is not None:
            self._apply(QueryAbandoned(call.query_id))
        # Nobody waits for the answer.
        self._count += 1
        self._apply(QuestionAsked(self._count, EventsAsked(number, ends=True)))
        self._wake()

    # --- answers ---

    def take_answer(self, answered: QueryAnswered | QuestionAnswered) -> None:
        """An answer has come, which somebody may still wait for."""
        call = self._calls.get(answered.query_id)
        if call is not None:
            if isinstance(answered, QueryAnswered):
                call.answer = answered.event
            else:
                call.reply = answered.answer
            call.set()

    def fail(self, make_error: Callable[[], FastWorkerError]) -> None:
        """No answer comes any more; every caller raises an error of its own."""
        for call in list(self._calls.values()):
            call.fail(make_error())

    async def _ask(self, make_event: Callable[[int], QueryMade | QuestionAsked]) -> Call:
        self._life.check_open()
        call = self._start(make_event)
        try:
            await call.wait()
        except BaseException:
            if not self._life.is_over:
                self._apply(QueryAbandoned(call.query_id))
            raise
        finally:
            del self._calls[call.query_id]
        if call.error is not None:
            raise call.error
        return call

    def _start(self, make_event: Callable[[int], QueryMade | QuestionAsked]) -> Call:
        self._count += 1
        call = self._calls[self._count] = Call()
        call.query_id = self._count
        self._apply(make_event(call.query_id))
        self._wake()
        return call
