"""The client: hands tasks to the control plane and waits for what becomes of them.

Written once, on anyio, so the same class runs under Trio and asyncio. All
decisions are the machine's (``_core/_client.py``); this shell wakes callers
and keeps the background work inside one task group.
"""

from __future__ import annotations

import math
import os
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

import anyio

from fastworker._authentication import CLIENT_ROLES, check_roles, prove_when_dialing
from fastworker._call_settings import CallSettings, check_grace
from fastworker._cancel_outcome import CancelOutcome, Lost, outcome_of
from fastworker._client_arguments import encode_bounded, name_of
from fastworker._client_host import Host, current_clock
from fastworker._client_operations import Operations
from fastworker._client_session import ClientSession
from fastworker._config import ClientConfig
from fastworker._core._client import ClientState, ClientStatistics
from fastworker._core._messages import (
    Callback,
    TaskSpec,
    WireStatus,
    is_name,
)
from fastworker._core._results import Results
from fastworker._credentials import Auth, resolve_auth
from fastworker._errors import (
    ClientBroken,
    ClientClosed,
    ControlPlaneUnreachable,
    ForkedClient,
    ResultExpired,
    TaskNotFound,
)
from fastworker._lanes._context import waiting_for_others
from fastworker._models import (
    SerializationFormat,
    TaskFunctionInfo,
    TaskPriority,
    TaskResult,
    TaskStatus,
)
from fastworker._outcomes import STATUSES, Absence, result_of
from fastworker._process_id import current_pid
from fastworker._registry import Registry, registry
from fastworker._serialization import FORMAT_IDS
from fastworker._submitter import Submitter, parent_id
from fastworker._task_events import EventStream, OneOrMore, open_events, wanted_events
from fastworker._task_ids import new_task_id
from fastworker._tls import Tls, resolve_tls, tls_context
from fastworker._transport._abc import Transport
from fastworker._transport._nng import NngTransport
from fastworker._unwrapped import unwrapped

P = ParamSpec("P")
T = TypeVar("T")


