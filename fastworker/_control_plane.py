"""The control plane that users start: listeners, the machine, the store.

It decides nothing itself: frames go into the machine
(``_core/_control_plane.py``), commands come out. Applying an event has no
checkpoint in it, so a frame that has left its socket is never half handled.
"""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
import trio

from fastworker._audit import note_action
from fastworker._callback_places import is_of_this_machine
from fastworker._callbacks import Callbacks
from fastworker._config import ControlPlaneConfig
from fastworker._control_plane_network import ControlPlaneNetwork
from fastworker._core._bundle import split
from fastworker._core._callback_addresses import CallbackRules, parse_allowed
from fastworker._core._control_plane import ControlPlaneState
from fastworker._core._control_plane_events import (
    AppendRecords,
    CallBack,
    CallbacksDescribed,
    CalledBack,
    ClosePipe,
    ControlPlaneCommand,
    ControlPlaneEvent,
    DescribeCallbacks,
    DrainRequested,
    FrameArrived,
    NoteAction,
    OldProcessesEnded,
    PageRead,
    Port,
    ProcessExited,
    ReadPage,
    ReadTasks,
    TasksRead,
)
from fastworker._core._control_plane_figures import ControlPlaneStatistics
from fastworker._core._link_responder import SendTo
from fastworker._core._overview import About
from fastworker._core._pipes import DeadlinePassed, Flush, Route
from fastworker._core._results import Results
from fastworker._core._scheduler import Scheduler
from fastworker._core._worker_rows import SubworkerView
from fastworker._crash import IS_ARMED, crash_point
from fastworker._credentials import Auth, resolve_auth
from fastworker._errors import LocalProtocolError, RemoteProtocolError
from fastworker._hosting import host_on_trio, read_in_loop
from fastworker._lanes import make_lane
from fastworker._lanes._abc import Lane
from fastworker._listening import check_listening
from fastworker._models import SerializationFormat
from fastworker._registry import Registry, registry
from fastworker._replay import Replayed, open_for_work, replay
from fastworker._settings import parse_address
from fastworker._store._abc import Store
from fastworker._store_reader import StoreQuestions
from fastworker._store_writer import FAREWELL_SECONDS as STORE_FAREWELL_SECONDS
from fastworker._store_writer import StoreEvent, StoreWriter
from fastworker._stores import make_store
from fastworker._subworker import SubWorker
from fastworker._task_function import Backend
from fastworker._tls import Tls, resolve_tls, tls_context
from fastworker._transport._abc import Listener, Transport
from fastworker._transport._address import parse_tcp_address, replace_port
from fastworker._transport._limits import PAUSE_BYTES, PORTION_BYTES
from fastworker._transport._nng import NngTransport
from fastworker._unfinished import in_words, unfinished, waiting
from fastworker._validation import Handle, validated
from fastworker._version import installed_version

log = logging.getLogger("fastworker.control_plane")

# After draining: outcomes on their way to clients get this long.
FAREWELL_SECONDS: Final = 0.5
# So much longer than a subworker's drain takes what it has to interrupt.
HAND_BACK_SECONDS: Final = 1.2


