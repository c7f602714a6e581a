"""What ``fastworker cancel`` says of each outcome, without any network."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fastworker._cancel_outcome import (
    Abandoned,
    Cancelled,
    CancelOutcome,
    Completed,
    Killed,
    Lost,
    NeverStarted,
)
from fastworker._models import TaskResult, TaskStatus
from fastworker.cli._cancel import show
from fastworker.cli._errors import Exit

DONE = TaskResult("t1", TaskStatus.SUCCESS, result=[1])
FAILED = TaskResult("t1", TaskStatus.FAILURE, error="ValueError: of\x1b no use")


@pytest.mark.parametrize(
    ("outcome", "words", "facts", "code"),
    [
        (NeverStarted(), "never_started: none of its code ran", {}, Exit.OK),
        (Cancelled(), "cancelled", {"after": None}, Exit.OK),
        (Cancelled(0.25), "cancelled: it had run for 0.250 s", {"after": 0.25}, Exit.OK),
        (
            Completed(DONE),
            "completed: [1]",
            {"status": "success", "value": [1], "error": None},
            Exit.OK,
        ),
        (
            Completed(FAILED),
            "completed: failure: ValueError: of\\x1b no use",
            {"status": "failure", "value": None, "error": FAILED.error},
            Exit.OK,
        ),
        (Killed(9), "killed: its process was ended by signal 9", {"signal": 9}, Exit.OK),
        (
            Abandoned(),
            "abandoned: it does not stop and may still be running; its result is dropped",
            {},
            Exit.TASK_FAILED,
        ),
        (Lost("lost: it is gone"), "lost: it is gone", {"reason": "lost: it is gone"},
         Exit.TASK_FAILED),
    ],
)  # fmt: skip
def test_each_outcome_has_its_words_its_object_and_its_exit_code(
    outcome: CancelOutcome,
    words: str,
    facts: dict[str, Any],
    code: Exit,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert show("t1", outcome, as_json=False) == code
    assert capsys.readouterr().out == f"{words}\n"
    assert show("t1", outcome, as_json=True) == code
    said = json.loads(capsys.readouterr().out)
    assert said.pop("task_id") == "t1"
    assert said.pop("outcome") == words.partition(":")[0]
    assert said == facts
