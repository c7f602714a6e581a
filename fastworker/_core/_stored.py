"""What a store keeps: a row for each task, and the names under which tasks were asked for.

Times here are wall time (seconds since 1970), since they have to mean something
to the next process; the machines have a clock of their own.
"""

from __future__ import annotations

import enum
import math
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from fastworker._core._messages import (
    MAX_BATCH_ITEMS,
    Count,
    Ending,
    Name,
    Priority,
    ShortText,
    TaskEvent,
    TaskSpec,
    WallTime,
    WireStatus,
)

# How the error of a task begins that has killed its worker again and again.
POISON: Final = "lost: its worker died "
# More rows than that are no page any more.
MAX_PAGE_ROWS: Final = 1_000


class StoredState(enum.IntEnum):
    """Where a task was when its row was written; from SUCCESS on it has ended."""

    QUEUED = 1
    LEASED = 2
    STARTED = 3
    RETRYING = 4
    SUCCESS = 5
    FAILURE = 6
    CANCELLED = 7
    EXPIRED = 8

    @property
    def is_terminal(self) -> bool:
        """Whether nothing comes after it."""
        return self >= StoredState.SUCCESS


OPEN_STATES: Final = (
    StoredState.QUEUED,
    StoredState.LEASED,
    StoredState.STARTED,
    StoredState.RETRYING,
)
ENDED_STATES: Final = (
    StoredState.SUCCESS,
    StoredState.FAILURE,
    StoredState.CANCELLED,
    StoredState.EXPIRED,
)
STATE_OF_STATUS: Final = {
    WireStatus.SUCCESS: StoredState.SUCCESS,
    WireStatus.FAILURE: StoredState.FAILURE,
    WireStatus.CANCELLED: StoredState.CANCELLED,
    WireStatus.EXPIRED: StoredState.EXPIRED,
}


class CallbackStage(enum.IntEnum):
    """Whether somebody is still to be told of a task's end."""

    NONE = 0
    DUE = 1
    SETTLED = 2  # told, or given up


class StoredLife(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What has become of a task so far, as ``TaskRecord`` has it.

    ``holder`` names the session that has it leased, in a way that tells nobody
    the session's secret; empty for lanes of the control plane's own process,
    which end with it. ``is_careful``: it must not run twice (on_lost="fail").
    ``is_kept``: somebody has submitted it too who is gone.
    """

    fence: int = 0
    fence_epoch: int = 0
    uncounted: int = 0
    failures: int = 0
    holder: bytes = b""
    worker: str = ""
    started: float = 0.0
    expires_at: float = math.inf
    deadline_at: float = math.inf
    retry_at: float = math.inf
    errors: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()
    last_ending: Ending = Ending.NEVER_STARTED
    loss: str = ""
    is_solo: bool = False
    is_wary: bool = False
    is_cancel_requested: bool = False
    is_careful: bool = False
    is_kept: bool = False


NEW_LIFE: Final = StoredLife()


class StoredTask(msgspec.Struct, frozen=True, gc=False):
    """A task's row.

    ``sequence`` is its number in the order of submission, unique for ever.
    ``changed`` is when it came to its state. ``outcome`` is None until it has
    ended, ``content`` then tells its content (see ``content_digest``).
    """

    sequence: int
    spec: TaskSpec
    state: StoredState = StoredState.QUEUED
    life: StoredLife = NEW_LIFE
    changed: float = 0.0
    outcome: TaskEvent | None = None
    content: int = 0
    callback: CallbackStage = CallbackStage.NONE


class StoredKey(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An idempotency key: until ``expires_at`` it stands for this task.

    ``content`` tells what was asked for under it.
    """

    key: str
    task_id: str
    content: int
    expires_at: float


class Changes(msgspec.Struct, frozen=True, gc=False):
    """One transaction.

    Of a task in ``updated`` everything but ``spec`` may have changed; no task is
    in both lists. ``called_back`` are ids of tasks of whose end everybody has
    been told. ``purged`` are ids of ended tasks to be forgotten, before anything else
    happens: their ids may be used anew.
    """

    created: list[StoredTask] = []
    updated: list[StoredTask] = []
    called_back: list[str] = []
    keys: list[StoredKey] = []
    dropped_keys: list[str] = []
    purged: list[str] = []

    def __bool__(self) -> bool:
        return bool(
            self.created
            or self.updated
            or self.called_back
            or self.keys
            or self.dropped_keys
            or self.purged
        )


class TasksAsked(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Which tasks are wanted: those to which all of this applies, the newest first.

    ``before`` is the sequence number of the last row of the page before this one,
    0 for the first page. Empty lists and texts leave a thing open; ``since`` and
    ``until`` are about when a task was created. ``text`` is part of its id or name, of
    which upper and lower case of A to Z are the same. ``is_poison``: it has killed its
    worker again and again.
    """

    states: Annotated[list[StoredState], Meta(max_length=8)] = []
    name: ShortText = ""
    worker: ShortText = ""
    priorities: Annotated[list[Priority], Meta(max_length=4)] = []
    since: WallTime = 0.0
    until: WallTime = 0.0
    before: Count = 0
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE_ROWS)] = 100
    text: ShortText = ""
    is_poison: bool = False


class TaskRow(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A task as a list of tasks shows it; without its arguments and its value."""

    sequence: Count
    task_id: Name
    name: Name
    state: StoredState
    priority: Priority
    created: WallTime
    changed: WallTime
    started: WallTime = 0.0
    worker: ShortText = ""
    attempts: Count = 0
    error: str = ""
    is_cancel_requested: bool = False


class TasksPage(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Rows, the newest first; ``more`` may come after the last of them.

    ``problem`` says why there is no answer. ``reached`` is not 0 if the search has ended
    early: everything from that number on was looked at.
    """

    rows: Annotated[list[TaskRow], Meta(max_length=MAX_BATCH_ITEMS)]
    more: bool = False
    problem: str = ""
    reached: Count = 0

    @property
    def following(self) -> int:
        """Before which number the next page begins; 0 if there is none."""
        if not self.more:
            return 0
        return self.reached or (self.rows[-1].sequence if self.rows else 0)


def has_text(task_id: str, name: str, text: str) -> bool:
    """Whether an id or a name has this text, as ``TasksAsked`` means it."""
    wanted = text.encode().lower()  # of bytes only A to Z have a lower case
    return wanted in task_id.encode().lower() or wanted in name.encode().lower()


def row_of(task: StoredTask) -> TaskRow:
    """What a list of tasks shows of this one."""
    life, outcome = task.life, task.outcome
    if outcome is not None:
        error, started, worker = outcome.error, outcome.started, outcome.worker_id
        attempts = outcome.attempts
    else:
        error = life.errors[-1] if life.errors else life.loss
        started, worker = life.started, life.worker
        attempts = life.fence - life.uncounted
    return TaskRow(
        sequence=task.sequence,
        task_id=task.spec.id,
        name=task.spec.name,
        state=task.state,
        priority=task.spec.priority,
        created=task.spec.created,
        changed=task.changed,
        started=started,
        worker=worker,
        attempts=attempts,
        error=error[:4096],
        is_cancel_requested=life.is_cancel_requested,
    )
