"""Writes the history of simulated processes, from what goes into their machines and comes out.

Nothing is written for a process that is dead.
"""

from __future__ import annotations

import math
from hashlib import blake2b
from typing import Any

from fastworker._client import Client
from fastworker._client_session import ClientSession
from fastworker._core._client_events import (
    CancelRequested,
    ClientStopped,
    QueryAnswered,
    QueryMade,
    TaskAbandoned,
    TaskAcknowledged,
    TaskEnded,
    TaskRejected,
    TasksSubmitted,
    TaskSubmitted,
    TaskTimedOut,
    ValueArrived,
)
from fastworker._core._link_requester import SessionOpened
from fastworker._core._messages import TaskEvent, TaskSpec, WireStatus
from fastworker._core._pipes import PipeClosed
from fastworker._core._stored import Changes, StoredTask
from fastworker._lanes._abc import (
    OUTCOME_CANCELLED,
    OUTCOME_FAILURE,
    OUTCOME_SUCCESS,
    Attempt,
    AttemptEnded,
    AttemptKey,
    AttemptPaused,
    AttemptStarted,
    AttemptYielded,
    LaneEvent,
    LaneSink,
)
from fastworker._subworker import SubWorker
from fastworker._subworker_session import SubworkerSession
from fastworker._validation import Handle
from fastworker.testing._history import History, Kind
from fastworker.testing._process import Process

_HOW = {OUTCOME_SUCCESS: "return", OUTCOME_FAILURE: "raise", OUTCOME_CANCELLED: "cancelled"}


def digest_of(payload: bytes) -> str:
    """What is compared of arguments and values."""
    return blake2b(payload, digest_size=6).hexdigest()


