"""What ``fastworker tasks``, ``requeue`` and ``purge`` print of an answer."""

from __future__ import annotations

import json

import pytest

from fastworker._core._messages import Ending, TaskEvent, TaskSpec, WireStatus
from fastworker._core._stored import (
    CallbackStage,
    StoredLife,
    StoredState,
    StoredTask,
    TaskRow,
    TasksPage,
)
from fastworker._core._task_questions import SHOWN_BYTES, TasksDone, Untouched, detail_of
from fastworker.cli import _task_actions
from fastworker.cli._task_filters import Filters, ago
from fastworker.cli._tasks import show, show_one

NOW = 1_000_000_000.0
ROWS = [
    TaskRow(12, "t-2", "resize", StoredState.RETRYING, 1, NOW - 90, NOW, attempts=2),
    TaskRow(
        9, "t-1", "add\x1b[2J", StoredState.FAILURE, 2, NOW - 7300, NOW, NOW, "w1", 1, "a\nb"
    ),
]


def test_a_task_is_a_line_that_does_nothing_to_a_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show(TasksPage(ROWS, more=True), as_json=False, now=NOW)
    output = capsys.readouterr()
    assert output.out.splitlines() == [
        "NUMBER  TASK  NAME        STATUS   TRIES  WORKER  AGE  ERROR",
        "12      t-2   resize      pending  2      -       2m",
        "9       t-1   add\\x1b[2J  failure  1      w1      2h   a\\nb",
    ]
    assert output.err == "fastworker: there are more: --before 9\n"


def test_json_has_what_a_line_has_and_the_next_page(capsys: pytest.CaptureFixture[str]) -> None:
    show(TasksPage(ROWS, more=True), as_json=True, now=NOW)
    shown = json.loads(capsys.readouterr().out)
    assert shown["next"] == 9
    assert shown["tasks"][1] == {
        "number": 9,
        "task_id": "t-1",
        "name": "add\x1b[2J",
        "status": "failure",
        "state": "failure",
        "priority": "normal",
        "created_at": "2001-09-08T23:45:00+00:00",
        "started_at": "2001-09-09T01:46:40+00:00",
        "changed_at": "2001-09-09T01:46:40+00:00",
        "worker_id": "w1",
        "attempts": 1,
        "error": "a\nb",
        "cancel_requested": False,
    }
    assert (shown["tasks"][0]["status"], shown["tasks"][0]["state"]) == ("pending", "retrying")


def test_one_task_is_shown_with_how_its_workers_died(
    capsys: pytest.CaptureFixture[str],
) -> None:
    spec = TaskSpec("t-1", "add", 2, 1, b"[[1],{}]", NOW)
    event = TaskEvent(
        "t-1", WireStatus.FAILURE, error="lost", traceback="one\n  two\n", ending=Ending.LOST
    )
    life = StoredLife(losses=("w1 died of SIGKILL", "w2 died"))
    task = StoredTask(3, spec, StoredState.FAILURE, life, NOW, event, 0, CallbackStage.NONE)
    show_one(detail_of(task), as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert "arguments         [[1],{}]" in lines
    at = lines.index("losses            w1 died of SIGKILL")
    assert lines[at + 1] == "                  w2 died"
    at = lines.index("traceback         one")
    assert lines[at + 1] == "                    two"


def test_large_arguments_and_values_are_left_out_and_that_is_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """B2: one answer is one frame."""
    large = b"x" * (SHOWN_BYTES + 1)
    spec = TaskSpec("t-1", "add", 2, 1, large, NOW)
    event = TaskEvent("t-1", WireStatus.SUCCESS, format=1, payload=large)
    detail = detail_of(StoredTask(3, spec, StoredState.SUCCESS, outcome=event))
    assert detail.payload == b""
    assert detail.outcome is not None
    assert detail.outcome.payload == b""
    show_one(detail, as_json=True)
    shown = json.loads(capsys.readouterr().out)
    assert (shown["is_cut"], shown["arguments"], shown["result"]) == (True, None, None)


def test_a_pickle_is_never_opened_to_be_shown(capsys: pytest.CaptureFixture[str]) -> None:
    spec = TaskSpec("t-1", "add", 2, 2, b"\x80\x04.", NOW)
    show_one(detail_of(StoredTask(3, spec)), as_json=True)
    shown = json.loads(capsys.readouterr().out)
    assert shown["arguments"] == "(3 bytes in another format)"


def test_what_was_done_and_what_was_not_are_told_apart(
    capsys: pytest.CaptureFixture[str],
) -> None:
    done = TasksDone(["a", "b"], [Untouched("c\n", "it has not ended")])
    _task_actions.show(done, "run again", as_json=False)
    output = capsys.readouterr()
    assert output.out == "2 tasks queued again\n"
    assert output.err == "fastworker: task c\\n: it has not ended\n"
    _task_actions.show(done, "forget", as_json=True)
    assert json.loads(capsys.readouterr().out) == {
        "done": ["a", "b"],
        "untouched": [{"task_id": "c\n", "reason": "it has not ended"}],
    }


def test_longer_ago_than_there_is_time_is_never_and_not_always() -> None:
    for older in (NOW, NOW + 1, 1e308, float("inf")):
        assert 0.0 < Filters(older=older).question(now=NOW, limit=1).until < 1.0
    assert Filters().question(now=NOW, limit=1).until == 0.0
    assert Filters(last=1e308).question(now=NOW, limit=1).since == 0.0
    assert Filters(last=60).question(now=NOW, limit=1).since == NOW - 60


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0s"), (0, "0s"), (59, "59s"), (61, "1m"), (7200, "2h"), (9e5, "10d")],
)
def test_an_age_is_told_in_its_largest_unit(seconds: float, text: str) -> None:
    assert ago(NOW - seconds, NOW) == text
