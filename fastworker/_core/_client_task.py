"""A task as its client sees it: how far it has come, and who wants what of it."""

from __future__ import annotations

import enum
import math
from typing import Final

import msgspec

from fastworker._core._client_cancels import Cancel
from fastworker._core._messages import TaskEvent, TaskSpec


class Progress(enum.Enum):
    """How far a task has come on its way to the control plane."""

    UNSENT = 1
    SENT = 2
    HELD = 3  # the control plane has it; whether it is queued is still open
    ACKNOWLEDGED = 4


# The control plane has it.
ACCEPTED: Final = (Progress.HELD, Progress.ACKNOWLEDGED)


class Batch(msgspec.Struct, eq=False):
    """Tasks that were handed in at once, and have one deadline for their acknowledgements."""

    number: int
    ids: list[str]
    missing: int  # acknowledgements


class ClientTask(msgspec.Struct, eq=False, gc=False):
    """One that was submitted here; or is another's, and is to be cancelled from here."""

    event: TaskEvent  # the latest news
    spec: TaskSpec | None  # until acknowledged
    wants_outcome: bool
    progress: Progress = Progress.UNSENT
    is_own: bool = True
    is_shared: bool = False
    is_awaited: bool = True  # somebody waits for the answer to its SUBMIT
    is_abandoned: bool = False
    cancel: Cancel | None = None  # once it is to be cancelled
    early: TaskEvent | None = None  # its end, before its SUBMIT is answered
    losses: int = 0
    call_id: int = 0  # of the SUBMIT that it went with last
    waits_for_room: bool = False
    expires_at: float = math.inf
    budget_at: float = math.inf
    batch: Batch | None = None  # of those that have not been acknowledged
    keeps_outcome: bool = True

    def to_send(self, now: float) -> TaskSpec:
        """The task as it is submitted at this moment."""
        assert self.spec is not None
        if self.expires_at == self.budget_at == math.inf:
            return self.spec
        self.spec = msgspec.structs.replace(
            self.spec,
            expires=_left(self.expires_at, now),
            budget=_left(self.budget_at, now),
        )
        return self.spec


def _left(at: float, now: float) -> float | None:
    return None if at == math.inf else max(0.0, at - now)