class Recorder:
    """Writes what the processes of one simulation do."""

    def __init__(self, history: History) -> None:
        self._history = history
        self.is_over = False  # then nothing is written any more
        # Which execution has made an outcome is not said in it. These are its marks.
        self._runs: dict[tuple[str, float], list[str]] = {}
        self._values: dict[str, str] = {}
        # Of each task the latest lease that is durable.
        self._leases: dict[str, tuple[int, int]] = {}

    def write(self, process: Process, kind: Kind, **fields: Any) -> None:
        """Write an event of a process, unless it is dead."""
        if process.is_dead or self.is_over:
            return
        # Links of clients inside of tasks are not those of their worker.
        if kind is not Kind.LINK or process.role != "subworker" or fields.pop("is_own", False):
            self._history.write(kind, process=process.name, pid=process.pid, **fields)

    # --- the store ---

    def note_written(self, process: Process, changes: Changes) -> None:
        """Write what has become durable."""
        for task in changes.created:
            self.write(process, Kind.KEPT, task=task.spec.id, name=task.spec.name)
            self._note_change(process, task)
        for task in changes.updated:
            self._note_change(process, task)

    def _note_change(self, process: Process, task: StoredTask) -> None:
        life = task.life
        if task.outcome is None:
            lease = life.fence_epoch, life.fence
            if life.fence and self._leases.get(task.spec.id) != lease:
                self._leases[task.spec.id] = lease
                self.write(
                    process,
                    Kind.LEASED,
                    task=task.spec.id,
                    epoch=life.fence_epoch,
                    attempt=life.fence,
                )
        else:
            fields = self._outcome(task.outcome)
            self.write(
                process, Kind.TERMINAL, epoch=life.fence_epoch, attempt=life.fence, **fields
            )

    # --- executions ---

    def note_start(self, process: Process, attempt: Attempt, wall: float) -> None:
        """Write that user code starts."""
        key = attempt.key
        run = _run_of(process, key)
        self._runs.setdefault((key.task_id, wall), []).append(run)
        self.write(
            process,
            Kind.START,
            task=key.task_id,
            name=attempt.name,
            run=run,
            epoch=key.epoch,
            attempt=key.attempt,
            digest=digest_of(attempt.payload),
            wall=wall,
        )

    def note_yield(self, process: Process, yielded: AttemptYielded) -> None:
        """Write that a generator has given a value."""
        self.write(
            process,
            Kind.YIELD,
            task=yielded.key.task_id,
            run=_run_of(process, yielded.key),
            order=yielded.index,
            value=digest_of(yielded.payload),
        )

    def note_end(self, process: Process, ended: AttemptEnded) -> None:
        """Write that user code has ended."""
        if not ended.started_wall:
            return
        run = _run_of(process, ended.key)
        value = digest_of(ended.payload) if ended.kind == OUTCOME_SUCCESS else ""
        self._values[run] = value
        self.write(
            process,
            Kind.END,
            task=ended.key.task_id,
            run=run,
            what=_HOW.get(ended.kind, "expired"),
            value=value,
            error=ended.error,
        )

    # --- clients ---

    def _outcome(self, event: TaskEvent) -> dict[str, str]:
        fields = {"task": event.task_id, "status": event.status.name.lower()}
        if event.error:
            fields["error"] = event.error
        if event.status is WireStatus.SUCCESS:
            fields["value"] = "dropped" if event.value_dropped else digest_of(event.payload)
            runs = self._runs.get((event.task_id, event.started), [])
            made = [run for run in runs if self._values.get(run) == fields["value"]]
            if made or runs:
                fields["run"] = (made or runs)[0]
        return fields

    def record_client(
        self, process: Process, handle: Handle[Any, Any], asked: dict[int, str]
    ) -> Handle[Any, Any]:
        """Have what a client's machine does written."""
        facts: dict[str, dict[str, str]] = {}
        is_closed: list[bool] = []

        def recorded(event: Any, *, now: float) -> list[Any]:
            match event:
                case TaskSubmitted(spec=spec):
                    self._note_submitted(process, spec, event, facts)
                case TasksSubmitted(specs=specs):
                    for spec in specs:
                        self._note_submitted(process, spec, event, facts)
                case CancelRequested(task_id=task_id):
                    self.write(process, Kind.CANCEL, task=task_id)
                case TaskAbandoned(task_id=task_id):
                    self.write(process, Kind.CANCEL, task=task_id, what="left")
                case QueryMade(query_id=query_id, task_id=task_id):
                    asked[query_id] = task_id
                case PipeClosed() if not is_closed:
                    self.write(process, Kind.LINK, what="down")
                case ClientStopped():
                    is_closed.append(True)
                    self.write(process, Kind.LINK, what="closed")
                case _:
                    pass
            commands = handle(event, now=now)
            for command in commands:
                self._note_command(process, command, facts, asked)
            return commands

        return recorded

    def _note_submitted(
        self,
        process: Process,
        spec: TaskSpec,
        how: TaskSubmitted | TasksSubmitted,
        facts: dict[str, dict[str, str]],
    ) -> None:
        mode = "delay" if not spec.attached else "handle"
        mode = "wait" if how.wants_outcome else mode
        fact = {"task": spec.id, "name": spec.name, "mode": mode}
        facts[spec.id] = fact
        limited = min(how.budget_at, how.expires_at) < math.inf
        words = "deadline" * limited, "key" * (spec.key_ttl is not None)
        self.write(
            process,
            Kind.SUBMIT,
            digest=digest_of(spec.payload),
            what=" ".join(filter(None, words)),
            parent="" if spec.options is None else spec.options.parent,
            callback="" if spec.callback is None else spec.callback.event_id,
            **fact,
        )

    def _note_command(
        self,
        process: Process,
        command: Any,
        facts: dict[str, dict[str, str]],
        asked: dict[int, str],
    ) -> None:
        match command:
            case TaskAcknowledged(task_id=task_id):
                self.write(process, Kind.ACK, **facts[task_id])
            case TaskRejected(task_id=task_id, code=code, message=message):
                what = "unreachable" if code is None else code.name.lower()
                self.write(process, Kind.REJECT, what=what, error=message, **facts[task_id])
            case TaskEnded(task_id=task_id, event=event):
                mode = facts.get(task_id, {}).get("mode", "cancel")
                self.write(process, Kind.OUTCOME, mode=mode, **self._outcome(event))
            case ValueArrived(value=value) if not value.value_dropped:
                self.write(
                    process,
                    Kind.ITEM,
                    task=value.task_id,
                    order=value.index,
                    value=digest_of(value.payload),
                )
            case TaskTimedOut(task_id=task_id):
                self.write(process, Kind.REJECT, what="timed out", **facts[task_id])
            case QueryAnswered(query_id=query_id, event=event):
                asked.pop(query_id, None)
                self.write(process, Kind.OBSERVE, **self._outcome(event))
            case SessionOpened():
                self.write(process, Kind.LINK, what="open")
            case _:
                pass

    def record_subworker(self, process: Process, handle: Handle[Any, Any]) -> Handle[Any, Any]:
        """Have the link of a subworker written."""

        def recorded(event: Any, *, now: float) -> list[Any]:
            if isinstance(event, PipeClosed):
                self.write(process, Kind.LINK, what="down", is_own=True)
            commands = handle(event, now=now)
            for command in commands:
                if isinstance(command, SessionOpened):
                    self.write(process, Kind.LINK, what="open", is_own=True)
                    for call in process.on_session if not command.resumed else ():
                        call()
            return commands

        return recorded


