"""Everything that submits: the calls of a client, with the options that they share.

A :class:`Client` is one, with no options; ``client.options(...)`` makes others.
"""

from __future__ import annotations

import abc
import math
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
)
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

import anyio

from fastworker._call_settings import CallSettings, WhenFull
from fastworker._client_callback import make_callback
from fastworker._core._client_events import TaskTimedOut
from fastworker._core._messages import Callback, TaskSpec
from fastworker._errors import ControlPlaneUnreachable, NotEncodable, PayloadTooLarge
from fastworker._lanes._context import current_attempt, waiting_for_others
from fastworker._models import TaskPriority, TaskResult
from fastworker._outcomes import late_result, result_of
from fastworker._task_group import OnError, TaskGroup, open_task_group
from fastworker._task_handle import TaskHandle
from fastworker._task_map import Values, open_map
from fastworker._task_stream import Stream, open_stream

if TYPE_CHECKING:
    from fastworker._client import Client

P = ParamSpec("P")
T = TypeVar("T")


class Submitter(abc.ABC):
    """See the module's first lines."""

    _settings = CallSettings()

    @property
    @abc.abstractmethod
    def _client(self) -> Client:
        """The client that the calls go through."""

    def options(
        self,
        *,
        priority: TaskPriority | int | str | None = None,
        timeout: float | None = None,
        grace: float | None = None,
        expires: float | None = None,
        max_retries: int | None = None,
        retry_delay: float | None = None,
        backoff: float | None = None,
        max_delay: float | None = None,
        jitter: float | None = None,
        buffer: int | None = None,
        idempotency_key: str | None = None,
        idempotency_ttl: float | None = None,
        task_id: str | None = None,
        when_full: WhenFull | None = None,
    ) -> ClientWithOptions:
        """Make a view of this client whose calls want some things otherwise.

        ``await client.options(priority="high", max_retries=3).submit(add, 1, 2)``.
        What is not given stays as it is here, or as the function's ``@task`` says.

        Args:
          priority: of its tasks; a ``priority=`` in a call goes before.
          timeout: seconds that one attempt may run.
          grace: seconds that an attempt gets to end once it is asked to stop.
          expires: seconds from the call in which the task must have started;
            later it is EXPIRED, and never runs.
          max_retries, retry_delay, backoff, max_delay, jitter: as in ``@task``.
          buffer: of :meth:`stream`: how many values its task may be ahead of
            the reader, 1 to 10,000, by default 32.
          idempotency_key: a text that stands for one task: to submit again under it
            is to submit the same task, wherever, and to get its one outcome.
            With other arguments it is a Conflict. Not for groups, maps and streams.
          idempotency_ttl: seconds from the first submit in which the key counts, by
            default a day. After that, and once its task has ended, it is free.
          task_id: the id that the task is to have, which is then its key.
          when_full: "wait": a submit to a queue that is full waits for room, inside
            the scopes of its caller, instead of raising QueueFull; ``submit_task``
            no longer than the client's ``timeout``.

        Raises:
          ValueError: a value cannot be used.
        """
        settings = self._settings.changed(
            priority=None if priority is None else TaskPriority.parse(priority),
            timeout=timeout,
            grace=grace,
            expires=expires,
            max_retries=max_retries,
            retry_delay=retry_delay,
            backoff=backoff,
            max_delay=max_delay,
            jitter=jitter,
            buffer=buffer,
            idempotency_key=idempotency_key,
            idempotency_ttl=idempotency_ttl,
            task_id=task_id,
            when_full=when_full,
        )
        return ClientWithOptions(self._client, settings)

    # --- submitting ---

    @overload
    async def delay(
        self,
        task_name: str,
        *args: Any,
        priority: TaskPriority | int | str = TaskPriority.NORMAL,
        **kwargs: Any,
    ) -> str: ...

    @overload
    async def delay(
        self, task_name: Callable[P, Any], *args: P.args, **kwargs: P.kwargs
    ) -> str: ...

    async def delay(self, task_name: Any, *args: Any, **kwargs: Any) -> str:
        """Submit a task and return its id as soon as the control plane has it.

        Args:
          task_name: a task's name, or a function that ``@task`` registered.
          priority: with a name only; a function gets all keywords itself.

        Raises:
          UnknownTask: no worker knows the name.
          NotEncodable: an argument cannot travel. Nothing was sent.
          PayloadTooLarge: the arguments are larger than 16 MiB. Nothing was sent.
          QueueFull: the control plane holds as many tasks as it may.
          StoreUnavailable: the control plane cannot write its store now.
          Conflict: another task has this id, or this idempotency key.
          ControlPlaneUnreachable: nobody acknowledged within ``timeout`` seconds
            or ``retries`` lost sessions. The task may have been queued.
          ClientClosed, ClientBroken, ForkedClient: the client cannot be used.

        Cancellation:
          If it raises ``Cancelled``, the task is taken back: it was never
          sent, or it is cancelled as soon as the control plane hears of it. Of
          a task that has a key others may want it, and this call only leaves it.
        """
        chosen = self._with_priority(task_name, kwargs)
        # What _delay() does, without a coroutine more for each of thousands of callers.
        spec = chosen._detached(task_name, args, kwargs, None)
        self._check_in_time(await chosen._hand_in(spec))
        return spec.id

    def _detached(
        self,
        task_name: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        callback: Callback | None,
    ) -> TaskSpec:
        """A task for which nobody waits; all keywords are its own."""
        client = self._client
        client._usable_session()  # first of all: it says what is wrong
        return client._spec(task_name, args, kwargs, self._settings, callback, attached=False)

    async def _delay(
        self,
        task_name: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        callback: Callback | None,
    ) -> str:
        """As :meth:`delay`, perhaps with a callback; all keywords are the task's own."""
        spec = self._detached(task_name, args, kwargs, callback)
        self._check_in_time(await self._hand_in(spec))
        return spec.id

    def _with_priority(self, task: Any, kwargs: dict[str, Any]) -> Submitter:
        """Take ``priority`` out of the keywords of a call by name."""
        if isinstance(task, str) and "priority" in kwargs:
            return self.options(priority=kwargs.pop("priority"))
        return self

    @overload
    async def delay_with_callback(
        self,
        task_name: str,
        callback_address: str,
        *args: Any,
        callback_data: dict[str, Any] | None = None,
        priority: TaskPriority | int | str = TaskPriority.NORMAL,
        **kwargs: Any,
    ) -> str: ...

    @overload
    async def delay_with_callback(
        self,
        task_name: Callable[P, Any],
        callback_address: str,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> str: ...

    async def delay_with_callback(
        self, task_name: Any, callback_address: str, *args: Any, **kwargs: Any
    ) -> str:
        """Submit a task as :meth:`delay` does; its end is told to an address.

        The control plane sends one JSON object to the Pair0 socket that
        listens there, at least once: see docs/callbacks.md.

        Args:
          task_name: a task's name, or a function that ``@task`` registered.
          callback_address: ``tcp://host:port``, as the control plane sees it.
          callback_data: goes along as JSON, whatever the client's format; with
            a name only. A function gets all keywords itself.
          priority: with a name only.

        Raises:
          ConfigurationError: the address cannot be one, or the control plane does not
            send callbacks there; the message says how it would.
          NotEncodable: an argument or ``callback_data`` cannot travel. Nothing
            was sent.
          PayloadTooLarge: the arguments are larger than 16 MiB, or
            ``callback_data`` than 256 KiB. Nothing was sent.
          everything else: as for :meth:`delay`.

        Cancellation:
          As for :meth:`delay`. The callback tells of a task that was taken
          back, too, if the control plane had it.
        """
        data = kwargs.pop("callback_data", None) if isinstance(task_name, str) else None
        callback = make_callback(callback_address, data, self._client._new_task_id())
        chosen = self._with_priority(task_name, kwargs)
        return await chosen._delay(task_name, args, kwargs, callback)

    async def submit_task(
        self,
        task_name: str | Callable[..., Any],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        priority: TaskPriority | int | str | None = None,
    ) -> TaskResult:
        """Submit a task and wait for its outcome, at most ``timeout`` seconds.

        Returns:
          The outcome; look at ``status``. When the time is over, it is
          FAILURE with an ``error`` that says where the task was then, and the
          task is cancelled. A deadline around the call is one for the task, unless
          that has a key: then others may want it, and this call only leaves it.

        Raises:
          UnknownTask, NotEncodable, PayloadTooLarge, QueueFull, StoreUnavailable,
          Conflict, ControlPlaneUnreachable, ClientClosed, ClientBroken,
          ForkedClient: as for :meth:`delay`.

        Cancellation:
          If it raises ``Cancelled``, the task is taken back: it was never
          sent, or it is cancelled as soon as the control plane hears of it,
          also if that is out of reach now. This is waited for, one second at
          most. One that was running may end all the same; nobody hears of it.
        """
        client = self._client
        session = client._usable_session()
        settings = self._settings
        if priority is not None:
            settings = settings.changed(priority=TaskPriority.parse(priority))
        spec = client._spec(task_name, tuple(args), kwargs or {}, settings, attached=True)
        with waiting_for_others():
            outcome = await session.submissions.submit(
                spec,
                wants_outcome=True,
                within=client.timeout,
                waits_for_room=settings.when_full == "wait",
                expires_at=self._expires_at(session.clock),
                # Not the timeout: when that is over, this call cancels the task.
                budget_at=min(
                    anyio.current_effective_deadline(), _parent_deadline(session.clock)
                ),
            )
        if isinstance(outcome, TaskTimedOut):
            return late_result(outcome, client.timeout)
        assert outcome is not None
        return result_of(outcome, client.serialization_format)

    @overload
    async def submit(
        self, task: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs
    ) -> TaskHandle[T]: ...

    @overload
    async def submit(
        self, task: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> TaskHandle[T]: ...

    @overload
    async def submit(self, task: str, *args: Any, **kwargs: Any) -> TaskHandle[Any]: ...

    async def submit(self, task: Any, *args: Any, **kwargs: Any) -> TaskHandle[Any]:
        """Submit a task and return a handle as soon as the control plane has it.

        All arguments are the task's; priority and the like are
        :meth:`options`. The task is cancelled if this client is gone for 30 s.

        Args:
          task: a function that ``@task`` registered, or a task's name.

        Raises, Cancellation:
          As for :meth:`delay`.
        """
        return await self._submit(task, args, kwargs)

    async def _submit(
        self,
        task: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        budget_at: float = math.inf,
        on_end: Callable[[str], None] | None = None,
        on_taken_back: Callable[[TaskHandle[Any]], None] | None = None,
    ) -> TaskHandle[Any]:
        """As :meth:`submit`.

        Args:
          budget_at: when it must have ended, on the loop's clock.
          on_end: called with its id as soon as it has ended.
          on_taken_back: called if this raises and the task is still to be stopped.
        """
        client = self._client
        session = client._usable_session()
        state = client._state
        spec = client._spec(task, args, kwargs, self._settings, attached=True)

        def handle() -> TaskHandle[Any]:
            watch = session.watches.watch(spec.id, on_end)
            accepted = client.serialization_format
            shared = session.shared_tasks.get(spec.id)
            return TaskHandle(spec.id, spec.name, session, state, accepted, watch, shared)

        try:
            self._check_in_time(await self._hand_in(spec, budget_at=budget_at))
        except BaseException:
            if on_taken_back is not None and state.holds(spec.id):
                on_taken_back(handle())
            raise
        return handle()

    def _submit_all(
        self,
        task: Any,
        items: Iterable[Any],
        *,
        budget_at: float,
        on_end: Callable[[str], None],
        on_late: Callable[[ControlPlaneUnreachable], None],
    ) -> Iterator[TaskHandle[Any]]:
        """Submit a task for each item, its one argument, and wait for nothing.

        Args:
          budget_at: when they must have ended, on the loop's clock.
          on_end: called with the id of each as soon as it has ended, or was refused.
          on_late: called for each that was not acknowledged in time; it ends as well.

        Raises:
          what :meth:`submit` raises before it sends anything; if that is about an
          item, those before it are submitted.
        """
        client = self._client
        session = client._usable_session()
        waits_for_room = self._settings.when_full == "wait"
        specs: list[TaskSpec] = []
        error: Exception | None = None
        try:
            for spec in client._specs(task, items, self._settings):
                specs.append(spec)
        except (NotEncodable, PayloadTooLarge) as raised:
            error = raised
        watches = session.submissions.submit_all(
            specs,
            on_end,
            lambda: on_late(client._not_acknowledged()),
            within=math.inf if waits_for_room else client.timeout,
            waits_for_room=waits_for_room,
            expires_at=self._expires_at(session.clock),
            budget_at=min(budget_at, _parent_deadline(session.clock)),
        )
        accepted, state = client.serialization_format, client._state
        for spec, watch in zip(specs, watches, strict=True):
            yield TaskHandle(spec.id, spec.name, session, state, accepted, watch)
        if error is not None:
            raise error

    async def _submit_stream(
        self, task: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Stream[Any]:
        client = self._client
        session = client._usable_session()
        spec = client._spec(task, args, kwargs, self._settings, attached=True, is_stream=True)
        stream: Stream[Any] = Stream(spec.id, spec.name, session, client.serialization_format)
        # Before it is sent: values may come together with the acknowledgement.
        session.read_stream(spec.id, stream._take)
        try:
            budget_at = anyio.current_effective_deadline()
            self._check_in_time(await self._hand_in(spec, budget_at=budget_at))
        except BaseException:
            session.leave_stream(spec.id)
            raise
        stream._watch = session.watches.watch(spec.id, lambda _: stream._signal())
        return stream

    def _hand_in(
        self, spec: TaskSpec, *, budget_at: float = math.inf
    ) -> Coroutine[Any, Any, object]:
        """Hand in a task and wait until the control plane has it; see _check_in_time.

        No coroutine of its own: each is one more object for whoever waits.

        Args:
          spec: the task.
          budget_at: when it must have ended, on the loop's clock; or before, with the
            task that this runs in.
        """
        client = self._client
        session = client._usable_session()
        waits_for_room = self._settings.when_full == "wait"
        return session.submissions.submit(
            spec,
            wants_outcome=False,
            # For room it waits as long as its caller does.
            within=math.inf if waits_for_room else client.timeout,
            waits_for_room=waits_for_room,
            expires_at=self._expires_at(session.clock),
            budget_at=min(budget_at, _parent_deadline(session.clock)),
        )

    def _check_in_time(self, late: object) -> None:
        """Raise if what has become of a hand-in is that nobody acknowledged it."""
        if late is not None:
            raise self._client._not_acknowledged()

    def _expires_at(self, clock: Callable[[], float]) -> float:
        expires = self._settings.expires
        return math.inf if expires is None else clock() + expires

    # --- many ---

    def open_task_group(
        self,
        *,
        max_in_flight: int = 64,
        on_error: OnError = "cancel",
        first: int | None = None,
    ) -> AbstractAsyncContextManager[TaskGroup]:
        """Open a block that ends when none of its tasks runs anywhere any more.

        ``async with client.open_task_group() as group: await group.submit(add, 1, 2)``.
        A deadline around the block is a deadline for its tasks.

        Args:
          max_in_flight: how many tasks may be under way; ``submit`` waits beyond.
          on_error: "cancel": the first failure cancels the other tasks, on
            every machine, and the body. "collect": nothing happens, and each
            handle says what became of it.
          first: leave as soon as so many have succeeded; the rest is cancelled.

        Raises:
          ExceptionGroup: with the failures, and with the body's error if it had
            one: when the block is left.
          ValueError: a value cannot be used.

        Cancellation:
          All tasks under way are cancelled, and the block is left when each has
          its outcome: bounded by its grace and the lease of its worker, 30 s.
        """
        self._settings.check_many("open_task_group")
        return open_task_group(
            self, max_in_flight=max_in_flight, on_error=on_error, first=first
        )

    @overload
    def map(
        self,
        task: Callable[[Any], Coroutine[Any, Any, T]],
        items: Iterable[Any] | AsyncIterable[Any],
        *,
        max_in_flight: int = 64,
        ordered: bool = True,
        on_error: OnError = "cancel",
    ) -> AbstractAsyncContextManager[Values[T]]: ...

    @overload
    def map(
        self,
        task: Callable[[Any], T],
        items: Iterable[Any] | AsyncIterable[Any],
        *,
        max_in_flight: int = 64,
        ordered: bool = True,
        on_error: OnError = "cancel",
    ) -> AbstractAsyncContextManager[Values[T]]: ...

    @overload
    def map(
        self,
        task: str,
        items: Iterable[Any] | AsyncIterable[Any],
        *,
        max_in_flight: int = 64,
        ordered: bool = True,
        on_error: OnError = "cancel",
    ) -> AbstractAsyncContextManager[Values[Any]]: ...

    def map(
        self,
        task: Any,
        items: Iterable[Any] | AsyncIterable[Any],
        *,
        max_in_flight: int = 64,
        ordered: bool = True,
        on_error: OnError = "cancel",
    ) -> AbstractAsyncContextManager[Values[Any]]:
        """Run a task for each item, so many at a time, and give their values.

        ``async with client.map(score, names) as scores: async for s in scores: ...``.
        Items are taken as places become free, so there may be any number of
        them. Leaving the block early cancels what is under way. A reader that
        is slow makes the submitting wait; so does, if ``ordered``, one slow
        task, once ``max_in_flight`` values wait behind it.

        Args:
          task: a function that ``@task`` registered, or a task's name; each item
            is its one argument.
          items: may be an async iterable.
          max_in_flight: how many tasks may be under way, or ended with a value
            that was not taken yet: both together.
          ordered: give values in the order of the items; else as they come.
          on_error: "cancel": the first failure cancels the rest and comes out of
            the block. "collect": it is raised where its value would be given.

        Raises, Cancellation:
          As for :meth:`open_task_group`.
        """
        self._settings.check_many("map")
        return open_map(
            self,
            task,
            items,
            max_in_flight=max_in_flight,
            ordered=ordered,
            on_error=on_error,
        )

    # --- streams ---

    @overload
    def stream(
        self, task: Callable[P, AsyncIterator[T]], *args: P.args, **kwargs: P.kwargs
    ) -> AbstractAsyncContextManager[Stream[T]]: ...

    @overload
    def stream(
        self, task: Callable[P, Iterator[T]], *args: P.args, **kwargs: P.kwargs
    ) -> AbstractAsyncContextManager[Stream[T]]: ...

    @overload
    def stream(
        self, task: str, *args: Any, **kwargs: Any
    ) -> AbstractAsyncContextManager[Stream[Any]]: ...

    def stream(
        self, task: Any, *args: Any, **kwargs: Any
    ) -> AbstractAsyncContextManager[Stream[Any]]:
        """Run a generator task and read its values one by one, as it yields them.

        ``async with client.stream(count, 3) as values: async for v in values: ...``.
        The task waits while ``options(buffer=...)`` values, or 8 MiB of them,
        have not been read. A deadline around the block is one for the task.

        Args:
          task: a function with ``yield`` that ``@task`` registered, or its name.
            All other arguments are the task's.

        Raises:
          TypeError: the function is no generator function. Nothing was sent.
          everything else: as for :meth:`submit`, when the block is entered.

        Cancellation:
          However the block is left, its task is cancelled if it has not ended,
          and the block waits until its ``finally`` has run: bounded by its
          grace and the lease of its worker, 30 s.
        """
        self._settings.check_many("stream")
        return open_stream(self, task, args, kwargs)


class ClientWithOptions(Submitter):
    """The submitting calls of a client, with options. See :meth:`Client.options`."""

    def __init__(self, client: Client, settings: CallSettings) -> None:
        self._owner = client
        self._settings = settings

    def __repr__(self) -> str:
        return f"<{self._owner!r} with {self._settings}>"

    @property
    def _client(self) -> Client:
        return self._owner


def _parent_deadline(clock: Callable[[], float]) -> float:
    """The deadline of the task that this code belongs to, on the loop's clock."""
    current = current_attempt.get()
    return math.inf if current is None else clock() + current.time_left()


def parent_id() -> str:
    """The id of the task that this code belongs to, empty outside of one."""
    current = current_attempt.get()
    return "" if current is None else current.key.task_id