class Client(Submitter):
    """Submits tasks to a control plane and receives their outcomes.

    Use it as ``async with Client() as client``, or with :meth:`start` and
    :meth:`stop`, under Trio or asyncio. A client belongs to the event loop
    and the process it was started in; its methods are not thread-safe.

    A setting that is not given comes from its ``FASTWORKER_…`` variable, else
    it has its default; the attributes have what it has come to.

    Args:
      discovery_address: where the control plane is found, by default
        ``tcp://127.0.0.1:5550`` (``FASTWORKER_DISCOVERY_ADDRESS``).
      serialization_format: how arguments travel, by default JSON
        (``FASTWORKER_SERIALIZATION_FORMAT``).
      timeout: seconds, by default 30 (``FASTWORKER_TIMEOUT``): for how long
        :meth:`submit_task` waits for an outcome, and every other call for
        its answer.
      retries: by default 3 (``FASTWORKER_RETRIES``): how many lost sessions
        a submit survives that has not been acknowledged, before it raises
        ControlPlaneUnreachable.
      connect_timeout: seconds, by default 5 (``FASTWORKER_CONNECT_TIMEOUT``),
        that :meth:`start` looks for a control plane.
      auth: the token that both sides prove to know: :class:`AuthTokens`, the path
        of a file that has it, or of one for each role (``{"client": path}``); by
        default what ``FASTWORKER_AUTH_TOKEN_FILE`` or ``FASTWORKER_AUTH_TOKEN``
        says, and False for none. With one, no control plane without it is spoken to.
      tls: files for ``tls+tcp://`` addresses, with which both sides prove who they
        are; by default what the variables ``FASTWORKER_TLS_…`` say, and False for none.
      max_results, max_result_bytes: bounds of the local cache of outcomes.
      transport: makes the connection; NNG sockets if not given.
      registry: names the task functions that are passed instead of names.

    Raises:
      ConfigurationError: a value cannot be used.
    """

    def __init__(
        self,
        discovery_address: str | None = None,
        serialization_format: SerializationFormat | str | None = None,
        timeout: float | None = None,
        retries: int | None = None,
        *,
        connect_timeout: float | None = None,
        auth: Auth = None,
        tls: Tls = None,
        max_results: int = 10_000,
        max_result_bytes: int = 256 * 1024 * 1024,
        transport: Transport | None = None,
        registry: Registry = registry,
        new_task_id: Callable[[], str] = new_task_id,
        new_session_id: Callable[[], bytes] = lambda: secrets.token_bytes(16),
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._tokens = resolve_auth(auth, os.environ)
        check_roles(self._tokens, CLIENT_ROLES)
        settings = resolve_tls(tls if transport is None else False, os.environ)
        has_certificate = settings is not None and settings.cert is not None
        config = ClientConfig.resolve(
            os.environ,
            authenticated=self._tokens is not None or has_certificate,
            discovery_address=discovery_address,
            serialization_format=serialization_format,
            timeout=timeout,
            retries=retries,
            connect_timeout=connect_timeout,
        )
        self.discovery_address = config.discovery_address
        self.serialization_format = config.serialization_format
        self.timeout = config.timeout
        self.retries = config.retries
        self.connect_timeout = config.connect_timeout
        self._tls = (
            tls_context(settings, {"discovery_address": config.discovery}, listening=False)
            if transport is None
            else None
        )
        self._max_results = max_results
        self._max_result_bytes = max_result_bytes
        self._transport = transport
        self._registry = registry
        self._new_task_id = new_task_id
        self._new_session_id = new_session_id
        self._wall_clock = wall_clock
        self._outcomes = Results(max_size=max_results, ttl=math.inf, max_bytes=max_result_bytes)
        self._pid = 0
        self._state = self._new_state()
        self._session: ClientSession | None = None
        self._host: Host | None = None
        self._error: Exception | None = None

    def __repr__(self) -> str:
        state = "closed" if self._session is None else "open"
        if self._error is not None:
            state = "broken"
        return f"<Client of {self.discovery_address}: {state}>"

    @property
    def _client(self) -> Client:
        return self

    # --- life ---

    async def start(self) -> None:
        """Connect to the control plane; the work goes on in the background.

        Does nothing if the client is started already. It may be started again
        after :meth:`stop`.

        Raises:
          ControlPlaneUnreachable: none was found within ``connect_timeout``
            seconds. Nothing is left behind.
          LinkBroken: the control plane refused this client.
          AuthenticationError: one side did not prove who it is.
          ForkedClient: this is a fork of a process that had opened a client.
          ClientClosed: it was stopped meanwhile.
          ClientBroken: the background work failed, now or, if the client was
            started already, before.

        Cancellation:
          Always a checkpoint. If it raises ``Cancelled``, the client is not
          started and nothing is left behind.
        """
        if self._session is not None:
            self._usable_session()
            await anyio.lowlevel.checkpoint()
            return
        # First of all, so that a fork raises before it gives way to the copies
        # of the parent's tasks: they share its descriptors.
        session = self._open()
        host = self._host = Host(lambda: self._run_guarded(session))
        host.open()
        try:
            await session.life.wait_connected(self.connect_timeout)
        except BaseException:
            self._close("the client was not started")
            with anyio.CancelScope(shield=True):
                await host.end_now()
            raise

    def stop(self) -> None:
        """Stop the client and return at once; calls that wait raise ClientClosed.

        Outcomes that have arrived stay readable. Idempotent. The goodbye to
        the control plane is said in the background; :meth:`aclose` waits for it.
        """
        self._close("the client was stopped")

    async def aclose(self) -> None:
        """Stop the client and wait, about half a second at most, until it has ended.

        Cancellation:
          Always a checkpoint. If it raises ``Cancelled``, the client is
          stopped all the same; its background work ends by itself.
        """
        self.stop()
        await anyio.lowlevel.checkpoint()
        if self._host is not None and current_pid() == self._pid:
            await self._host.wait_ended()

    async def _wait_taken_back(self) -> None:
        """Wait until no task that a cancelled call has left may still start or run.

        Cancellation:
          Changes nothing.
        """
        session = self._session
        if session is not None:
            await session.cancels.wait_taken_back()

    async def __aenter__(self) -> Client:
        if self._session is not None:
            raise ClientClosed("the client is started already; stop it before 'async with'")
        session = self._open()
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        self._group.start_soon(self._run_guarded, session)
        try:
            await session.life.wait_connected(self.connect_timeout)
        except BaseException:
            self._close("the client was not started")
            self._group.cancel_scope.cancel()
            await self._group.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        # The background work never raises and so never cancels the body. What
        # the body raised is not the group's business: it goes on unwrapped.
        await self._group.__aexit__(None, None, None)

    async def _run_guarded(self, session: ClientSession) -> None:
        """Do the background work; should it fail, every call raises ClientBroken.

        Nothing may escape: in Trio's system nursery an error would end the
        whole program, and asyncio would mention it to nobody.
        """
        try:
            await self._run_session(session)
        except* Exception as errors:  # noqa: BLE001 - told to every caller
            self._break(session, unwrapped(errors))
        finally:
            # Its loop may have ended without a word to us; start() works again then.
            if self._session is session and self._error is None:
                self._session = None

    async def _run_session(self, session: ClientSession) -> None:
        await session.run()

    def _new_state(self) -> ClientState:
        return ClientState(
            new_session_id=self._new_session_id,
            retries=self.retries,
            label=f"client-{current_pid()}",
            outcomes=self._outcomes,
        )

    def _open(self) -> ClientSession:
        self._pid = current_pid()
        self._error = None
        self._state = self._new_state()

        def note_trouble(reason: str, is_final: bool) -> None:
            session.life.note_not_proved(reason, is_final=is_final)

        transport = prove_when_dialing(
            self._transport or NngTransport(self._tls, on_trouble=note_trouble),
            self._tokens,
            CLIENT_ROLES,
            note_trouble,
        )
        session = self._session = ClientSession(
            self._state, transport, self.discovery_address, current_clock()
        )
        return session

    def _close(self, reason: str) -> None:
        session, self._session = self._session, None
        # A forked child has a copy of the session and must leave it alone.
        if session is not None and current_pid() == self._pid:
            session.close(lambda: ClientClosed(reason))

    def _break(self, session: ClientSession, error: Exception) -> None:
        """The background work failed: every call raises from now on."""
        if session is self._session:
            self._error = error
        session.close(lambda: _broken(error))

    def _usable_session(self) -> ClientSession:
        session = self._session
        if session is None:
            raise ClientClosed(
                "the client is not started; use 'async with client' or 'await client.start()'"
            )
        if current_pid() != self._pid:
            raise ForkedClient(self._pid, current_pid())
        if self._error is not None:
            raise _broken(self._error)
        return session

    # --- cancelling and asking ---

    async def cancel(self, task_id: str, grace: float | None = None) -> CancelOutcome:
        """Have a task stopped, anybody's, and wait until it is known what came of it.

        Args:
          task_id: of a task that any client has submitted.
          grace: seconds that a running attempt gets to end; then a process is
            killed, and anything else is Abandoned. None is what its function,
            or its call, says.

        Returns:
          The truth: NeverStarted, Cancelled, Completed, Killed, Abandoned or
          Lost. A task that has ended before is what it was. If cancel and
          completion race, one of them has won, for everybody who asks.

        Raises:
          TaskNotFound: nobody knows the id.
          ResultExpired: it has ended, and how is no longer kept.
          NotPermitted: it is another client's, and this one's token not an operator's.
          ClientClosed, ClientBroken, ForkedClient: the client cannot be used.

        Cancellation:
          Always a checkpoint. If it raises ``Cancelled``, the task is being
          cancelled all the same, as soon as the control plane hears of it.
        """
        session = self._usable_session()
        check_grace(grace)
        if not is_name(task_id):  # no task has such an id, and no frame can carry it
            await anyio.lowlevel.checkpoint()
            raise TaskNotFound(f"no task has the id {task_id!r:.80}", task_id=task_id)
        watch = session.cancels.request(task_id, grace)
        await anyio.lowlevel.checkpoint()
        with waiting_for_others():
            await session.cancels.wait_stopped(watch, grace)
        if watch.error is not None:
            raise watch.error
        event = watch.event
        if event is None:
            return Lost("the control plane cannot be reached")
        if event.status is WireStatus.UNKNOWN:
            raise TaskNotFound(f"no task has the id {task_id!r}", task_id=task_id)
        if event.status is WireStatus.EVICTED:
            message = f"task {task_id!r} has ended; how is no longer kept"
            raise ResultExpired(message, task_id=task_id)
        return outcome_of(event, self.serialization_format)

    async def get_task_result(self, task_id: str) -> TaskResult | None:
        """Ask the control plane for a task, anybody's, in whatever state.

        Returns:
          The task as it is now (PENDING and STARTED included), or None if it
          is not known, or no longer.

        Raises:
          ControlPlaneUnreachable: no answer within ``timeout`` seconds.
          NotDecodable: the value is in a format this client does not accept.
          ClientClosed, ClientBroken, ForkedClient: the client cannot be used.

        Cancellation:
          Always a checkpoint; changes nothing.
        """
        found = await self._describe(task_id)
        return None if isinstance(found, Absence) else found

    async def _describe(self, task_id: str) -> TaskResult | Absence:
        """As :meth:`get_task_result`, and tells what is evicted from what is unknown."""
        if not is_name(task_id):  # no task has such an id, and no frame can carry it
            self._usable_session()
            await anyio.lowlevel.checkpoint()
            return Absence.UNKNOWN
        event = await self._in_time(self._usable_session().questions.query(task_id))
        if event.status is WireStatus.EVICTED:
            return Absence.EVICTED
        if event.status in (WireStatus.UNKNOWN, WireStatus.REFUSED):
            return Absence.UNKNOWN
        return result_of(event, self.serialization_format)

    async def list_task_functions(self) -> list[TaskFunctionInfo]:
        """Ask the control plane for the task functions that its live workers know.

        Returns:
          Them, sorted by name.

        Raises:
          ControlPlaneUnreachable: no answer within ``timeout`` seconds.
          ClientClosed, ClientBroken, ForkedClient: the client cannot be used.

        Cancellation:
          Always a checkpoint; changes nothing.
        """
        return await self._operations.list_task_functions()

    def events(
        self,
        *,
        statuses: OneOrMore[TaskStatus | str] = (),
        names: OneOrMore[str | Callable[..., Any]] = (),
        worker: str | None = None,
        task_ids: OneOrMore[str] = (),
        priorities: OneOrMore[TaskPriority | int | str] = (),
        max_buffered: int = 1_000,
        min_interval: float = 0.1,
    ) -> AbstractAsyncContextManager[EventStream]:
        """Hear of changes of tasks, anybody's, while they happen.

        ``async with client.events() as events: async for change in events: ...`` tells
        every change that the control plane has written to its store since the block was
        entered. Several changes of a task that were written at once come as one.

        It never holds up a task. What the reader does not take in time is dropped, the
        oldest first; ``events.dropped`` counts it. A control plane that goes away and comes
        back is waited for; ``events.interruptions`` counts when it has begun anew.

        Args:
          statuses: only tasks that have come to one of these; all if there are none.
          names: only tasks of these functions, or of functions with these names.
          worker: only tasks that this worker runs, or ran last.
          task_ids: only these tasks.
          priorities: only tasks of these priorities.
          max_buffered: how many changes wait for the reader, 1 to 10,000.
          min_interval: seconds between one delivery and the next at least, 0 to 60. What
            happens in between comes together.

        Raises:
          ValueError: a value cannot be used. Nothing was sent.
          LocalProtocolError: this client has four streams of events open already.
          LinkBroken: the control plane has 128 of them.
          ControlPlaneUnreachable: no answer within ``timeout`` seconds.
          ClientClosed, ClientBroken, ForkedClient: the client cannot be used.

        Cancellation:
          Changes nothing; the stream ends with its block.
        """
        asked = wanted_events(
            self._registry,
            statuses,
            names,
            worker,
            task_ids,
            priorities,
            max_buffered,
            min_interval,
        )
        return open_events(self, asked)

    @property
    def _operations(self) -> Operations:
        """What operators ask the control plane and have it do; the CLI, the dashboard too."""
        return Operations(self._usable_session, self._in_time)

    async def _in_time(self, answer: Awaitable[T]) -> T:
        with anyio.move_on_after(self.timeout):
            return await answer
        raise ControlPlaneUnreachable(
            self.discovery_address, f"no answer within {self.timeout:g} s"
        )

    def get_result(self, task_id: str) -> TaskResult | None:
        """Return the outcome of a task of this client, None if it has none here (yet).

        Raises:
          NotDecodable: the value is in a format this client does not accept.
        """
        event = self._state.outcome(task_id)
        return None if event is None else result_of(event, self.serialization_format)

    def get_status(self, task_id: str) -> TaskStatus | None:
        """Return the latest status of a task of this client, None for others."""
        event = self._state.progress(task_id)
        return None if event is None else STATUSES[event.status]

    def statistics(self) -> ClientStatistics:
        """Return a snapshot."""
        return self._state.statistics()

    # --- inside: calls ---

    def _spec(
        self,
        task: str | Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        settings: CallSettings,
        callback: Callback | None = None,
        *,
        attached: bool,
        is_stream: bool = False,
    ) -> TaskSpec:
        name = name_of(self._registry, task, is_stream=is_stream)
        payload = encode_bounded(name, args, kwargs, self.serialization_format)
        chosen_id = settings.chosen_id
        return TaskSpec(
            id=chosen_id or self._new_task_id(),
            name=name,
            priority=int(settings.priority),
            format=FORMAT_IDS[self.serialization_format],
            payload=payload,
            created=self._wall_clock(),
            attached=attached,
            callback=callback,
            options=settings.on_the_wire(
                parent=parent_id(), stream=settings.buffer if is_stream else 0
            ),
            key_ttl=settings.idempotency_ttl if chosen_id else None,
        )

    def _specs(
        self, task: str | Callable[..., Any], items: Iterable[Any], settings: CallSettings
    ) -> Iterator[TaskSpec]:
        """A task for each item, which is its one argument; all else is the same."""
        name = name_of(self._registry, task, is_stream=False)
        accepted = self.serialization_format
        format = FORMAT_IDS[accepted]
        priority = int(settings.priority)
        options = settings.on_the_wire(parent=parent_id())
        created, new_task_id = self._wall_clock(), self._new_task_id
        for item in items:
            yield TaskSpec(
                new_task_id(),
                name,
                priority,
                format,
                encode_bounded(name, (item,), {}, accepted),
                created,
                True,  # attached
                None,  # no callback
                options,
            )

    def _not_acknowledged(self) -> ControlPlaneUnreachable:
        return ControlPlaneUnreachable(
            self.discovery_address, f"the task was not acknowledged in {self.timeout:g} s"
        )


def _broken(cause: Exception) -> ClientBroken:
    error = ClientBroken(
        f"the client's connection failed: {cause!r}; stop the client and start it again"
    )
    error.__cause__ = cause
    return error