def _run_of(process: Process, key: AttemptKey) -> str:
    return f"{key.task_id}/{key.epoch}.{key.attempt}@{process.pid}"


class RecordedSink:
    """Writes when attempts start and end, on their way to the link loop.

    It also sees that no more run, and no more are leased ahead, than may (S16).
    """

    def __init__(
        self, sink: LaneSink, recorder: Recorder, process: Process, kind: str, slots: int
    ) -> None:
        self._sink = sink
        self._recorder = recorder
        self._process = process
        self._kind = kind
        self._slots = slots
        self._attempts: dict[AttemptKey, Attempt] = {}
        self._running: dict[AttemptKey, None] = {}
        self._lent: dict[AttemptKey, None] = {}
        # What this session has leased, and functions of which it knows how long they take.
        self._leased: dict[AttemptKey, None] = {}
        self._measured: set[str] = set()
        process.on_session.append(self._leased.clear)

    def expect(self, attempt: Attempt) -> None:
        """Say what will run."""
        self._attempts[attempt.key] = attempt
        ahead = len(self._leased) - len(self._lent)
        if ahead >= self._slots and attempt.name not in self._measured:
            # What was given up is leased no more, although a thread may still run it.
            ahead -= sum(self._process.is_given_up(key) for key in self._leased)
            if ahead >= self._slots:
                self._complain(f"{ahead + 1} attempts were leased ahead, how long is not known")
        self._leased[attempt.key] = None

    def forget(self, keys: list[AttemptKey]) -> None:
        """Say what was taken back and will not run."""
        for key in keys:
            self._attempts.pop(key, None)
            self._leased.pop(key, None)

    def post(self, event: LaneEvent) -> None:
        """See ``LaneSink.post``."""
        if isinstance(event, AttemptStarted):
            self._running[event.key] = None
            if len(self._running) - len(self._lent) > self._slots:
                self._complain(f"{len(self._running)} attempts run at the same time")
            self._recorder.note_start(self._process, self._attempts[event.key], event.wall)
        elif isinstance(event, AttemptPaused):
            if event.is_waiting:
                self._lent[event.key] = None
            else:
                self._lent.pop(event.key, None)
        elif isinstance(event, AttemptYielded):
            self._recorder.note_yield(self._process, event)
        elif isinstance(event, AttemptEnded):
            self._measured.add(self._attempts.pop(event.key).name)
            for keys in (self._running, self._lent, self._leased):
                keys.pop(event.key, None)
            self._recorder.note_end(self._process, event)
        self._sink.post(event)

    def _complain(self, what: str) -> None:
        text = f"{what}, and the {self._kind} lane has {self._slots} slots"
        self._recorder.write(self._process, Kind.BROKEN, what="S16", error=text)


class SimulatedClient(Client):
    """A client whose calls are in the history."""

    def __init__(self, process: Process, recorder: Recorder, **settings: Any) -> None:
        super().__init__(**settings)
        self._process = process
        self._recorder = recorder

    def _open(self) -> ClientSession:
        session = super()._open()
        self._recorder.write(self._process, Kind.LINK, what="dialing")
        session._handle = self._recorder.record_client(self._process, session._handle, {})
        return session


class SimulatedSubWorker(SubWorker):
    """A subworker whose link is in the history."""

    def __init__(self, process: Process, recorder: Recorder, **settings: Any) -> None:
        super().__init__(**settings)
        self._process = process
        self._recorder = recorder

    def _new_session(self, *parts: Any) -> SubworkerSession:
        session = super()._new_session(*parts)
        attempts = session._state._attempts

        def is_given_up(key: AttemptKey) -> bool:
            held = attempts.get(key)
            return held is None or held.is_orphan

        self._process.is_given_up = is_given_up
        self._recorder.write(self._process, Kind.LINK, what="dialing", is_own=True)
        session._handle = self._recorder.record_subworker(self._process, session._handle)
        return session
