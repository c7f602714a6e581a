"""What ``fastworker callbacks`` prints of an answer."""

from __future__ import annotations

import json

import pytest

from fastworker._core._messages import CallbackPhase, CallbacksReply, CallbackView
from fastworker.cli._callbacks import show

ADDRESS = "tcp://127.0.0.1:9000"
VIEWS = [
    CallbackView(CallbackPhase.PARKED, ADDRESS, "e1", "t1", 10, "nobody\nthere"),
    CallbackView(CallbackPhase.QUEUED, ADDRESS, "e2", "t2", 0),
]


def reply(*, is_cut: bool = False) -> CallbacksReply:
    return CallbacksReply(7, 1, 0, 1, 4, 1, VIEWS, is_cut)


def test_numbers_come_first_and_then_one_line_for_each(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show(reply(), as_json=False)
    output = capsys.readouterr()
    assert output.out.splitlines() == [
        "7 due: 4 delivered, 1 queued, 0 retrying, 1 parked, 1 dropped",
        f"parked    {ADDRESS}  task t1  event e1  10 tries  nobody\\nthere",
        f"queued    {ADDRESS}  task t2  event e2  0 tries",
    ]
    assert output.err == ""


def test_json_has_the_numbers_and_the_callbacks(capsys: pytest.CaptureFixture[str]) -> None:
    show(reply(), as_json=True)
    shown = json.loads(capsys.readouterr().out)
    assert shown["due"] == 7
    assert shown["is_cut"] is False
    assert shown["callbacks"][0] == {
        "state": "parked",
        "address": ADDRESS,
        "event_id": "e1",
        "task_id": "t1",
        "tries": 10,
        "error": "nobody\nthere",
    }
    assert shown["callbacks"][1]["error"] is None


@pytest.mark.parametrize("as_json", [False, True])
def test_an_answer_that_was_cut_says_how_to_see_more(
    as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    show(reply(is_cut=True), as_json=as_json)
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "only the first 2 are shown" in error
    assert "--state" in error
