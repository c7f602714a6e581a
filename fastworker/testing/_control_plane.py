"""A control plane whose decisions are in the history: what it may lease, and what it leases.

Callbacks that it gives up are in it, too, and what it holds when all is quiet.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import ExitStack
from typing import Any

from fastworker._control_plane import ControlPlaneWorker
from fastworker._core._callback_events import Settled
from fastworker._core._control_plane_events import Port
from fastworker._core._messages import Assignment
from fastworker._core._placement import Round
from fastworker._core._subworkers import SubworkerRecord
from fastworker._core._task_states import TaskRecord
from fastworker._core._waiting import WaitingTasks
from fastworker._models import TaskPriority
from fastworker._transport._abc import Listener
from fastworker.testing._history import Kind
from fastworker.testing._process import Process
from fastworker.testing._recording import Recorder


class RecordedWaiting(WaitingTasks):
    """The tasks that wait; each that comes, goes or is leased is written down."""

    def __init__(self, waiting: WaitingTasks, recorder: Recorder, process: Process) -> None:
        super().__init__()
        self._ready, self._suspects = waiting._ready, waiting._suspects
        self._recorder = recorder
        self._process = process
        for record in sorted(self, key=lambda record: record.sequence):
            self._note_ready(record)

    def add(self, record: TaskRecord) -> None:
        """Add a record at its place."""
        self._note_ready(record)
        super().add(record)

    def discard(self, record: TaskRecord, workers: Collection[SubworkerRecord]) -> None:
        """Forget a record that was just moved out of READY."""
        self._recorder.write(self._process, Kind.UNREADY, task=record.spec.id)
        super().discard(record, workers)

    def remove(self, record: TaskRecord) -> None:
        """Take out a record that is still READY, and may come back."""
        self._recorder.write(self._process, Kind.UNREADY, task=record.spec.id)
        super().remove(record)

    def place(
        self,
        rounds: list[Round],
        workers: Collection[SubworkerRecord],
        avoids_careful: bool = False,
    ) -> None:
        """Lease to those that can be reached now what they may take."""
        super().place(rounds, workers, avoids_careful)
        for given in rounds:
            worker = given.worker
            for one in given.assignments:
                self._recorder.write(
                    self._process,
                    Kind.GIVEN,
                    task=one.task_id,
                    epoch=given.epoch,
                    attempt=one.attempt,
                    what=worker.label,
                    # Only who is waited for gets in there, whatever else is ready.
                    mode="kept" if worker.is_kept and self._is_below(worker, one) else "",
                )

    def _is_below(self, worker: SubworkerRecord, given: Assignment) -> bool:
        return any(record.spec.id == given.task_id for record in worker.families())

    def _note_ready(self, record: TaskRecord) -> None:
        self._recorder.write(
            self._process,
            Kind.READY,
            task=record.spec.id,
            name=record.spec.name,
            order=record.sequence,
            what=TaskPriority(record.spec.priority).name.lower(),
            mode="alone" if record.is_solo else "",
        )


class SimulatedControlPlane(ControlPlaneWorker):
    """A control plane whose decisions are in the history."""

    def __init__(self, process: Process, recorder: Recorder, **settings: Any) -> None:
        super().__init__(**settings)
        self._process = process
        self._recorder = recorder

    def _listen(self, stack: ExitStack) -> list[tuple[Port, Listener]]:
        listeners = super()._listen(stack)
        state, handle = self._callbacks._state, self._callbacks._handle

        def recorded(event: Any, *, now: float) -> list[Any]:
            before = len(state._parked) + state._dropped
            commands = handle(event, now=now)
            more = len(state._parked) + state._dropped - before
            given_up = list(state._parked)[-more:] if more else []
            for parked in given_up:
                self._recorder.write(
                    self._process,
                    Kind.PARKED,
                    task=parked.task_id,
                    callback=parked.event_id,
                    attempt=parked.tries,
                    error=parked.error,
                )
            over = {parked.task_id for parked in given_up}
            for command in commands:
                for task_id in command.task_ids if isinstance(command, Settled) else ():
                    if task_id not in over:
                        self._recorder.write(self._process, Kind.DELIVERED, task=task_id)
            return commands

        self._callbacks._handle = recorded
        return listeners

    async def _open_state(self) -> None:
        await super()._open_state()
        assert self._state is not None
        tasks = self._state.scheduler.open_tasks
        tasks.waiting = RecordedWaiting(tasks.waiting, self._recorder, self._process)

    def held(self) -> dict[str, int]:
        """What it still has of tasks and of clients, by name."""
        statistics = self._statistics()
        if statistics is None:
            return {}
        tasks, callbacks = statistics.tasks, statistics.callbacks
        assert self._state is not None
        scheduler = self._state.scheduler
        return {
            "tasks held": tasks.held,
            "tasks ready": sum(tasks.ready),
            "tasks leased": tasks.leased + tasks.started + tasks.away,
            "tasks retrying": tasks.retrying,
            "bytes of tasks": tasks.queued_bytes,
            "bytes for clients": statistics.outbox_bytes,
            "clients": statistics.clients,
            "callbacks": callbacks.queued,
            "connections to listeners": callbacks.connections,
            "clients with tasks": len(scheduler.open_tasks.clients),
            "families": len(scheduler.open_tasks.families.children),
            "alarms": len(scheduler.open_tasks._alarms),
            "changes for the store": len(scheduler.changes.ids()),
        }
