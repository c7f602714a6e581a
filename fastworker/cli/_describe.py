"""A task and a task function as JSON objects, the same from every command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastworker._models import TaskFunctionInfo, TaskResult
    from fastworker._registry import TaskFunction


def describe(result: TaskResult) -> dict[str, Any]:
    """All that is known of a task, in the order in which people ask."""
    return {
        "task_id": result.task_id,
        "status": result.status.value,
        "result": result.result,
        "error": result.error,
        "started_at": result.started_at,
        "completed_at": result.completed_at,
        "worker_id": result.worker_id,
        "attempts": result.attempts,
    }


def describe_absent(task_id: str, status: str) -> dict[str, Any]:
    """A task of which nothing else is known; the keys are those of :func:`describe`."""
    from fastworker._models import TaskResult, TaskStatus

    return describe(TaskResult(task_id, TaskStatus.PENDING)) | {
        "status": status,
        "attempts": None,
    }


def describe_function(function: TaskFunction) -> dict[str, Any]:
    """A task function of a module."""
    return {
        "name": function.name,
        "signature": function.signature,
        "doc": function.doc,
        "lane": function.lane,
        "on_lost": function.options.on_lost,
        "module": function.module,
    }


def describe_live(function: TaskFunctionInfo) -> dict[str, Any]:
    """A task function that workers know."""
    return {
        "name": function.name,
        "signature": function.signature,
        "doc": function.doc,
        "lane": function.lane,
        "on_lost": function.on_lost,
        "workers": function.workers,
        "worker_count": function.worker_count,
    }
