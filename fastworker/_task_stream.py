"""The values of a generator task, as its client reads them: one by one, while it runs."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import anyio

from fastworker._client_session import ClientSession
from fastworker._client_watch import Watch
from fastworker._core._messages import StreamValue
from fastworker._errors import ClientBroken, ClientClosed, LocalProtocolError, ResultExpired
from fastworker._lanes._context import waiting_for_others
from fastworker._models import SerializationFormat
from fastworker._outcomes import decode_value, error_of, result_of

if TYPE_CHECKING:
    from fastworker._submitter import Submitter

T = TypeVar("T")


class Stream(Generic[T]):
    """The values of one generator task. Made by :meth:`Client.stream`.

    An async iterator for one reader. ``id`` and ``name`` are the task's.
    """

    _watch: Watch  # set before anybody sees this

    def __init__(
        self, task_id: str, name: str, session: ClientSession, accepted: SerializationFormat
    ) -> None:
        self.id = task_id
        self.name = name
        self._session = session
        self._accepted = accepted
        self._values: deque[StreamValue] = deque()
        self._changed = anyio.Event()
        self._is_over = False  # the end, or an error, was given
        self._is_left = False

    def __repr__(self) -> str:
        state = "left" if self._is_left else f"{len(self._values)} values wait"
        return f"<Stream {self.id} of {self.name!r}: {state}>"

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        """Wait for the next value.

        Raises:
          TaskFailed: the generator raised, after the values before this.
          TaskTimedOut, TaskCancelled, TaskExpired, TaskLost: it was ended. One
            whose worker is lost is not run again once it had given a value.
          ResultExpired: this client was out of reach, and too much had come for
            it meanwhile; the rest of the stream is of no use.
          NotDecodable: the value is in a format that this client does not accept.
          ClientClosed, ClientBroken: the client has ended.
          LocalProtocolError: the block of the stream has been left.

        Cancellation:
          Always a checkpoint. No value is lost.
        """
        await anyio.lowlevel.checkpoint()
        if self._is_left:
            raise LocalProtocolError(f"the block of {self!r} has been left; read inside it")
        if not (self._values or self._is_over or self._watch.is_set()):
            with waiting_for_others():
                while not (self._values or self._watch.is_set()):
                    self._changed = anyio.Event()
                    await self._changed.wait()
        if self._is_over:
            raise StopAsyncIteration
        if not self._values:
            self._is_over = True
            self._raise_end()
        value = self._values.popleft()
        self._session.note_read(self.id, value.size)
        if value.value_dropped:
            self._is_over = True
            message = (
                f"value {value.index} of {self.name!r} could not be kept until it was fetched"
            )
            raise ResultExpired(message, task_id=self.id)
        return cast(T, decode_value(value, self._accepted))

    def _raise_end(self) -> None:
        if self._watch.error is not None:
            raise self._watch.error
        event = self._watch.event
        assert event is not None
        error = error_of(result_of(event, self._accepted, with_value=False), event.ending)
        if error is not None:
            raise error
        raise StopAsyncIteration

    def _take(self, value: StreamValue) -> None:
        """The next value has come. Called in the loop, by the session."""
        self._values.append(value)
        self._changed.set()

    def _signal(self) -> None:
        self._changed.set()

    async def _leave(self) -> None:
        """Cancel the task if it has not ended, and wait until it has."""
        self._is_left = True
        self._session.leave_stream(self.id)
        self._values.clear()
        if self._watch.is_set():
            return
        with anyio.CancelScope(shield=True), waiting_for_others():
            try:
                watch = self._session.cancels.request(self.id)
            except (ClientClosed, ClientBroken):
                return  # nobody is left who would tell
            await self._session.cancels.wait_stopped(watch)


@asynccontextmanager
async def open_stream(
    submitter: Submitter,
    task: str | Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> AsyncIterator[Stream[Any]]:
    """See :meth:`Client.stream`."""
    stream = await submitter._submit_stream(task, args, kwargs)
    try:
        yield stream
    finally:
        await stream._leave()
