"""Changes of tasks, anybody's, as a program hears of them while they happen."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import anyio
import msgspec

from fastworker._client_call import Call
from fastworker._client_session import ClientSession
from fastworker._core._event_messages import (
    MAX_FILTER_NAMES,
    MAX_INTERVAL_MS,
    MAX_KEPT_EVENTS,
    EventFilter,
    EventsAsked,
    EventsReply,
)
from fastworker._core._messages import is_name
from fastworker._core._stored import StoredState, TaskRow
from fastworker._errors import ClientBroken, ClientClosed, LocalProtocolError
from fastworker._lanes._context import waiting_for_others
from fastworker._models import TaskChange, TaskPriority, TaskStatus

if TYPE_CHECKING:
    from fastworker._client import Client
    from fastworker._registry import Registry

T = TypeVar("T")
OneOrMore: TypeAlias = Iterable[T] | T

STATES_OF: Final = {
    TaskStatus.PENDING: (StoredState.QUEUED, StoredState.LEASED, StoredState.RETRYING),
    TaskStatus.STARTED: (StoredState.STARTED,),
    TaskStatus.SUCCESS: (StoredState.SUCCESS,),
    TaskStatus.FAILURE: (StoredState.FAILURE,),
    TaskStatus.CANCELLED: (StoredState.CANCELLED,),
    TaskStatus.EXPIRED: (StoredState.EXPIRED,),
}
_STATUS_OF: Final = {state: status for status, states in STATES_OF.items() for state in states}


class EventStream:
    """Changes of tasks, while they happen. Made by :meth:`Client.events`.

    An async iterator of :class:`TaskChange`, for one reader. It never holds up a task:
    what is not read in time is dropped, the oldest first, and counted.

    Attributes:
      dropped: how many changes were dropped before the one that was read last.
      interruptions: how often the control plane knew nothing of this stream any more,
        because it was started again or out of reach for long. What happened meanwhile is
        not told, and nobody knows how much that was.
    """

    def __init__(self, session: ClientSession, asked: EventsAsked) -> None:
        self.dropped = 0
        self.interruptions = 0
        self._session = session
        self._asked = asked
        self._call: Call | None = None  # that is under way
        self._rows: deque[TaskRow] = deque()
        self._is_reading = False
        self._is_left = False

    def __repr__(self) -> str:
        state = "left" if self._is_left else f"{len(self._rows)} changes wait"
        return f"<EventStream: {state}, {self.dropped} dropped>"

    def __aiter__(self) -> AsyncIterator[TaskChange]:
        return self

    async def __anext__(self) -> TaskChange:
        """Wait for the next change; never ends by itself.

        Raises:
          as :meth:`read`.

        Cancellation:
          Always a checkpoint. No change is lost.
        """
        while not self._rows:
            self._rows.extend(await self._read_rows())
        await anyio.lowlevel.checkpoint()
        return change_of(self._rows.popleft())

    async def read(self) -> list[TaskChange]:
        """Wait for what is new, and return all of it.

        Returns:
          The changes in their order; none if this is to tell of an interruption.

        Raises:
          LinkBroken: the control plane was started again, and has too many listeners.
          ClientClosed, ClientBroken: the client has ended.
          LocalProtocolError: the block of the stream has been left, or somebody else
            reads this stream.

        Cancellation:
          Always a checkpoint. No change is lost.
        """
        if not self._rows:
            return list(map(change_of, await self._read_rows()))
        await anyio.lowlevel.checkpoint()
        changes = list(map(change_of, self._rows))
        self._rows.clear()
        return changes

    async def _read_rows(self) -> list[TaskRow]:
        """Wait for what is new, past what was fetched before; raises as :meth:`read`."""
        if self._is_left:
            await anyio.lowlevel.checkpoint()
            raise LocalProtocolError(f"the block of {self!r} has been left; read inside it")
        if self._is_reading:
            await anyio.lowlevel.checkpoint()
            raise LocalProtocolError(f"{self!r} has a reader; open another stream")
        self._is_reading = True
        interruptions = self.interruptions
        try:
            while True:
                with waiting_for_others():
                    reply = await self._hear()
                if reply.generation != self._asked.generation:
                    self.interruptions += 1
                rows = self._take(reply)
                if rows or self.interruptions > interruptions:
                    return rows
        finally:
            self._is_reading = False

    async def _begin(self) -> None:
        self._take(await self._hear())

    async def _hear(self) -> EventsReply:
        """Wait for the next answer. Who is cancelled here waits for the same one later."""
        if self._call is None:
            self._call = self._session.questions.listen(self._asked)
        await self._call.wait()
        call, self._call = self._call, None
        return self._session.questions.heard(call)

    def _ask_on(self) -> None:
        """Have a question out at any time: it makes a new control plane know this stream."""
        try:
            self._call = self._session.questions.listen(self._asked)
        except (ClientClosed, ClientBroken):
            pass  # the next to read hears of it

    def _leave(self) -> None:
        self._is_left = True
        self._rows.clear()
        self._session.questions.close_subscription(self._asked.number, self._call)

    def _take(self, reply: EventsReply) -> list[TaskRow]:
        self._asked = msgspec.structs.replace(
            self._asked, cursor=reply.cursor, generation=reply.generation
        )
        self.dropped += reply.dropped
        self._ask_on()
        return reply.events


def change_of(row: TaskRow) -> TaskChange:
    """What a row says, as users hold it."""
    return TaskChange(
        task_id=row.task_id,
        name=row.name,
        status=_STATUS_OF[row.state],
        state=row.state.name.lower(),
        priority=TaskPriority(row.priority),
        number=row.sequence,
        created_at=_moment(row.created),
        changed_at=_moment(row.changed),
        started_at=_moment(row.started) if row.started else None,
        worker_id=row.worker or None,
        attempts=row.attempts,
        error=row.error or None,
        cancel_requested=row.is_cancel_requested,
    )


def _moment(wall: float) -> datetime:
    return datetime.fromtimestamp(wall, UTC)


@asynccontextmanager
async def open_events(client: Client, asked: EventsAsked) -> AsyncIterator[EventStream]:
    """See :meth:`Client.events`."""
    session = client._usable_session()
    asked = msgspec.structs.replace(asked, number=session.questions.open_subscription())
    stream = EventStream(session, asked)
    try:
        await client._in_time(stream._begin())
        yield stream
    finally:
        stream._leave()


def wanted_events(
    registry: Registry,
    statuses: OneOrMore[TaskStatus | str],
    names: OneOrMore[str | Callable[..., Any]],
    worker: str | None,
    task_ids: OneOrMore[str],
    priorities: OneOrMore[TaskPriority | int | str],
    max_buffered: int,
    min_interval: float,
) -> EventsAsked:
    """Check what is wanted.

    Raises:
      ValueError: a value cannot be used. The message shows it.
    """
    states = [state for status in _each(statuses) for state in STATES_OF[_status(status)]]
    if not 1 <= max_buffered <= MAX_KEPT_EVENTS:
        raise ValueError(f"max_buffered={max_buffered!r}: use 1 to {MAX_KEPT_EVENTS:,}")
    if not 0 <= min_interval <= MAX_INTERVAL_MS / 1000:
        raise ValueError(
            f"min_interval={min_interval!r}: use 0 to {MAX_INTERVAL_MS // 1000} seconds"
        )
    wanted = EventFilter(
        states=list(dict.fromkeys(states)),
        names=_texts(
            "names", [n if isinstance(n, str) else registry.name_of(n) for n in _each(names)]
        ),
        worker="" if worker is None else _texts("worker", [worker])[0],
        task_ids=_texts("task_ids", _each(task_ids)),
        priorities=[int(p) for p in dict.fromkeys(map(TaskPriority.parse, _each(priorities)))],
    )
    return EventsAsked(
        0, filter=wanted, max_kept=max_buffered, interval=math.ceil(min_interval * 1000)
    )


def _each(values: Any) -> list[Any]:
    """One value, or several of them."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        return [values]
    return list(values)


def _status(value: TaskStatus | str) -> TaskStatus:
    try:
        return TaskStatus(value.strip().lower() if isinstance(value, str) else value)
    except ValueError:
        names = ", ".join(repr(status.value) for status in TaskStatus)
        raise ValueError(f"status {value!r}: use a TaskStatus, or {names}") from None


def _texts(what: str, values: list[str]) -> list[str]:
    texts = list(dict.fromkeys(values))
    if len(texts) > MAX_FILTER_NAMES:
        raise ValueError(
            f"{what}: {len(texts):,} are too many; use {MAX_FILTER_NAMES:,} at most"
        )
    for text in texts:
        if not is_name(text):
            raise ValueError(f"{what}: {text!r:.80}: use a text of 1 to 256 characters")
    return texts
