"""The control plane in numbers: for its own process, and for operators."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from fastworker._core._callbacks import CallbackStatistics
from fastworker._core._durability_barrier import DurabilityBarrier
from fastworker._core._listener_gate import GateStatistics
from fastworker._core._messages import Role
from fastworker._core._overview import About, Overview
from fastworker._core._scheduler import Scheduler, SchedulerStatistics
from fastworker._core._sessions import Session


class ControlPlaneStatistics(msgspec.Struct, frozen=True):
    """A snapshot. ``callbacks`` are the shell's, which sends them, and ``admission`` too."""

    epoch: int
    clients: int
    tasks: SchedulerStatistics
    outbox_bytes: int
    kept_bytes: int
    malformed_frames: int
    closed_sessions: int
    lost_workers: int
    callbacks: CallbackStatistics = CallbackStatistics()
    admission: GateStatistics = GateStatistics()


class ControlPlaneFigures:
    """See the module's first lines. The machine counts here what goes wrong with peers.

    Args:
      sessions: those that live, by key.
      scheduler: the machine behind them.
      barrier: which knows the store's troubles.
      epoch, worker_id, about: what operators are told of the control plane.
    """

    def __init__(
        self,
        sessions: Mapping[bytes, Session],
        *,
        scheduler: Scheduler,
        barrier: DurabilityBarrier,
        epoch: int,
        worker_id: str,
        about: About,
    ) -> None:
        self._sessions = sessions
        self._scheduler = scheduler
        self._barrier = barrier
        self._epoch = epoch
        self._worker_id = worker_id
        self._about = about
        self.malformed_frames = 0
        self.closed_sessions = 0
        self.lost_workers = 0

    def statistics(self) -> ControlPlaneStatistics:
        """Return a snapshot."""
        sessions = self._sessions.values()
        return ControlPlaneStatistics(
            epoch=self._epoch,
            clients=sum(1 for s in sessions if s.role is Role.CLIENT),
            tasks=self._scheduler.statistics(),
            outbox_bytes=sum(session.outbox.bytes for session in sessions),
            kept_bytes=sum(session.link.kept_bytes for session in sessions),
            malformed_frames=self.malformed_frames,
            closed_sessions=self.closed_sessions,
            lost_workers=self.lost_workers,
        )

    def overview(self, *, is_draining: bool, now: float) -> Overview:
        """Everything in numbers, all of one moment."""
        known = self.statistics()
        tasks, about = known.tasks, self._about
        max_queued, max_queued_bytes = self._scheduler.bounds
        return Overview(
            worker_id=self._worker_id,
            version=about.version,
            epoch=self._epoch,
            now=now + self._scheduler.wall_offset,
            started=about.started,
            store=about.store[:4096],
            is_durable=self._barrier.is_durable,
            store_error=self._barrier.store_error[:4096],
            is_draining=is_draining,
            submitted=tasks.submitted,
            refused=tasks.refused,
            held=tasks.held,
            queued=tasks.ready,
            leased=tasks.leased,
            running=tasks.started,
            away=tasks.away,
            retrying=tasks.retrying,
            succeeded=tasks.succeeded,
            failed=tasks.failed,
            cancelled=tasks.cancelled,
            expired=tasks.expired,
            queued_bytes=tasks.queued_bytes,
            max_queued=max_queued,
            max_queued_bytes=max_queued_bytes,
            clients=known.clients,
            workers=len(tasks.subworkers),
            functions=self._scheduler.live_function_count,
            stale_reports=tasks.stale_reports,
            malformed_frames=known.malformed_frames,
            closed_sessions=known.closed_sessions,
            lost_workers=known.lost_workers,
        )
