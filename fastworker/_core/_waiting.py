"""The tasks that wait for a subworker, and which of them goes where.

Most wait in the ready queue, in strict priority and then in order. A
*suspect*, which was running when a subworker died, has to run alone: it waits
apart, and a subworker is kept free for it.
"""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Collection, Iterator

from fastworker._core._placement import Round, Takers
from fastworker._core._ready_queue import PRIORITIES, ReadyQueue
from fastworker._core._subworkers import SubworkerRecord
from fastworker._core._task_states import TaskRecord, TaskState


class WaitingTasks:
    """Holds records in state READY."""

    def __init__(self) -> None:
        self._ready = ReadyQueue()
        self._suspects: list[TaskRecord] = []  # by priority, then by sequence

    def __len__(self) -> int:
        return len(self._ready) + len(self._suspects)

    def __iter__(self) -> Iterator[TaskRecord]:
        """Every record, in no special order."""
        yield from self._ready.records()
        yield from self._suspects

    def counts(self) -> list[int]:
        """How many wait, by priority."""
        counts = self._ready.counts()
        for record in self._suspects:
            counts[record.spec.priority] += 1
        return counts

    @property
    def has_suspects(self) -> bool:
        """Whether there are any that have to run alone."""
        return bool(self._suspects)

    def add(self, record: TaskRecord) -> None:
        """Add a record at its place."""
        if record.is_solo:
            bisect.insort(self._suspects, record, key=_rank)
        else:
            self._ready.push(record)

    def discard(self, record: TaskRecord, workers: Collection[SubworkerRecord]) -> None:
        """Forget a record that was just moved out of READY, and what was kept free for it."""
        if not record.is_solo:
            self._ready.discard(record)
            return
        self._suspects.remove(record)
        _drop_reservation(record, workers)

    def remove(self, record: TaskRecord) -> None:
        """Take out a record that is still READY, and may come back."""
        if record.is_solo:
            self._suspects.remove(record)
        else:
            self._ready.remove(record)

    def check(self) -> None:
        """Assert every invariant."""
        self._ready.check()
        for record in self:
            assert record.state is TaskState.READY
            assert record.worker is None
        for record in self._suspects:
            assert record.is_solo

    # --- handing out ---

    def place(
        self,
        rounds: list[Round],
        workers: Collection[SubworkerRecord],
        avoids_careful: bool = False,
    ) -> None:
        """Lease to those that can be reached now what they may take.

        Args:
          rounds: one for each of them.
          workers: all there are; those out of reach count for the suspects.
          avoids_careful: whether functions that run at most once have to wait.
        """
        reserved = _take_reservations(workers) if self._suspects else {}
        for priority in PRIORITIES:
            if self._suspects:
                self._place_suspects(priority, rounds, workers, reserved)
            self._place_ready(priority, rounds, avoids_careful)
        for given in rounds:
            if given.worker.is_kept:
                self._place_family(given, avoids_careful)

    def _place_suspects(
        self,
        priority: int,
        rounds: list[Round],
        workers: Collection[SubworkerRecord],
        reserved: dict[str, SubworkerRecord],
    ) -> None:
        """Lease each to an idle subworker, or keep one free for it.

        They come before the other tasks of their priority, which would else
        keep every subworker from ever being idle.
        """
        hopeless: dict[str, bool] = {}
        for record in [r for r in self._suspects if r.spec.priority == priority]:
            name = record.spec.name
            if name in hopeless and record.parent is None:
                continue
            able = [w for w in workers if w.can_run_alone(record)]
            if not able:
                hopeless[name] = True
                continue
            kept = reserved.get(record.spec.id)
            idle = [g for g in rounds if g.worker in able and g.worker.is_idle_for(record)]
            if idle:
                given = min(idle, key=lambda g: (g.worker.leased_count, g.worker is not kept))
                self._suspects.remove(record)
                given.lease(record)
                given.worker.solo = record
                continue
            free = [w for w in able if w.reserved_for is None]
            if free:
                worker = min(free, key=lambda w: (w is not kept, w.leased_count, w.order))
                worker.reserved_for = record

    def _place_family(self, given: Round, avoids_careful: bool) -> None:
        """Lease to a subworker that is kept what its own attempts wait for.

        Without it they would never end, and so whoever it is kept for would never run.
        """
        worker = given.worker
        for record in sorted(worker.families(), key=_rank):
            if record.state is not TaskState.READY or record.is_solo:
                continue
            if avoids_careful and worker.is_careful(record.spec.name):
                continue
            if worker.can_take_beside(record):
                self._ready.remove(record)
                given.lease(record)

    def _place_ready(self, priority: int, rounds: list[Round], avoids_careful: bool) -> None:
        heads: list[tuple[int, str]] = []
        takers: dict[str, Takers] = {}
        for name in self._ready.names(priority):
            if avoids_careful and any(given.worker.is_careful(name) for given in rounds):
                continue
            able = Takers(name, rounds)
            if able:
                head = self._ready.head(priority, name)
                if head is not None:
                    heads.append((head.sequence, name))
                    takers[name] = able
        heapq.heapify(heads)
        while heads:
            _, name = heads[0]
            record = self._ready.head(priority, name)
            if record is None:
                heapq.heappop(heads)
                continue
            given = takers[name].least_loaded(record)
            if given is None:
                heapq.heappop(heads)
                for other in rounds:
                    other.close_lane(name)
                continue
            self._ready.pop(record)
            given.lease(record)
            if len(heads) > 1:
                following = self._ready.head(priority, name)
                if following is None:
                    heapq.heappop(heads)
                else:
                    heapq.heapreplace(heads, (following.sequence, name))


def _take_reservations(workers: Collection[SubworkerRecord]) -> dict[str, SubworkerRecord]:
    """Undo all reservations: each is made again in its turn, or is no longer right."""
    reserved: dict[str, SubworkerRecord] = {}
    for worker in workers:
        if worker.reserved_for is not None:
            reserved[worker.reserved_for.spec.id] = worker
            worker.reserved_for = None
    return reserved


def _drop_reservation(record: TaskRecord, workers: Collection[SubworkerRecord]) -> None:
    for worker in workers:
        if worker.reserved_for is record:
            worker.reserved_for = None


def _rank(record: TaskRecord) -> tuple[int, int]:
    return record.spec.priority, record.sequence
