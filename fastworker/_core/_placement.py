"""Which subworker gets a task: the least loaded one that may take it."""

from __future__ import annotations

import math

from fastworker._core._messages import BATCH_BYTES, Assignment
from fastworker._core._subworkers import SubworkerRecord
from fastworker._core._task_states import Step, TaskRecord


class Round:
    """What one subworker is given in one Dispatch."""

    __slots__ = ("assignments", "careful", "closed_lanes", "epoch", "now", "size", "worker")

    def __init__(self, worker: SubworkerRecord, epoch: int, now: float) -> None:
        self.worker = worker
        self.epoch = epoch
        self.now = now
        self.assignments: list[Assignment] = []
        self.careful: list[Assignment] = []  # not to be given before the store has it
        self.closed_lanes: dict[str, bool] = {}
        self.size = 0

    def can_take(self, record: TaskRecord) -> bool:
        if self.size >= BATCH_BYTES or not self.worker.can_take(record):
            return False
        if not self.closed_lanes:
            return True
        return self.worker.functions[record.spec.name].lane not in self.closed_lanes

    def close_lane(self, name: str) -> None:
        """A task of this name waits for its lane: nothing that stands behind it goes there.

        Else short tasks, sent ahead without end, would keep the lane full for
        ever, and a longer one of higher priority would never get in.
        """
        function = self.worker.functions.get(name)
        if function is not None:
            self.closed_lanes[function.lane] = True

    def lease(self, record: TaskRecord) -> None:
        worker, spec = self.worker, record.spec
        record.step(Step.LEASE)
        record.fence += 1
        record.fence_epoch = self.epoch
        worker.lease(record)
        is_careful = record.is_careful = worker.functions[spec.name].on_lost == "fail"
        assignment = Assignment(
            spec.id,
            record.fence,
            spec.name,
            spec.format,
            spec.payload,
            record.fence - record.uncounted,
            spec.priority,
            self._left(record.deadline_at),
            spec.options,
            spec.created,
            self._left(record.expires_at),
            record.span,
        )
        self.assignments.append(assignment)
        if is_careful or worker.is_inside:
            self.careful.append(assignment)
        self.size += len(spec.payload) + 100

    def _left(self, at: float) -> float | None:
        return None if at == math.inf else max(0.0, at - self.now)


def least_loaded(rounds: list[Round], record: TaskRecord) -> Round | None:
    """Who takes this task, if anybody; those that are full for its like are left out then."""
    if len(rounds) == 1:
        return rounds[0] if rounds[0].can_take(record) else None
    best: Round | None = None
    best_load = math.inf
    takers = 0
    for given in rounds:
        if given.can_take(record):
            takers += 1
            load = given.worker.load
            if load < best_load:
                best, best_load = given, load
    # A wary one is never sent ahead: who cannot take it may take the next.
    if takers < len(rounds) and not record.is_wary:
        rounds[:] = [given for given in rounds if given.can_take(record)]
    return best
