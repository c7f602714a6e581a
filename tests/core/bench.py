"""A subworker's machine on a bench: the test is its control plane and its lanes."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from fastworker._core._attempts import (
    OUTCOME_SUCCESS,
    AttemptEnded,
    AttemptKey,
    AttemptStarted,
)
from fastworker._core._messages import (
    Assignment,
    CallOptions,
    EndedAttempt,
    FunctionInfo,
    Kind,
    LeaseReply,
    Nothing,
    Report,
    StopOrder,
)
from fastworker._core._report_queue import STARTED_DELAY
from fastworker._core._subworker import SubworkerState
from fastworker._core._subworker_events import (
    AttemptsTakenBack,
    FrameArrived,
    LaneNews,
    TakeBack,
)
from tests.core.one_peer import OnePeer


class Bench(OnePeer):
    """A subworker; of itself it has one lane of two slots."""

    def __init__(
        self,
        *functions: FunctionInfo,
        slots: int = 2,
        kinds: tuple[str, ...] = ("thread",),
        final_timeouts: Collection[str] = (),
    ) -> None:
        count = iter(range(1, 1000))
        state = SubworkerState(
            worker_id="w",
            functions=list(functions) or [FunctionInfo("add", "thread")],
            slots=dict.fromkeys(kinds, slots),
            new_session_id=lambda: next(count).to_bytes(16, "big"),
            final_timeouts=final_timeouts,
        )
        super().__init__(state, FrameArrived)
        self.number = 0

    def lease(
        self,
        *ids: str,
        cancels: tuple[str, ...] = (),
        name: str = "add",
        grace: float | None = None,
        time_left: float | None = None,
        options: CallOptions | None = None,
    ) -> list[AttemptKey]:
        first = self.number + 1
        self.number += len(ids)
        assignments = [
            Assignment(i, 1, name, 1, b"()", time_left=time_left, options=options) for i in ids
        ]
        stops = [StopOrder(task_id, 1, grace) for task_id in cancels]
        numbers = list(range(first, self.number + 1))
        self.answer(Kind.LEASE, LeaseReply(self.number, assignments, stops, numbers))
        return [self.key(task_id) for task_id in ids]

    def key(self, task_id: str) -> AttemptKey:
        return AttemptKey(task_id, self.epoch, 1)

    def start(self, *ids: str) -> None:
        self.handle(LaneNews([AttemptStarted(self.key(i), self.now) for i in ids]))

    def end(self, *ids: str, kind: int = OUTCOME_SUCCESS, payload: bytes = b"3") -> None:
        self.handle(
            LaneNews([AttemptEnded(self.key(i), kind, 1.0, 2.0, 1.0, payload, 1) for i in ids])
        )

    def take_back(self) -> None:
        """Let the lane do as it was told."""
        keys = [key for key, r in self.state._attempts if r.started_at is None]
        if self.take(TakeBack):
            self.handle(AttemptsTakenBack(keys))

    def run(self, *ids: str, **how: Any) -> None:
        """Lease and start these, and report that."""
        self.lease(*ids, **how)
        self.start(*ids)
        self.pass_time(STARTED_DELAY)
        self.reported()

    def cancel(self, *ids: str, grace: float | None = None) -> None:
        """Have the control plane stop these."""
        self.pass_time(0.01)
        self.lease(cancels=ids, grace=grace)

    def reported(self) -> list[Report]:
        """Let every report arrive; what was in them."""
        reports: list[Report] = []
        while found := self.asked(Kind.REPORT):
            reports.append(found[0])
            self.answer(Kind.REPORT, Nothing())
        return reports

    def ended(self) -> list[EndedAttempt]:
        return [item for report in self.reported() for item in report.ended]

    def capacity(self) -> dict[str, int]:
        """What the next LEASE says."""
        capacity: dict[str, int] = self.state._capacity()
        return capacity
