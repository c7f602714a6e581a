"""What operators ask about tasks, and tell to be done with those that have ended.

``TasksAsked`` and ``TasksPage``, the list of tasks, stand with the rows of the
store (``_stored.py``), which answers them.
"""

from __future__ import annotations

import enum
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from fastworker._core._messages import (
    BATCH_BYTES,
    CallOptions,
    Count,
    Line,
    Name,
    ShortText,
    TaskEvent,
)
from fastworker._core._stored import (
    MAX_PAGE_ROWS,
    StoredTask,
    TaskRow,
    TasksPage,
    row_of,
)

# Arguments and values beyond this are not shown; whoever wants them asks for the result.
SHOWN_BYTES: Final = 64 * 1024
# What a row of a list weighs at most, but for its texts.
_ROW_BYTES: Final = 128


class TaskAsked(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Tell everything that is known of this task."""

    task_id: Name


class TaskDetail(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Everything that is known of a task; ``row`` is None if nothing is.

    ``format`` and ``payload`` are its arguments, ``outcome`` is its end. Of either
    the bytes are left out (``is_cut``) if they are many. ``losses`` say how workers
    died of it. ``problem`` says why there is no answer.
    """

    row: TaskRow | None = None
    format: Count = 0
    payload: bytes = b""
    options: CallOptions | None = None
    outcome: TaskEvent | None = None
    errors: list[Line] = []
    losses: list[Line] = []
    callback: Line = ""
    is_cut: bool = False
    problem: Line = ""


class TaskAction(enum.IntEnum):
    """What is to be done with tasks that have ended."""

    REQUEUE = 1  # run it again, as if it had just been submitted
    PURGE = 2  # forget it


class TasksNamed(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Do this with these tasks.

    ``newest`` is the highest number of a task that the asker has seen: what has got
    its number later is left alone. A task that is queued again gets a new number, so
    this request may be repeated, and nothing runs twice for it.
    """

    action: TaskAction
    ids: Annotated[list[Name], Meta(max_length=MAX_PAGE_ROWS)]
    newest: Count


class Untouched(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Nothing was done with this task."""

    task_id: Name
    reason: ShortText


class TasksDone(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What was done. ``problem`` says why nothing was.

    Tasks that are in neither list were too much for one answer: ask for them again.
    """

    done: list[Name] = []
    untouched: list[Untouched] = []
    problem: Line = ""


def detail_of(task: StoredTask) -> TaskDetail:
    """Everything that a row says, within what one answer may weigh."""
    spec, outcome = task.spec, task.outcome
    payload, is_cut = spec.payload, False
    if len(payload) > SHOWN_BYTES:
        payload, is_cut = b"", True
    if outcome is not None and len(outcome.payload) > SHOWN_BYTES:
        outcome = msgspec.structs.replace(outcome, payload=b"", value_dropped=True)
        is_cut = True
    return TaskDetail(
        row=row_of(task),
        format=spec.format,
        payload=payload,
        options=spec.options,
        outcome=outcome,
        errors=list(outcome.errors if outcome is not None else task.life.errors),
        losses=list(task.life.losses),
        callback="" if spec.callback is None else spec.callback.address,
        is_cut=is_cut,
    )


def cut_page(page: TasksPage) -> TasksPage:
    """As many rows as fit into a frame; the others are on the page that comes next."""
    size = 0
    for position, row in enumerate(page.rows):
        # Of text no character takes more than four bytes.
        texts = len(row.task_id) + len(row.name) + len(row.worker) + len(row.error)
        size += _ROW_BYTES + 4 * texts
        if size > BATCH_BYTES and position:
            return TasksPage(page.rows[:position], more=True)
    return page
