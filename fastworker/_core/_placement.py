"""Which subworker gets a task: the least loaded one that may take it."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence

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


class Takers:
    """Who may still take a task of one name, with the least loaded at hand.

    While work is handed out a load only grows and a free place is only taken. So the
    heap is put right where somebody comes up, and nobody else is looked at: there may be
    hundreds. Of those with the same load the first comes first.
    """

    __slots__ = ("_heap",)

    def __init__(self, name: str, rounds: Sequence[Round]) -> None:
        self._heap = [
            (given.worker.load, place, given)
            for place, given in enumerate(rounds)
            if name in given.worker.functions
        ]
        heapq.heapify(self._heap)

    def __len__(self) -> int:
        return len(self._heap)

    def least_loaded(self, record: TaskRecord) -> Round | None:
        """Who takes this task, if anybody; whoever is found full for its like is left out."""
        heap = self._heap
        passed_over: list[tuple[float, int, Round]] = []
        found: Round | None = None
        while heap:
            entry = heap[0]
            load, place, given = entry
            if len(heap) > 1:
                load_now = given.worker.load
                if load_now != load:
                    heapq.heapreplace(heap, (load_now, place, given))
                    continue
            if given.can_take(record):
                found = given
                break
            heapq.heappop(heap)
            if record.is_wary:
                # It is never sent ahead: who cannot take it may take the next.
                passed_over.append(entry)
        for entry in passed_over:
            heapq.heappush(heap, entry)
        return found
