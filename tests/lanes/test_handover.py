"""The queue between a link loop and a lane, asked directly."""

from __future__ import annotations

from fastworker._lanes._abc import Attempt, AttemptKey, LaneEvent
from fastworker._lanes._execution import Settings
from fastworker._lanes._handover import Handover
from tests.lanes.lane_world import JSON


class Events(list[LaneEvent]):
    def post(self, event: LaneEvent) -> None:
        self.append(event)


def attempt(name: str) -> Attempt:
    return Attempt(AttemptKey(name, 1, 1), name, int, b"[[],{}]", 1)


def test_an_attempt_whose_end_is_told_twice_posts_it_once() -> None:
    # As when a loop has broken and its coroutines are closed only later.
    events = Events()
    handover = Handover(Settings(events, JSON, "trio"))
    handover.submit([attempt("a")])
    execution = handover.take()
    assert execution is not None

    first = execution.lost("LaneBroken")
    handover.end(execution, first)
    handover.end(execution, execution.lost("too late"))
    assert events == [first]


def test_the_late_end_of_an_old_attempt_does_not_touch_a_new_one_of_the_same_key() -> None:
    events = Events()
    handover = Handover(Settings(events, JSON, "trio"))
    handover.submit([attempt("a")])
    old = handover.take()
    assert old is not None
    handover.end(old, old.lost("LaneBroken"))
    handover.submit([attempt("a")])
    new = handover.take()
    assert new is not None

    handover.end(old, old.lost("too late"))
    handover.end(new, new.lost("the end of the new one"))
    assert [getattr(event, "error", "") for event in events] == [
        "LaneBroken",
        "the end of the new one",
    ]
