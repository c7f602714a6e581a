"""The table of a task's life is complete, has no dead ends, and is kept to."""

from __future__ import annotations

import itertools
import runpy
from pathlib import Path

import pytest

from fastworker._core._messages import TaskSpec, WireStatus
from fastworker._core._task_states import (
    TASK_TRANSITIONS,
    TERMINAL_STATES,
    WIRE_STATUS,
    Step,
    TaskRecord,
    TaskState,
    content_digest,
)
from fastworker._errors import LocalProtocolError

DOCS = Path(__file__).parents[2] / "docs"
PAIRS = list(itertools.product(TaskState, Step))
FORBIDDEN = [pair for pair in PAIRS if pair not in TASK_TRANSITIONS]


def a_record(state: TaskState = TaskState.HELD, **changes: object) -> TaskRecord:
    fields = {"id": "t1", "name": "add", "priority": 2, "format": 1, "payload": b"()"}
    record = TaskRecord(TaskSpec(**(fields | changes), created=0.0), 1, b"ann")  # type: ignore[arg-type]
    record.state = state
    return record


def everything_of(record: TaskRecord) -> list[object]:
    return [getattr(record, name) for name in TaskRecord.__slots__]


@pytest.mark.parametrize(("state", "step"), FORBIDDEN, ids=lambda value: value.name)
def test_a_step_that_is_not_in_the_table_changes_nothing(state: TaskState, step: Step) -> None:
    record = a_record(state)
    before = everything_of(record)
    with pytest.raises(LocalProtocolError) as caught:
        record.step(step)
    assert everything_of(record) == before
    for part in ("t1", "'add'", state.value, step.value):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("state", "step"), list(TASK_TRANSITIONS), ids=lambda value: value.name
)
def test_a_step_in_the_table_is_taken(state: TaskState, step: Step) -> None:
    record = a_record(state)
    record.step(step)
    assert record.state is TASK_TRANSITIONS[state, step]


def test_a_terminal_state_has_no_way_out_and_every_other_state_has_one() -> None:
    leaving = {state for state, _ in TASK_TRANSITIONS}
    assert leaving == set(TaskState) - set(TERMINAL_STATES)


def test_every_state_is_reached_and_every_step_is_used() -> None:
    reached = {TaskState.HELD}
    for _ in TaskState:
        reached |= {after for (state, _), after in TASK_TRANSITIONS.items() if state in reached}
    assert reached == set(TaskState)
    assert {step for _, step in TASK_TRANSITIONS} == set(Step)


def test_from_every_state_a_task_can_end() -> None:
    ending = set(TERMINAL_STATES)
    for _ in TaskState:
        ending |= {state for (state, _), after in TASK_TRANSITIONS.items() if after in ending}
    assert ending == set(TaskState)


def test_clients_have_a_word_for_every_state() -> None:
    assert set(WIRE_STATUS) == set(TaskState)
    final = {WIRE_STATUS[state] for state in TERMINAL_STATES}
    open_ = {WIRE_STATUS[state] for state in TaskState if state not in TERMINAL_STATES}
    assert not final & open_
    assert a_record(TaskState.READY).event().status is WireStatus.PENDING


def test_attempts_are_the_leases_that_count() -> None:
    record = a_record(TaskState.LEASED)
    record.fence, record.uncounted = 5, 2
    assert record.event().attempts == 3


@pytest.mark.parametrize(
    "change", [{"name": "sub"}, {"payload": b"(1,)"}, {"priority": 1}, {"format": 2}]
)
def test_content_is_what_runs_and_how_urgent(change: dict[str, object]) -> None:
    """S4."""
    record, other = a_record(), a_record(**change)  # type: ignore[arg-type]
    assert not record.has_content(other.spec)
    assert content_digest(record.spec) != content_digest(other.spec)
    same = a_record()
    assert record.has_content(same.spec)
    assert content_digest(record.spec) == content_digest(same.spec)


def test_the_page_with_the_diagram_is_up_to_date() -> None:
    render = runpy.run_path(str(DOCS / "generate_state_machines.py"))["render"]
    page = (DOCS / "state-machines.md").read_text()
    assert page == render(), "run: python docs/generate_state_machines.py"
