"""One attempt without a lane: what the lanes cannot be made to meet at will."""

from __future__ import annotations

from contextlib import nullcontext
from contextvars import Context

import pytest

from fastworker._lanes._abc import (
    OUTCOME_CANCELLED,
    OUTCOME_SUCCESS,
    Attempt,
    AttemptKey,
    AttemptStarted,
    LaneEvent,
)
from fastworker._lanes._execution import Execution, Settings
from tests.lanes.lane_world import JSON


class Events(list[LaneEvent]):
    def post(self, event: LaneEvent) -> None:
        self.append(event)


def make(events: Events, calls: list[str]) -> Execution:
    def function() -> None:
        calls.append("called")

    times = iter(range(10, 100, 10))
    settings = Settings(events, JSON, "thread", wall=lambda: 7.0, clock=lambda: next(times))
    return Execution(Attempt(AttemptKey("a", 1, 1), "f", function, b"[[],{}]", 1), settings)


def test_it_posts_its_start_and_returns_its_end() -> None:
    events, calls = Events(), list[str]()
    ended = Context().run(make(events, calls).run)

    assert events == [AttemptStarted(AttemptKey("a", 1, 1), 7.0)]
    assert calls == ["called"]
    assert (ended.kind, ended.started_wall, ended.seconds) == (OUTCOME_SUCCESS, 7.0, 10.0)


def test_cancelled_after_it_was_taken_and_before_it_began_it_never_starts() -> None:
    events, calls = Events(), list[str]()
    execution = make(events, calls)
    execution.is_cancelled = True
    ended = Context().run(execution.run)

    assert events == []
    assert calls == []
    assert (ended.kind, ended.started_wall) == (OUTCOME_CANCELLED, 0)


@pytest.mark.trio
async def test_cancelled_before_it_began_an_async_one_never_starts_either() -> None:
    events, calls = Events(), list[str]()
    execution = make(events, calls)
    execution.is_cancelled = True
    ended = await execution.run_async(nullcontext())

    assert events == []
    assert calls == []
    assert (ended.kind, ended.started_wall) == (OUTCOME_CANCELLED, 0)
