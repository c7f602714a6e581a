"""What ``fastworker top`` shows, as a function of what the live feed has said."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, Group

from fastworker._core._overview import LaneRow, RunningTask
from fastworker.cli._top_state import MAX_POINTS, MAX_TASKS, TopState
from fastworker.cli._top_view import TopView, duration, seconds, spark
from fastworker.dashboard._history import Latency, Point, Rates
from fastworker.dashboard._status_views import overview_view, worker_view
from tests.dashboard.numbers import a_worker, an_overview

WALL = 1_000_000.0
Json = dict[str, Any]


def plain(value: Any) -> Any:
    """As it comes out of a WebSocket."""
    return msgspec.json.decode(msgspec.json.encode(value))


def overview(**changed: Any) -> Json:
    view = overview_view(
        an_overview(**changed),
        Rates(1234.5, 1200.0, 0.5),
        Latency(0.0042, 1.5, None, None, 0.0004, 0.25),
    )
    found: Json = plain(view)
    return found


def point(at: float, succeeded: float = 0.0, p99: float | None = None) -> Json:
    queued = {"critical": 0, "high": 0, "normal": 0, "low": 0}
    found: Json = plain(Point(at, 0.0, succeeded, 0.0, p99, p99, queued, 0, 1, 0))
    return found


def snapshot(*workers: Any, history: list[Json] | None = None, **changed: Any) -> Json:
    return {
        "type": "snapshot",
        "overview": overview(**changed),
        "workers": [plain(worker_view(worker)) for worker in workers],
        "history": history or [],
    }


def update(**changed: Any) -> Json:
    message = {"type": "update", "overview": overview(), "workers": [], "gone": []}
    return {**message, "point": None, "tasks": [], "dropped": 0, **changed}


def a_task(task_id: str, status: str = "success", **changed: Any) -> Json:
    moments = {
        f"{name}_at": datetime.fromtimestamp(WALL - ago, UTC).isoformat()
        for name, ago in (("created", 10), ("started", 5), ("changed", 3))
    }
    return {
        "task_id": task_id,
        "name": "add",
        "status": status,
        "worker_id": "w1",
        "error": None,
        **moments,
        **changed,
    }


def drawn(state: TopState, width: int = 120, height: int = 40, now: float = 0.0) -> str:
    lines = TopView().lines(state, width=width, height=height, now=now, wall=WALL)
    console = Console(file=io.StringIO(), width=width, height=height, color_system=None)
    console.print(Group(*lines), end="")
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert len(text.splitlines()) == len(lines) <= height  # nothing was wrapped
    return str(text)


@pytest.fixture
def state() -> TopState:
    return TopState()


def test_before_anything_was_heard_it_says_that_it_connects(state: TopState) -> None:
    assert drawn(state) == "connecting\n"


def test_rates_latencies_queues_and_ends_are_shown(state: TopState) -> None:
    state.take(
        snapshot(
            queued=[1, 22, 33_333, 4],
            retrying=5,
            held=6,
            running=7,
            succeeded=88_888,
            failed=9,
            max_queued=66_720,
            started=WALL - 7_500,
        ),
        now=0.0,
    )
    text = drawn(state)
    assert "control-plane · up 2h 5m · in memory" in text
    assert "submitted 1,234/s   succeeded 1,200/s   failed 0.5/s   running 7" in text
    assert "p50 / p99 4.2 ms / 1.5 s" in text
    assert "waiting - / -   running 0.4 ms / 250 ms" in text
    assert "critical 1   high 22   normal 33,333   low 4   full 50 %" in text
    assert "retrying 5   held 6" in text
    assert "succeeded 88,888   failed 9   cancelled 0   expired 0" in text
    assert text.splitlines()[0].endswith("live")


def test_workers_are_shown_with_lanes_and_load(state: TopState) -> None:
    lanes = [LaneRow("trio", 100, 50, 49), LaneRow("thread", 4, 0, 0)]
    state.take(
        snapshot(
            a_worker(1, lanes=lanes, load=50, capacity=104, running_count=49, idle=1.5),
            a_worker(2, status="away", is_inside=True),
        ),
        now=100.0,
    )
    text = drawn(state, now=103.0)
    (first,) = (line for line in text.splitlines() if "worker-1" in line)
    assert "active" in first
    assert "████▁▁▁▁ 50/104" in first
    assert "4.5 s" in first
    assert "trio 49/100, thread 0/4" in first
    (second,) = (line for line in text.splitlines() if "worker-2" in line)
    assert "away" in second
    assert "here" in second


def test_running_tasks_come_first_and_then_the_latest(state: TopState) -> None:
    running = [RunningTask("runs", "nap", WALL - 65.0, "trio", 0.25, "halfway")]
    state.take(snapshot(a_worker(1, running=running)), now=0.0)
    tasks = [
        a_task("old"),
        a_task("bad", "failure", error="ValueError: no luck"),
        a_task("runs", "started"),
        a_task("waits", "pending", started_at=None),
    ]
    state.take(update(tasks=tasks), now=0.0)
    lines = drawn(state).splitlines()
    begin = next(n for n, line in enumerate(lines) if line.startswith("TASK"))
    runs, waits, bad, old = lines[begin + 1 : begin + 5]
    assert runs.split()[:5] == ["runs", "nap", "started", "65.0", "s"]
    assert runs.endswith("25 % halfway")
    assert waits.split()[:5] == ["waits", "add", "pending", "10.0", "s"]
    assert bad.split()[:5] == ["bad", "add", "failure", "2.0", "s"]
    assert bad.endswith("ValueError: no luck")
    assert old.startswith("old ")


def test_of_a_task_only_its_newest_state_is_shown(state: TopState) -> None:
    state.take(snapshot(), now=0.0)
    state.take(update(tasks=[a_task("a", "started"), a_task("b")]), now=0.0)
    state.take(update(tasks=[a_task("a")]), now=0.0)
    assert list(state.tasks) == ["b", "a"]
    assert "started" not in drawn(state)


def test_updates_replace_what_changed_and_drop_who_is_gone(state: TopState) -> None:
    state.take(snapshot(a_worker(1), a_worker(2), history=[point(1.0)]), now=0.0)
    changed = plain(worker_view(a_worker(2, status="draining")))
    state.take(update(workers=[changed], gone=["worker-1"], point=point(2.0)), now=1.0)
    text = drawn(state)
    assert "worker-1" not in text
    assert "draining" in text
    assert len(state.history) == 2


def test_what_is_kept_is_bounded(state: TopState) -> None:
    state.take(snapshot(), now=0.0)
    for number in range(3 * MAX_POINTS):
        tasks = [a_task(str(number))]
        state.take(update(point=point(float(number)), tasks=tasks), now=0.0)
    assert len(state.history) == MAX_POINTS
    assert len(state.tasks) == MAX_TASKS


def test_while_it_is_disconnected_that_stands_above_what_was(state: TopState) -> None:
    state.take(snapshot(a_worker(1)), now=0.0)
    state.lose("disconnected: the connection has ended; trying again in 2 s")
    first, second, *_ = drawn(state).splitlines()
    assert first.endswith("disconnected")
    assert second == "disconnected: the connection has ended; trying again in 2 s"
    assert "worker-1" in drawn(state)
    state.take(snapshot(a_worker(1)), now=0.0)
    assert "disconnected" not in drawn(state)


def test_a_control_plane_that_does_not_answer_is_told(state: TopState) -> None:
    state.take(snapshot(), now=0.0)
    state.take({"type": "lost", "message": "the control plane does not answer"}, now=0.0)
    assert "the control plane does not answer" in drawn(state)
    state.take({"type": "beat"}, now=0.0)
    assert "the control plane does not answer" in drawn(state)
    state.take(update(), now=0.0)
    assert "does not answer" not in drawn(state)


def test_what_others_have_named_cannot_do_anything_to_the_terminal(state: TopState) -> None:
    name = "\x1b[2J[bold]evil\r\n\x07\u202e"
    running = [RunningTask(name, name, WALL, "trio", -1.0, name)]
    worker = a_worker(1, worker_id=name, lanes=[LaneRow(name, 1, 1, 1)], running=running)
    state.take(snapshot(worker, worker_id=name, store_error=name), now=0.0)
    state.take(update(tasks=[a_task(name, name=name, error=name)]), now=0.0)
    state.lose(name)
    text = drawn(state, width=200)
    assert not set("\x1b\r\x07\u202e") & set(text)
    assert "[bold]evil" in text


@given(st.integers(1, 300), st.integers(1, 60), st.integers(0, 30), st.integers(0, 30))
def test_it_fits_into_any_terminal(width: int, height: int, workers: int, tasks: int) -> None:
    state = TopState()
    rows = [a_worker(n, worker_id=f"工人-{n}" * 20) for n in range(workers)]
    state.take(snapshot(*rows, history=[point(float(n), 1.0, 0.1) for n in range(9)]), now=0.0)
    state.take(update(tasks=[a_task(f"task-{n}" * 9) for n in range(tasks)]), now=0.0)
    state.lose("disconnected " * 20)
    view = TopView()
    lines = view.lines(state, width=width, height=height, now=0.0, wall=WALL)
    assert len(lines) <= height
    assert all(line.cell_len <= width for line in lines)


def test_more_than_fits_is_counted(state: TopState) -> None:
    state.take(snapshot(*map(a_worker, range(50))), now=0.0)
    lines = drawn(state, height=24).splitlines()
    assert sum("worker-" in line for line in lines) + int(lines[-3].split()[1]) == 50
    assert lines[-3].startswith("and ")
    assert lines[-1] == "no tasks since this was opened"


def test_a_line_of_bars_shows_the_last_minutes_with_gaps() -> None:
    points = [(0.0, 1.0), (150.0, None), (299.9, 4.0), (300.0, 8.0)]
    assert spark(points, 10, "0123456789") == "         9"
    assert spark([(float(n), float(n)) for n in range(300)], 3, "0123456789") == "259"
    assert spark([(1.0, 5.0), (61.0, None), (299.0, 5.0)], 3, "ab") == "b b"
    assert spark([], 3, "ab") == "   "
    assert spark([(1.0, 0.0)], 2, "ab") == " a"


def test_a_terminal_without_unicode_gets_none(
    state: TopState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastworker.cli._output.speaks_unicode", lambda: False)
    worker = a_worker(1, worker_id="\u00fc" * 9, load=5)
    state.take(snapshot(worker, history=[point(1.0, 5.0)]), now=0.0)
    lines = TopView(has_unicode=False).lines(state, width=120, height=40, now=0.0, wall=WALL)
    assert "~" in "".join(line.plain for line in lines)  # where something was cut
    assert "".join(line.plain for line in lines).isascii()


def test_times_are_told_as_people_say_them() -> None:
    assert [seconds(v) for v in (None, 0.00042, 0.012, 1.25, 99.0, 100.0, 7300.0)] == [
        *("-", "0.4 ms", "12 ms", "1.2 s", "99.0 s", "1m 40s", "2h 1m"),
    ]
    assert duration(0.0) == "0s"
    assert duration(90_061.0) == "1d 1h"
