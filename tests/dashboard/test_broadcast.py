"""Browsers get a snapshot and then what has changed, at a bounded rate and size."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastworker._core._overview import LaneRow, RunningTask
from fastworker.dashboard._broadcast import BEAT_SECONDS, MAX_TASKS, UPDATE_SECONDS, Broadcast
from fastworker.dashboard._history import History
from fastworker.dashboard._outbox import MAX_WAITING, MAX_WAITING_BYTES, Message, Outbox
from tests.dashboard.numbers import a_worker, an_overview

Json = dict[str, Any]


class Studio:
    """A broadcast, the clock, and what its browsers have received."""

    def __init__(self) -> None:
        self.history = History()
        self.broadcast: Broadcast[int] = Broadcast(self.history, lambda task: {"state": task})
        self.now = 100.0
        self.workers = [a_worker(1)]
        self.submitted = 0

    def sample(self, *, with_workers: bool = True, **changed: Any) -> None:
        """A second passes."""
        self.now += 1.0
        overview = an_overview(now=1_000_000.0 + self.now, submitted=self.submitted, **changed)
        point = self.history.add(overview, [], now=self.now)
        workers = self.workers if with_workers else None
        self.broadcast.note_sample(overview, workers, point)
        self.flush()

    def flush(self, seconds: float = 0.0) -> None:
        self.now += seconds
        self.broadcast.flush(now=self.now)

    def browser(self, *, tasks: bool = False) -> Outbox:
        outbox = self.broadcast.join(now=self.now)
        if tasks:
            self.broadcast.watch(outbox, tasks=True)
        return outbox


@pytest.fixture
def studio() -> Studio:
    return Studio()


def read(outbox: Outbox) -> list[Json]:
    found = []
    while (text := outbox.pop()) is not None:
        found.append(json.loads(text))
    return found


def read_one(outbox: Outbox) -> Json:
    (message,) = read(outbox)
    return message


# --- snapshot and updates ---


def test_a_browser_gets_a_snapshot_with_all_that_there_is(studio: Studio) -> None:
    studio.browser()
    for _ in range(3):
        studio.submitted += 10
        studio.sample()
    snapshot = read_one(studio.browser())
    assert snapshot["type"] == "snapshot"
    assert snapshot["overview"]["submitted"] == 30
    assert snapshot["overview"]["started_at"] == 999_000.0
    assert snapshot["overview"]["store_error"] is None
    assert snapshot["overview"]["queued"] == {"critical": 0, "high": 0, "normal": 0, "low": 0}
    assert snapshot["overview"]["rates"] == {"submitted": 10.0, "succeeded": 0, "failed": 0}
    assert set(snapshot["overview"]["latency"]) == {
        *("p50", "p99", "wait_p50", "wait_p99", "run_p50", "run_p99"),
    }
    assert [worker["worker_id"] for worker in snapshot["workers"]] == ["worker-1"]
    assert [point["submitted"] for point in snapshot["history"]] == [10.0, 10.0]


def test_a_browser_that_comes_before_the_first_numbers_gets_them_as_they_come(
    studio: Studio,
) -> None:
    browser = studio.browser()
    assert read(browser) == []
    studio.sample()
    assert read_one(browser)["type"] == "snapshot"
    studio.sample()
    assert read_one(browser)["type"] == "update"


def test_every_point_is_told_once(studio: Studio) -> None:
    studio.browser(tasks=True)
    for _ in range(3):
        studio.sample()
    # There is an update just before the next numbers come, so that they have to wait.
    studio.broadcast.note_task("a", 1)
    studio.flush(0.9)
    studio.now -= 0.8
    studio.sample()
    browser = studio.browser()
    studio.flush(UPDATE_SECONDS)
    studio.sample()
    snapshot, *updates = read(browser)
    points = snapshot["history"] + [update["point"] for update in updates]
    assert [point["at"] for point in points] == [point.at for point in studio.history.points]
    assert len(updates) == 2


def test_an_update_has_only_the_workers_that_have_changed(studio: Studio) -> None:
    studio.workers = [a_worker(1), a_worker(2), a_worker(3)]
    browser = studio.browser()
    studio.sample()
    studio.workers = [
        a_worker(1, idle=1.5),  # as much longer as time has passed
        a_worker(2, load=1, lanes=[LaneRow("trio", 10, 1, 1)], idle=1.5),
        a_worker(4, running=[RunningTask("t", "add", 1.0)]),
    ]
    studio.sample()
    _, update = read(browser)
    assert update["type"] == "update"
    assert [worker["worker_id"] for worker in update["workers"]] == ["worker-2", "worker-4"]
    assert update["workers"][0]["lanes"] == [
        {"name": "trio", "capacity": 10, "leased": 1, "running": 1}
    ]
    assert update["workers"][1]["running"][0]["task_id"] == "t"
    assert update["gone"] == ["worker-3"]


def test_a_worker_that_is_heard_of_again_and_again_is_told_now_and_then(
    studio: Studio,
) -> None:
    browser = studio.browser()
    told = 0
    for _ in range(60):
        studio.workers = [a_worker(1, idle=0.1)]
        studio.sample()
        told += sum(len(m["workers"]) for m in read(browser) if m["type"] == "update")
    assert 5 <= told <= 12


def test_all_browsers_share_the_bytes_of_a_message(studio: Studio) -> None:
    browsers = [studio.browser() for _ in range(3)]
    studio.sample()
    studio.sample()
    first, second, third = ([b.pop(), b.pop()] for b in browsers)
    assert first[0] is second[0] is third[0]
    assert first[1] is second[1] is third[1]


def test_workers_that_nobody_asked_for_are_not_shown_to_whoever_comes(studio: Studio) -> None:
    browser = studio.browser()
    studio.sample()
    studio.broadcast.leave(browser)
    studio.sample(with_workers=False)
    late = studio.browser()
    assert read(late) == []
    studio.workers = [a_worker(2)]
    studio.sample()
    assert [w["worker_id"] for w in read_one(late)["workers"]] == ["worker-2"]


def test_workers_that_were_not_asked_for_in_time_are_not_gone(studio: Studio) -> None:
    browser = studio.browser()
    studio.sample()
    studio.sample(with_workers=False)
    studio.workers = []
    studio.sample()
    _, second, third = read(browser)
    assert (second["workers"], second["gone"]) == ([], [])
    assert (third["workers"], third["gone"]) == ([], ["worker-1"])


# --- tasks ---


def test_only_browsers_that_watch_tasks_are_told_of_them(studio: Studio) -> None:
    watcher, other = studio.browser(tasks=True), studio.browser()
    studio.sample()
    read(watcher), read(other)
    studio.broadcast.note_task("a", 1)
    studio.flush(UPDATE_SECONDS)
    assert read(other) == []
    update = read_one(watcher)
    assert update["tasks"] == [{"state": 1}]
    assert update["point"] is None
    assert update["overview"]["worker_id"] == "control-plane"
    studio.broadcast.watch(watcher, tasks=False)
    studio.broadcast.note_task("b", 1)
    studio.flush(UPDATE_SECONDS)
    assert read(watcher) == []


def test_of_a_task_only_the_newest_state_is_told(studio: Studio) -> None:
    watcher = studio.browser(tasks=True)
    studio.sample()
    read(watcher)
    for state in (1, 2, 3):
        studio.broadcast.note_task("a", state)
        studio.broadcast.note_task("b", 10 + state)
    studio.flush(UPDATE_SECONDS)
    update = read_one(watcher)
    assert update["tasks"] == [{"state": 3}, {"state": 13}]
    assert update["dropped"] == 0


def test_of_too_many_tasks_the_newest_are_told_and_the_others_counted(studio: Studio) -> None:
    watcher = studio.browser(tasks=True)
    studio.sample()
    read(watcher)
    for number in range(MAX_TASKS + 50):
        studio.broadcast.note_task(str(number), number)
    studio.broadcast.note_dropped_tasks(7)
    studio.flush(UPDATE_SECONDS)
    update = read_one(watcher)
    assert [task["state"] for task in update["tasks"]] == list(range(50, MAX_TASKS + 50))
    assert update["dropped"] == 57


def test_nothing_is_gathered_for_nobody(studio: Studio) -> None:
    studio.browser()
    studio.sample()
    studio.broadcast.note_task("a", 1)
    studio.broadcast.note_dropped_tasks(3)
    watcher = studio.browser(tasks=True)
    studio.flush(UPDATE_SECONDS)
    assert [m["type"] for m in read(watcher)] == ["snapshot"]
    studio.broadcast.note_task("a", 1)
    studio.broadcast.leave(watcher)
    assert not studio.broadcast.wants_tasks
    again = studio.browser(tasks=True)
    studio.flush(UPDATE_SECONDS)
    assert [m["type"] for m in read(again)] == ["snapshot"]


# --- how often ---


@given(st.lists(st.floats(0.0, 0.4), min_size=1, max_size=200))
def test_there_are_at_most_four_updates_a_second(pauses: list[float]) -> None:
    studio = Studio()
    watcher = studio.browser(tasks=True)
    studio.sample()
    read(watcher)
    moments: list[float] = []
    for number, pause in enumerate(pauses):
        studio.broadcast.note_task(str(number), number)
        studio.now += pause
        if number % 3 == 0:
            studio.broadcast.note_sample(an_overview(), studio.workers, None)
        studio.flush()
        moments += [studio.now] * len(read(watcher))
    for first, later in itertools.pairwise(moments):
        assert later - first >= UPDATE_SECONDS - 1e-9


def test_what_is_new_is_due_a_quarter_of_a_second_after_the_last_update(
    studio: Studio,
) -> None:
    watcher = studio.browser(tasks=True)
    studio.sample()
    studio.broadcast.note_task("a", 1)
    assert studio.broadcast.due_at == studio.now + UPDATE_SECONDS
    read(watcher)
    studio.flush(UPDATE_SECONDS - 0.01)
    assert read(watcher) == []
    studio.flush(0.02)
    assert len(read(watcher)) == 1


def test_a_browser_hears_a_beat_when_nothing_is_new(studio: Studio) -> None:
    assert studio.broadcast.due_at == math.inf
    browser = studio.browser()
    studio.sample()
    read(browser)
    assert studio.broadcast.due_at == studio.now + BEAT_SECONDS
    for _ in range(3):
        studio.flush(BEAT_SECONDS)
        assert read_one(browser) == {"type": "beat"}
        studio.flush(BEAT_SECONDS / 2)
        assert read(browser) == []
        studio.now -= BEAT_SECONDS / 2


# --- the control plane does not answer ---


def test_everybody_is_told_once_that_the_control_plane_is_lost(studio: Studio) -> None:
    browser = studio.browser()
    studio.sample()
    read(browser)
    for _ in range(3):
        studio.broadcast.note_lost("no answer")
    assert read_one(browser) == {"type": "lost", "message": "no answer"}
    late = studio.browser()
    assert [m["type"] for m in read(late)] == ["snapshot", "lost"]


def test_after_a_loss_updates_go_on(studio: Studio) -> None:
    browser = studio.browser()
    studio.broadcast.note_lost("no answer")
    studio.sample()
    assert [m["type"] for m in read(browser)] == ["lost", "snapshot"]
    studio.broadcast.note_lost("no answer")
    studio.workers = [a_worker(7)]
    studio.sample(epoch=2)
    lost, update = read(browser)
    assert lost["type"] == "lost"
    assert update["gone"] == ["worker-1"]
    assert [m["type"] for m in read(studio.browser())] == ["snapshot"]


# --- browsers that do not read ---


def test_a_browser_that_does_not_read_is_given_up_and_its_messages_are_freed(
    studio: Studio,
) -> None:
    slow, quick = studio.browser(), studio.browser()
    for _ in range(MAX_WAITING + 1):
        assert not slow.is_too_slow
        studio.sample()
        assert read(quick)
    assert slow.is_too_slow
    assert slow
    assert slow.pop() is None
    studio.sample()
    assert read(quick)
    assert slow.pop() is None


@given(st.lists(st.one_of(st.integers(0, 2 * MAX_WAITING_BYTES), st.none())))
def test_what_waits_for_a_browser_is_bounded(steps: list[int | None]) -> None:
    outbox = Outbox()
    waiting: list[int] = []
    for size in steps:
        if size is None:
            assert (outbox.pop() is None) == (not waiting)
            waiting = waiting[1:]
        else:
            outbox.put(Message("x", size))
            waiting = [] if outbox.is_too_slow else [*waiting, size]
        assert len(waiting) <= MAX_WAITING
        assert sum(waiting) <= MAX_WAITING_BYTES or len(waiting) == 1
        if outbox.is_too_slow:
            return


def test_one_large_message_alone_is_no_reason_to_give_up() -> None:
    outbox = Outbox()
    outbox.put(Message("large", 10 * MAX_WAITING_BYTES))
    assert outbox.pop() == "large"
    assert not outbox.is_too_slow
