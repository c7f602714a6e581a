"""What is said about changes of tasks to those who want to hear of them.

A subscription is named by a number of its session's. Each change that it is
about gets the next number in it, from 1 on, whether or not there is room to
keep it; so a cursor says what has arrived, and what lies between it and the
first change of an answer was dropped.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from fastworker._core._messages import Count, Line, Name, Priority, ShortText
from fastworker._core._stored import StoredState, TaskRow

# A filter names at most this many tasks, and as many functions.
MAX_FILTER_NAMES: Final = 1_000
MAX_KEPT_EVENTS: Final = 10_000
MAX_INTERVAL_MS: Final = 60_000


class EventFilter(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Which tasks are meant: those to which all of this applies. Empty parts leave it open."""

    states: Annotated[list[StoredState], Meta(max_length=8)] = []
    names: Annotated[list[Name], Meta(max_length=MAX_FILTER_NAMES)] = []
    worker: ShortText = ""
    task_ids: Annotated[list[Name], Meta(max_length=MAX_FILTER_NAMES)] = []
    priorities: Annotated[list[Priority], Meta(max_length=4)] = []


class EventsAsked(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Tell the changes after ``cursor`` in subscription ``number``; the others have arrived.

    The answer comes when there is one, and no sooner than ``interval`` milliseconds
    after the answer before. ``max_kept`` changes wait to be asked for, then the oldest
    are dropped. ``generation`` is that of the latest answer, 0 if there was none: the
    cursor counts in that one only. ``ends``: nobody wants to hear any more.
    """

    number: Count
    cursor: Count = 0
    filter: EventFilter = EventFilter()
    max_kept: Annotated[int, Meta(ge=1, le=MAX_KEPT_EVENTS)] = 1_000
    interval: Annotated[int, Meta(ge=0, le=MAX_INTERVAL_MS)] = 100
    generation: Count = 0
    ends: bool = False


class EventsReply(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Changes in their order, the last of them is number ``cursor``.

    ``dropped`` came before them and after the asker's cursor. ``generation`` names the
    beginning from which changes are counted; the answer to an asker who has another one
    comes at once, and has no changes. ``problem`` says why there is no subscription.
    """

    cursor: Count
    events: list[TaskRow] = []
    dropped: Count = 0
    generation: Count = 0
    problem: Line = ""
