"""A control plane whose leases are in the history, and what it has left in the end."""

from __future__ import annotations

from typing import Any

from fastworker._control_plane import ControlPlaneWorker
from fastworker._core._codec import decode_body, decode_frame
from fastworker._core._link_responder import SendTo
from fastworker._core._messages import Kind as RequestKind
from fastworker._core._messages import LeaseReply, Reply
from fastworker.testing._history import Kind
from fastworker.testing._process import Process
from fastworker.testing._recording import Recorder

# What is nothing when all is quiet (B2), of SchedulerStatistics.
_OPEN = ("held", "leased", "started", "retrying", "away")


class SimulatedControlPlane(ControlPlaneWorker):
    """A control plane of a simulation."""

    def __init__(self, process: Process, recorder: Recorder, *args: Any, **settings: Any):
        super().__init__(*args, **settings)
        self._process = process
        self._recorder = recorder
        self._assigned: set[tuple[str, int, int]] = set()

    async def _open_state(self) -> None:
        await super()._open_state()
        handle = self._handle

        def recorded(event: Any, *, now: float) -> list[Any]:
            commands = handle(event, now=now)
            for command in commands:
                if isinstance(command, SendTo) and command.answers is RequestKind.LEASE:
                    self._note_lease(command.data)
            return commands

        self._handle = recorded

    def _note_lease(self, data: bytes) -> None:
        """Write which attempts are leased to whom, each once."""
        frame = decode_frame(data)
        assert isinstance(frame, Reply)
        assert self._state is not None
        session = self._state._sessions[frame.session]
        for assignment in decode_body(LeaseReply, frame.body).assignments:
            key = assignment.task_id, frame.epoch, assignment.attempt
            if key not in self._assigned:
                self._assigned.add(key)
                self._recorder.write(
                    self._process,
                    Kind.ASSIGN,
                    task=assignment.task_id,
                    name=assignment.name,
                    epoch=frame.epoch,
                    attempt=assignment.attempt,
                    priority=assignment.priority,
                    what=session.label,
                )

    def leftovers(self) -> dict[str, int]:
        """What is still open, by its name; nothing while it does not run."""
        if self._state is None:
            return {}
        known = self._state.statistics()
        counts = {name: getattr(known.tasks, name) for name in _OPEN}
        counts["ready"] = sum(known.tasks.ready)
        counts["queued_bytes"] = known.tasks.queued_bytes
        counts["callbacks"] = self._callbacks.statistics().queued
        return {name: count for name, count in counts.items() if count}