class ControlPlaneWorker:
    """Keeps tasks, orders them, leases them to subworkers, and runs some itself.

    ``await worker.start()`` runs until :meth:`stop`, :meth:`drain` or
    cancellation; under Trio, ``await nursery.start(worker.start)`` returns
    when it listens.

    A setting that is not given comes from its ``FASTWORKER_…`` variable, else
    it has its default; the attributes have what it has come to.

    Args:
      worker_id: a label for people, by default "control-plane".
      base_address: where clients and subworkers connect, by default
        ``tcp://127.0.0.1:5555``. A port of 0 means any free one; the
        attribute has the real one from then on.
      discovery_address: where clients look first, by default
        ``tcp://127.0.0.1:5550``.
      serialization_format: what its own lanes accept: JSON, or also PICKLE.
      subworker_management_port: where subworkers connect, on the host of
        ``base_address``, by default 5560.
      result_cache_max_size, result_cache_ttl_seconds: bounds of the outcomes
        that are kept in memory for whoever asks, by default 10000 and 3600. A
        store that is a file has them for as long as its history, and is asked then.
      max_queued, max_queued_bytes: bounds of the tasks that have not ended,
        by default 1,000,000 and 1 GiB; a submit beyond them raises QueueFull.
      insecure: whether it may listen where other machines can connect without
        authentication: whoever can connect may submit and run tasks then. It is
        also needed to run without it on a store that was used with it.
      auth: the tokens of the roles that are let in, as for :class:`Client`. With
        them, nobody is heard who has not proved to know one.
      tls: files for ``tls+tcp://`` addresses, by default what the variables
        ``FASTWORKER_TLS_…`` say, and False for none. Whoever connects needs a
        certificate, too, and the name in it decides what may be asked.
      executes: whether it runs tasks itself, in lanes of this process.
      concurrency, backend: of those lanes, as for SubWorker.
      drain_timeout: seconds that running tasks get when drained, by default 30.
      store: where tasks are kept, by default in memory: the path of a file, which is
        made if need be, "memory", or a store of your own making.
      callback_allow: where callbacks may go beside loopback and their client's own
        host: names, addresses, each with a port or without, and networks such as
        ``10.0.0.0/8``.
      history_max_size, history_ttl_seconds: how many ended tasks are kept there, and
        for how long, by default 100,000 and 604,800 (7 days).

    Raises:
      ConfigurationError: a value cannot be used, or an address is not on this
        machine's loopback, there are no tokens, and ``insecure`` was not said.
    """

    def __init__(
        self,
        worker_id: str | None = None,
        base_address: str | None = None,
        discovery_address: str | None = None,
        serialization_format: SerializationFormat | str | None = None,
        subworker_management_port: int | None = None,
        result_cache_max_size: int | None = None,
        result_cache_ttl_seconds: float | None = None,
        *,
        max_queued: int | None = None,
        max_queued_bytes: int | None = None,
        insecure: bool | None = None,
        auth: Auth = None,
        tls: Tls = None,
        executes: bool = True,
        concurrency: int | None = None,
        backend: Backend | None = None,
        drain_timeout: float | None = None,
        store: Store | str | os.PathLike[str] | None = None,
        history_max_size: int | None = None,
        history_ttl_seconds: float | None = None,
        callback_allow: Sequence[str] | None = None,
        transport: Transport | None = None,
        registry: Registry = registry,
        make_lane: Callable[..., Lane] = make_lane,
        rng: random.Random | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._tokens = resolve_auth(auth, os.environ)
        self.tls = resolve_tls(tls if transport is None else False, os.environ)
        self._authenticates = self._tokens is not None or (
            self.tls is not None and self.tls.mutual
        )
        config = ControlPlaneConfig.resolve(
            os.environ,
            authenticated=self._authenticates,
            worker_id=worker_id,
            base_address=base_address,
            discovery_address=discovery_address,
            serialization_format=serialization_format,
            subworker_management_port=subworker_management_port,
            result_cache_max_size=result_cache_max_size,
            result_cache_ttl_seconds=result_cache_ttl_seconds,
            max_queued=max_queued,
            max_queued_bytes=max_queued_bytes,
            insecure=insecure,
            concurrency=concurrency,
            backend=backend,
            drain_timeout=drain_timeout,
            store=store if isinstance(store, (str, os.PathLike)) else None,
            history_max_size=history_max_size,
            history_ttl_seconds=history_ttl_seconds,
            callback_allow=callback_allow,
        )
        self._tls = (
            tls_context(self.tls, config.listening, listening=True)
            if transport is None
            else None
        )
        self.worker_id = config.worker_id
        self.base_address = config.base_address
        self.discovery_address = config.discovery_address
        self.serialization_format = config.serialization_format
        self.subworker_management_port = config.subworker_management_port
        self.result_cache_max_size = config.result_cache_max_size
        self.result_cache_ttl_seconds = config.result_cache_ttl_seconds
        self.max_queued = config.max_queued
        self.max_queued_bytes = config.max_queued_bytes
        self.insecure = config.insecure
        self.executes = executes
        self.concurrency = config.concurrency
        self.backend: Backend = config.backend
        self.drain_timeout = config.drain_timeout
        self.history_max_size = config.history_max_size
        self.history_ttl_seconds = config.history_ttl_seconds
        self.callback_allow = config.callback_allow
        if store is None or isinstance(store, (str, os.PathLike)):
            store = make_store(config.store)
        self._store = store
        self._transport = transport
        self._registry = registry
        self._make_lane = make_lane
        self._rng = rng or random.Random()  # noqa: S311 - spreads retries, hides nothing
        self._wall_clock = wall_clock
        self._callbacks: Callbacks
        self._callback_rules = CallbackRules()
        self._state: ControlPlaneState | None = None
        self._handle: Handle[ControlPlaneEvent, ControlPlaneCommand]
        self._network: ControlPlaneNetwork
        self._alarm = trio.CancelScope()
        self._scope: trio.CancelScope | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._drain_requested = trio.Event()
        self._changed = trio.Event()
        self._appended = False
        self._is_flushing = False
        self._writer: StoreWriter
        self._questions: StoreQuestions
        self.replayed = Replayed()

    def __repr__(self) -> str:
        state = "stopped" if self._state is None else "running"
        return f"<ControlPlaneWorker {self.worker_id!r} at {self.base_address}: {state}>"

    @property
    def management_address(self) -> str:
        """Where subworkers connect."""
        return replace_port(self.base_address, self.subworker_management_port)

    @property
    def store(self) -> Store:
        """Where the tasks are kept."""
        return self._store

    @property
    def epoch(self) -> int:
        """The start counter from the store, 0 while it is not running."""
        return 0 if self._state is None else self._state.epoch

    # --- life ---

    async def start(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Listen and work until stopped, drained or cancelled.

        Runs under Trio and under asyncio, there on Trio in a thread of its
        own; ``task_status`` may come from either, so that
        ``await task_group.start(worker.start)`` of anyio works too.

        Raises:
          AddressInUse: somebody else listens on one of the addresses.
          ConfigurationError: the name in an address does not resolve, or other
            machines can reach what it stands for.
          StoreError: the store cannot be used.
          StoreUnavailable: the store cannot be read now.

        Cancellation:
          Everything stops. Tasks that have not ended come back with the next
          start; with a store in memory they are lost, and their clients are told
          when a control plane is back.
        """
        await host_on_trio(lambda status: self.run(task_status=status), task_status)

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """As :meth:`start`, under Trio only."""
        if self._state is not None:
            raise LocalProtocolError(f"{self!r} is running already")
        listening = {
            "base_address": parse_address(self.base_address),
            "discovery_address": parse_address(self.discovery_address),
            "subworker_management_port": parse_address(self.management_address),
        }
        await check_listening(
            listening,
            self.serialization_format,
            insecure=self.insecure,
            authenticated=self._authenticates,
        )
        self._token = trio.lowlevel.current_trio_token()
        self._drain_requested = trio.Event()
        with ExitStack() as stack:
            listeners = self._listen(stack)
            stack.callback(self._forget)
            await self._open_state()
            await self._serve(listeners, task_status)

    def stop(self) -> None:
        """Stop now. From any thread; idempotent."""
        scope = self._scope
        if scope is not None:
            self._soon(scope.cancel)

    def drain(self) -> None:
        """Accept and start nothing more, and end when what runs has ended.

        From any thread; idempotent. Tasks that have not started come back with
        the next start; with a store in memory they are lost.
        """
        self._soon(self._drain_requested.set)

    def keep_callbacks_from(self, port: int) -> None:
        """Say that something else of this process listens there, such as its dashboard.

        While it runs, no callback goes to this port of this machine.
        """
        self._callback_rules.add_own_port(port)

    def note_process_exit(self, worker_id: str) -> None:
        """Say that the process of this subworker has ended for certain.

        Its tasks are leased elsewhere at once. Call it in the loop of :meth:`run`.
        """
        if self._state is not None:
            self._apply(ProcessExited(worker_id))
            self._flush()

    def note_old_processes_ended(self, worker_ids: list[str]) -> None:
        """Say that the subworkers of these ids, started by an earlier process, have ended.

        What they had when that process ended is leased elsewhere at once. Call it in
        the loop of :meth:`run`.
        """
        if self._state is not None:
            self._apply(OldProcessesEnded(worker_ids))
            self._flush()

    # --- reading ---

    def get_subworker_status(self) -> dict[str, Any]:
        """Describe all subworkers. From any thread.

        Returns:
          A dict with ``total``, ``active``, and ``subworkers``: for each
          worker id ``address``, ``status`` ("active", "away" or "draining"),
          ``load`` (attempts held), ``capacity`` ({lane: int}), ``last_seen``
          (a datetime, UTC) and ``tasks`` (names). The control plane's own
          lanes are one of them.
        """
        views = read_in_loop(self._token, self._subworkers)
        wall = datetime.fromtimestamp(self._wall_clock(), UTC)
        return {
            "total": len(views),
            "active": sum(1 for view in views if view.status == "active"),
            "subworkers": {
                view.worker_id: {
                    "address": view.address,
                    "status": view.status,
                    "load": view.load,
                    "capacity": view.capacity,
                    "last_seen": wall - timedelta(seconds=view.idle),
                    "tasks": view.functions,
                }
                for view in views
            },
        }

    def statistics(self) -> ControlPlaneStatistics | None:
        """Return a snapshot, None while it is not running. From any thread."""
        return read_in_loop(self._token, self._statistics)

    def _statistics(self) -> ControlPlaneStatistics | None:
        if self._state is None:
            return None
        return msgspec.structs.replace(
            self._state.statistics(),
            callbacks=self._callbacks.statistics(),
            admission=self._network.admission(),
        )

    def _subworkers(self) -> list[SubworkerView]:
        return [] if self._state is None else self._state.subworkers(now=self._now())

    # --- inside: life ---

    def _listen(self, stack: ExitStack) -> list[tuple[Port, Listener]]:
        transport = self._transport or NngTransport(self._tls, on_warning=log.warning)
        rules = self._callback_rules = CallbackRules(
            map(parse_allowed, self.callback_allow), is_here=is_of_this_machine
        )
        self._callbacks = Callbacks(transport, self._rng, self._on_called_back, rules)
        stack.callback(self._callbacks.close, are_kept=self._store.is_durable)
        network = self._network = ControlPlaneNetwork(
            transport, self._tokens, lambda: self.epoch
        )
        listeners = network.listen(
            stack,
            {
                Port.BASE: self.base_address,
                Port.MANAGEMENT: self.management_address,
                Port.DISCOVERY: self.discovery_address,
            },
        )
        base, management, discovery = [listener.address for _, listener in listeners]
        for address in (base, management, discovery):
            _, number = parse_tcp_address(address, listening=True)
            rules.add_own_port(number)
        self.base_address = base
        _, self.subworker_management_port = parse_tcp_address(management, listening=True)
        self.discovery_address = discovery
        if self.executes:
            local = network.listen_inside(stack)
            self._local_address = local.address
            listeners.append((Port.INSIDE, local))
        return listeners

    async def _open_state(self) -> None:
        opened = await open_for_work(
            self._store, authenticates=self._authenticates, insecure=self.insecure
        )
        wall_offset = self._wall_clock() - self._now()
        results = Results(
            max_size=self.result_cache_max_size, ttl=self.result_cache_ttl_seconds
        )
        scheduler = Scheduler(
            epoch=opened.epoch,
            results=results,
            now=self._now(),
            rng=self._rng,
            max_queued=self.max_queued,
            max_queued_bytes=self.max_queued_bytes,
            wall_offset=wall_offset,
        )
        _, base_port = parse_tcp_address(self.base_address, listening=True)
        state = ControlPlaneState(
            epoch=opened.epoch,
            scheduler=scheduler,
            worker_id=self.worker_id,
            base_port=base_port,
            management_port=self.subworker_management_port,
            is_durable=self._store.is_durable,
            authenticates=self._authenticates,
            about=About(installed_version(), self._store.name, self._wall_clock()),
            callback_rules=self._callback_rules,
        )
        self.replayed = await replay(
            self._store,
            opened,
            state,
            results,
            wall_offset=wall_offset,
            max_results=self.result_cache_max_size,
            result_ttl=self.result_cache_ttl_seconds,
        )
        self._writer = StoreWriter(
            self._store,
            self._on_store_event,
            max_ended=self.history_max_size,
            max_age=self.history_ttl_seconds,
            wall_clock=lambda: self._now() + wall_offset,
        )
        self._questions = StoreQuestions(self._store, self._on_answer)
        self._state = state
        self._handle = validated(state)

    def _forget(self) -> None:
        self._store.close()
        self._state = self._scope = self._token = None
        self._network.forget()

    async def _serve(
        self, listeners: list[tuple[Port, Listener]], task_status: trio.TaskStatus[None]
    ) -> None:
        async with trio.open_nursery() as service:
            for port, listener in listeners:
                service.start_soon(self._receive, port, listener)
                service.start_soon(self._receive_pipe_events, listener)
                service.start_soon(listener.run_backlog)
            service.start_soon(self._watch_deadlines)
            service.start_soon(self._writer.run)
            service.start_soon(self._questions.run)
            await service.start(self._callbacks.run)
            self._tell_due_callbacks()
            self._flush()
            # stop() ends the lanes first: their goodbye needs somebody who hears it.
            with trio.CancelScope() as self._scope:
                await self._execute(task_status)
            await self._callbacks.wait_quiet()
            await self._wait_written()
            service.cancel_scope.cancel()

    async def _execute(self, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as lanes:
            if self.executes:
                await lanes.start(self._own_worker().run)
            log.info(
                "epoch %d, listening on %s (base), %s (subworkers), %s (discovery)",
                self.epoch,
                self.base_address,
                self.management_address,
                self.discovery_address,
            )
            task_status.started()
            await self._drain_requested.wait()
            await self._wait_drained()
            lanes.cancel_scope.cancel()

    def _own_worker(self) -> SubWorker:
        return SubWorker(
            self.worker_id,
            self._local_address,
            base_address=self.base_address,
            serialization_format=self.serialization_format,
            concurrency=self.concurrency,
            backend=self.backend,
            auth=False,  # it is in this very process
            transport=self._network.inside,
            registry=self._registry,
            make_lane=self._make_lane,
        )

    async def _wait_drained(self) -> None:
        state = self._state
        assert state is not None
        self._apply(DrainRequested())
        self._flush()
        will_be_lost = {} if self._store.is_durable else waiting(state.statistics().tasks)
        if will_be_lost:
            log.warning(
                "draining, with the store in memory: %s; these will be lost",
                in_words(will_be_lost),
            )
        # Subworkers that are drained too hand back what they have interrupted.
        hand_back = 0.0 if self.executes else HAND_BACK_SECONDS
        with trio.move_on_after(self.drain_timeout + hand_back):
            while not state.is_drained:
                await self._changed.wait()
        if not state.is_drained:
            log.warning("tasks still run after %g s of draining", self.drain_timeout)
        lost = {} if self._store.is_durable else unfinished(state.statistics().tasks)
        if lost:
            log.warning(
                "%s; these are lost, as the store was in memory; their clients are told when "
                "a control plane is back",
                in_words(lost),
            )
        with trio.move_on_after(FAREWELL_SECONDS):
            while state.statistics().outbox_bytes:
                await self._changed.wait()

    async def _wait_written(self) -> None:
        """Let the store have what has changed last, for a bounded moment."""
        assert self._state is not None
        with trio.move_on_after(STORE_FAREWELL_SECONDS):
            while self._writer.is_busy or self._state.has_pending_changes:
                await self._changed.wait()

    def _tell_due_callbacks(self) -> None:
        for task in self.replayed.due:
            if task.spec.callback is not None and task.outcome is not None:
                self._callbacks.tell(task.spec.callback, task.outcome)
        self.replayed = msgspec.structs.replace(self.replayed, due=[])

    # --- inside: work ---

    async def _receive(self, port: Port, listener: Listener) -> None:
        while True:
            size = self._take(port, listener, await listener.receive())
            if size >= PAUSE_BYTES:
                # Taking it in was long enough; let others go before it goes on.
                await _let_others_go()
                self._gather()
                await _let_others_go()
                self._flush()
                # The next message comes in the round of those who waited for this one.
                await trio.lowlevel.checkpoint()
            else:
                self._flush()

    def _take(self, port: Port, listener: Listener, messages: list[tuple[Route, bytes]]) -> int:
        """Apply what has arrived; return how many bytes that was."""
        # Not a part of _receive(): its variables would keep the last message,
        # of up to 16 MiB, until the next one.
        gathered = 0
        for route, message in messages:
            self._network.listeners[route.pipe] = listener
            crash_point("message-received")
            for frame in _frames(message):
                if PORTION_BYTES <= gathered < PAUSE_BYTES:
                    # Others work on what that has brought while we go on with the rest.
                    self._flush()
                    gathered = 0
                self._take_frame(FrameArrived(port, route, frame))
                gathered += len(frame)
        return sum(len(message) for _, message in messages)

    def _take_frame(self, frame: FrameArrived) -> None:
        """Apply a frame, but not before the news of who has sent it."""
        if self._authenticates and not self._network.is_announced(frame.route.pipe):
            self._network.hold_back(frame)
        else:
            self._apply(frame)

    async def _receive_pipe_events(self, listener: Listener) -> None:
        while True:
            for event in await listener.receive_pipe_events():
                early = self._network.note_pipe_event(event, listener)
                self._apply(event)
                for frame in early:
                    self._apply(frame)
            self._flush()

    async def _watch_deadlines(self) -> None:
        while True:
            assert self._state is not None
            with trio.CancelScope(deadline=self._state.next_deadline()) as self._alarm:
                await trio.sleep_forever()
            self._apply(DeadlinePassed())
            self._flush()

    def _flush(self) -> None:
        """Send what has gathered: work, news, and what waits for the store."""
        assert self._state is not None
        self._gather()
        self._network.send()
        deadline = self._state.next_deadline()
        # One that is too early is moved: it would cost more to find nothing due.
        if deadline != self._alarm.deadline:
            self._alarm.deadline = deadline
        self._changed.set()
        self._changed = trio.Event()

    def _gather(self) -> None:
        """Make frames of what has gathered; they wait for the next flush."""
        assert self._state is not None
        self._is_flushing = True
        self._apply(Flush())
        while self._appended:
            # A store in memory is done already; its news can go as well.
            self._appended = False
            self._apply(Flush())
        self._is_flushing = False

    def _apply(self, event: ControlPlaneEvent) -> None:
        assert self._state is not None
        for command in self._handle(event, now=self._now()):
            match command:
                case SendTo(route=route, data=data, answers=kind):
                    self._network.outgoing.setdefault(route, []).append(data)
                    if IS_ARMED and kind is not None:
                        self._network.answered.append(kind)
                case AppendRecords():
                    self._writer.append(command)
                case CallBack(callback=callback, event=ended):
                    self._callbacks.tell(callback, ended)
                case NoteAction():
                    _write_down(command)
                case ReadPage() | ReadTasks():
                    self._questions.ask(command)
                case DescribeCallbacks(session=session, ticket=ticket, asked=asked):
                    reply = self._callbacks.describe(asked)
                    self._apply(CallbacksDescribed(session, ticket, reply))
                case ClosePipe(pipe=pipe):
                    self._network.close_pipe(pipe)

    def _on_store_event(self, event: StoreEvent) -> None:
        self._apply_between(event)

    def _on_answer(self, answer: PageRead | TasksRead) -> None:
        self._apply_between(answer)

    def _on_called_back(self, task_ids: list[str]) -> None:
        self._apply_between(CalledBack(task_ids))

    def _apply_between(self, event: ControlPlaneEvent) -> None:
        """Apply what comes from inside, perhaps while something else is being carried out."""
        if self._state is not None:
            self._apply(event)
            if self._is_flushing:
                self._appended = self._state.wants_flush
            else:
                self._flush()

    def _now(self) -> float:
        return trio.current_time()

    def _soon(self, call: Callable[[], None]) -> None:
        token = self._token
        if token is not None:
            try:
                token.run_sync_soon(call)
            except trio.RunFinishedError:
                pass


async def _let_others_go() -> None:
    """Return when everybody has run who could, or whose time had come.

    One checkpoint is not enough: whoever wakes up by it runs in the same round, and
    who of a round comes first is left to chance.
    """
    await trio.lowlevel.checkpoint()
    await trio.lowlevel.checkpoint()


def _write_down(noted: NoteAction) -> None:
    about: dict[str, Any] = (
        {"worker_id": noted.worker_id} if noted.worker_id else {"task_ids": noted.task_ids}
    )
    note_action(
        noted.action, noted.outcome, session=noted.session, address=noted.address, **about
    )


def _frames(message: bytes) -> list[bytes | memoryview]:
    try:
        return split(message)
    except RemoteProtocolError:
        return [b""]  # no frame: the machine counts it and closes the pipe
