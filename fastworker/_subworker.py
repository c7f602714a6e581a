"""The subworker that users start: settings, lanes, and one session at a time."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from typing import Final

import trio

from fastworker._authentication import WORKER_ROLES, check_roles, prove_when_dialing
from fastworker._config import SubWorkerConfig
from fastworker._core._messages import FunctionInfo
from fastworker._core._retry import RetryPolicy
from fastworker._core._subworker import SubworkerState, SubworkerStatistics
from fastworker._credentials import Auth, resolve_auth
from fastworker._errors import LocalProtocolError
from fastworker._hosting import host_on_trio, read_in_loop
from fastworker._lanes import make_lane
from fastworker._lanes._abc import Lane
from fastworker._lanes._sink import TrioSink
from fastworker._models import SerializationFormat
from fastworker._registry import Registry, registry
from fastworker._subworker_session import SubworkerSession
from fastworker._task_function import Backend, TaskFunction, TaskOptions
from fastworker._tls import Tls, resolve_tls, tls_context
from fastworker._transport._abc import Transport
from fastworker._transport._nng import NngTransport

# How many attempts of ``async def`` functions one lane runs at the same time.
ASYNC_SLOTS: Final = 100


class SubWorker:
    """Registers with a control plane and runs the tasks it leases.

    ``await worker.start()`` runs until :meth:`stop`, :meth:`drain` or
    cancellation; under Trio, ``await nursery.start(worker.start)`` returns
    when the worker has joined. Which tasks it can run is what ``@task`` has
    registered when it starts.

    A setting that is not given comes from its ``FASTWORKER_…`` variable, else
    it has its default; the first two have none.

    Args:
      worker_id: a label for people; two workers may share one and are then
        shown as ``w1`` and ``w1#2``.
      control_plane_address: the control plane's base or management address.
      base_address: a label in the status; nothing listens there.
      discovery_address: accepted; a subworker needs no discovery.
      serialization_format: what is accepted: JSON only, or JSON and PICKLE.
      concurrency: how many ``def`` tasks run at once (default: the number of
        cores); for ``async def`` tasks 100, or this if it is larger.
      backend: the loop for ``async def`` tasks that name none.
      connect_timeout: seconds to find the control plane at the start; after
        one success it is looked for for ever.
      drain_timeout: seconds that running tasks get when drained, by default 30.
        What runs then is stopped and handed back, uncounted, to run elsewhere;
        two seconds later at most the worker has ended.
      auth: the token that both sides prove to know, as for :class:`Client`; it is
        the one of the role worker.
      tls: files for a ``tls+tcp://`` address, as for :class:`Client`; the certificate
        is one of the role worker.
      ends_when_worn_out: drain and end once all slots of a lane are taken by
        tasks that were stopped and run on; ``is_worn_out`` then says so.

    Raises:
      ConfigurationError: a value cannot be used.
    """

    def __init__(
        self,
        worker_id: str | None = None,
        control_plane_address: str | None = None,
        base_address: str | None = None,
        discovery_address: str | None = None,
        serialization_format: SerializationFormat | str | None = None,
        *,
        concurrency: int | None = None,
        backend: Backend | None = None,
        connect_timeout: float = 5.0,
        drain_timeout: float | None = None,
        auth: Auth = None,
        tls: Tls = None,
        ends_when_worn_out: bool = False,
        transport: Transport | None = None,
        registry: Registry = registry,
        make_lane: Callable[..., Lane] = make_lane,
        new_session_id: Callable[[], bytes] = lambda: secrets.token_bytes(16),
    ) -> None:
        self._tokens = resolve_auth(auth, os.environ)
        check_roles(self._tokens, WORKER_ROLES)
        settings = resolve_tls(tls if transport is None else False, os.environ)
        has_certificate = settings is not None and settings.cert is not None
        config = SubWorkerConfig.resolve(
            os.environ,
            authenticated=self._tokens is not None or has_certificate,
            worker_id=worker_id,
            control_plane_address=control_plane_address,
            base_address=base_address,
            discovery_address=discovery_address,
            serialization_format=serialization_format,
            concurrency=concurrency,
            backend=backend,
            drain_timeout=drain_timeout,
        )
        self.worker_id = config.worker_id
        self.control_plane_address = config.control_plane_address
        self.base_address = config.base_address
        self.discovery_address = config.discovery_address
        self.serialization_format = config.serialization_format
        self.concurrency = config.concurrency or os.cpu_count() or 1
        self.backend: Backend = config.backend
        self._accepted = config.accepted_formats
        self.connect_timeout = connect_timeout
        self.drain_timeout = config.drain_timeout
        self.ends_when_worn_out = ends_when_worn_out
        self.is_worn_out = False
        self._tls = (
            tls_context(
                settings, {"control_plane_address": config.control_plane}, listening=False
            )
            if transport is None
            else None
        )
        self._transport = transport
        self._registry = registry
        self._make_lane = make_lane
        self._new_session_id = new_session_id
        self._session: SubworkerSession | None = None
        self._scope: trio.CancelScope | None = None
        self._token: trio.lowlevel.TrioToken | None = None

    def __repr__(self) -> str:
        state = "stopped" if self._session is None else "running"
        return f"<SubWorker {self.worker_id!r} of {self.control_plane_address}: {state}>"

    async def start(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Join the control plane and work until stopped, drained or cancelled.

        Runs under Trio and under asyncio, there on Trio in a thread of its
        own; ``task_status`` may come from either, so that
        ``await task_group.start(worker.start)`` of anyio works too.

        Raises:
          ControlPlaneUnreachable: none was found within ``connect_timeout``.
          LinkBroken: the control plane refused this worker.
          AuthenticationError: one side did not prove who it is.

        Cancellation:
          Running attempts are asked to stop and given up; the control plane
          runs them elsewhere. Nothing is left behind but threads whose
          function does not return.
        """
        await host_on_trio(lambda status: self.run(task_status=status), task_status)

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """As :meth:`start`, under Trio only."""
        if self._session is not None:
            raise LocalProtocolError(f"{self!r} is running already")
        functions = {function.name: function for function in self._registry.functions()}
        sink = TrioSink()
        lanes = self._make_lanes(functions, sink)
        state = SubworkerState(
            worker_id=self.worker_id,
            functions=[self._info(function) for function in functions.values()],
            slots={kind: lane.slots for kind, lane in lanes.items()},
            new_session_id=self._new_session_id,
            address=self.base_address,
            final_timeouts=[
                function.name
                for function in functions.values()
                if not function.options.retries_timeouts()
            ],
        )
        self._session = self._new_session(state, functions, lanes, sink)
        self._token = trio.lowlevel.current_trio_token()
        try:
            with trio.CancelScope() as self._scope:
                await self._session.run(
                    connect_timeout=self.connect_timeout,
                    drain_timeout=self.drain_timeout,
                    task_status=task_status,
                )
        finally:
            self.is_worn_out = self._session.is_worn_out
            self._session = self._scope = self._token = None

    def stop(self) -> None:
        """Stop now: running attempts are given up. From any thread; idempotent."""
        scope = self._scope
        if scope is not None:
            self._soon(scope.cancel)

    def drain(self) -> None:
        """Take no more work and end when what runs has ended. From any thread."""
        session = self._session
        if session is not None:
            self._soon(session.drain)

    def resume(self) -> None:
        """Call off a drain that has not ended: take work again. From any thread."""
        session = self._session
        if session is not None:
            self._soon(session.resume)

    def statistics(self) -> SubworkerStatistics | None:
        """Return a snapshot, None while it is not running. From any thread."""
        return read_in_loop(
            self._token, lambda: None if self._session is None else self._session.statistics()
        )

    def _soon(self, call: Callable[[], None]) -> None:
        token = self._token
        if token is not None:
            try:
                token.run_sync_soon(call)
            except trio.RunFinishedError:
                pass

    def _make_lanes(
        self, functions: dict[str, TaskFunction], sink: TrioSink
    ) -> dict[str, Lane]:
        kinds = {function.lane_for(self.backend): None for function in functions.values()}
        lanes: dict[str, Lane] = {}
        for kind in kinds:
            is_async = kind in ("trio", "asyncio")
            slots = max(ASYNC_SLOTS, self.concurrency) if is_async else self.concurrency
            lanes[kind] = self._make_lane(kind, slots, sink, self._accepted)
        return lanes

    def _new_session(
        self,
        state: SubworkerState,
        functions: dict[str, TaskFunction],
        lanes: dict[str, Lane],
        sink: TrioSink,
    ) -> SubworkerSession:
        def note_trouble(reason: str, is_final: bool) -> None:
            session.note_not_proved(reason, is_final=is_final)

        transport = prove_when_dialing(
            self._transport or NngTransport(self._tls, on_trouble=note_trouble),
            self._tokens,
            WORKER_ROLES,
            note_trouble,
        )
        session = SubworkerSession(
            state,
            transport,
            self.control_plane_address,
            functions,
            lanes,
            sink,
            worker_id=self.worker_id,
            default_backend=self.backend,
            ends_when_worn_out=self.ends_when_worn_out,
        )
        return session

    def _info(self, function: TaskFunction) -> FunctionInfo:
        return FunctionInfo(
            name=function.name,
            lane=function.lane_for(self.backend),
            signature=function.signature,
            doc=function.doc,
            on_lost=function.options.on_lost,
            retry=_retry_policy(function.options),
            timeout=function.options.timeout or 0.0,
            grace=function.options.grace,
            is_stream=function.is_stream is True,
        )


def _retry_policy(options: TaskOptions) -> RetryPolicy:
    return RetryPolicy(
        options.max_retries,
        options.retry_delay,
        options.backoff,
        options.max_delay,
        options.jitter,
    )
