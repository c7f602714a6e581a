"""The models and enums have the properties, defaults and values that programs rely on."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fastworker import (
    CallbackInfo,
    SerializationFormat,
    Task,
    TaskPriority,
    TaskResult,
    TaskStatus,
)


def names(model: type[Any]) -> list[str]:
    return [field.name for field in dataclasses.fields(model)]


def test_a_new_task_is_pending_and_of_normal_priority() -> None:
    before = datetime.now(UTC)
    task = Task("id", "add")
    assert names(Task) == [
        "id", "name", "args", "kwargs", "priority", "created_at", "started_at",
        "completed_at", "status", "result", "error", "attempt", "worker_id", "deadline",
    ]  # fmt: skip
    assert (task.attempt, task.worker_id, task.deadline) == (0, None, None)
    assert (task.id, task.name, task.args, task.kwargs) == ("id", "add", (), {})
    assert (task.priority, task.status) == (TaskPriority.NORMAL, TaskStatus.PENDING)
    assert (task.started_at, task.completed_at, task.result, task.error) == (None,) * 4
    assert task.created_at.utcoffset() == timedelta(0)
    assert before <= task.created_at <= datetime.now(UTC)


def test_a_task_takes_a_list_of_arguments_and_the_name_of_a_priority() -> None:
    task = Task("id", "add", [1, 2], {"x": 3}, "high")  # type: ignore[arg-type]
    assert (task.args, task.kwargs, task.priority) == ((1, 2), {"x": 3}, TaskPriority.HIGH)
    assert Task("a", "add").kwargs is not Task("b", "add").kwargs


def test_a_result_has_its_six_properties_and_four_more() -> None:
    result = TaskResult("id", TaskStatus.FAILURE, error="ValueError: no")
    assert names(TaskResult) == [
        "task_id", "status", "result", "error", "started_at", "completed_at",
        "traceback", "worker_id", "attempts", "errors",
    ]  # fmt: skip
    assert (result.task_id, result.status, result.error) == (
        "id", TaskStatus.FAILURE, "ValueError: no",
    )  # fmt: skip
    assert (result.result, result.started_at, result.completed_at) == (None,) * 3
    assert (result.traceback, result.worker_id, result.attempts) == (None, None, 0)
    assert result.errors == []


def test_callback_information_is_an_address_and_perhaps_data() -> None:
    callback = CallbackInfo("tcp://127.0.0.1:9000")
    assert names(CallbackInfo) == ["address", "data"]
    assert (callback.address, callback.data) == ("tcp://127.0.0.1:9000", None)
    assert CallbackInfo("tcp://127.0.0.1:9000", {"a": 1}).data == {"a": 1}
    with pytest.raises(dataclasses.FrozenInstanceError):
        callback.data = {}  # type: ignore[misc]


def test_priorities_have_their_numbers_and_a_lower_one_goes_first() -> None:
    assert {member.name: member.value for member in TaskPriority} == {
        "CRITICAL": 0, "HIGH": 1, "NORMAL": 2, "LOW": 3,
    }  # fmt: skip
    assert sorted(TaskPriority)[0] is TaskPriority.CRITICAL


@pytest.mark.parametrize("value", [TaskPriority.HIGH, 1, "high", " HIGH "])
def test_a_priority_is_a_member_its_number_or_its_name(value: Any) -> None:
    assert TaskPriority.parse(value) is TaskPriority.HIGH


@pytest.mark.parametrize("value", [4, -1, True, 1.0, "urgent", None])
def test_anything_else_is_no_priority(value: Any) -> None:
    with pytest.raises(ValueError, match="use a TaskPriority"):
        TaskPriority.parse(value)


def test_statuses_are_their_names_in_lower_case() -> None:
    assert [status.name for status in TaskStatus] == [
        "PENDING", "STARTED", "SUCCESS", "FAILURE", "CANCELLED", "EXPIRED",
    ]  # fmt: skip
    assert all(status.value == status.name.lower() for status in TaskStatus)


def test_only_pending_and_started_change_again() -> None:
    going_on = [status for status in TaskStatus if not status.is_terminal]
    assert going_on == [TaskStatus.PENDING, TaskStatus.STARTED]


def test_formats_are_json_and_pickle() -> None:
    assert {each.name: each.value for each in SerializationFormat} == {
        "JSON": "json", "PICKLE": "pickle",
    }  # fmt: skip
    assert SerializationFormat.parse("Pickle") is SerializationFormat.PICKLE
    with pytest.raises(ValueError, match="use 'json' or 'pickle'"):
        SerializationFormat.parse("yaml")
