"""Which subworker gets a task: the least loaded one that may take it."""

from __future__ import annotations

import math

from fastworker._core._messages import BATCH_BYTES, Assignment
from fastworker._core._subworkers import SubworkerRecord
from fastworker._core._task_states import Step, TaskRecord


class Round:
    """What one subworker is given in one Dispatch."""

    __slots__ = ("assignments", "size", "worker")

    def __init__(self, worker: SubworkerRecord) -> None:
        self.worker = worker
        self.assignments: list[Assignment] = []
        self.size = 0

    def lease(self, record: TaskRecord) -> None:
        record.step(Step.LEASE)
        record.fence += 1
        self.worker.lease(record)
        self.assignments.append(assignment(record))
        self.size += len(record.spec.payload) + 100


def least_loaded(rounds: list[Round], name: str) -> Round | None:
    best: Round | None = None
    best_load = math.inf
    for given in rounds:
        if given.size < BATCH_BYTES and given.worker.can_take(name):
            if len(rounds) == 1:
                return given
            load = given.worker.load
            if load < best_load:
                best, best_load = given, load
    return best


def assignment(record: TaskRecord) -> Assignment:
    spec = record.spec
    return Assignment(spec.id, record.fence, spec.name, spec.format, spec.payload)
