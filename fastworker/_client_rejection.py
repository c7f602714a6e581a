"""Why a task was not queued, as its caller hears it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fastworker._core._client_events import TaskRejected
from fastworker._core._messages import RefusalCode
from fastworker._errors import (
    ConfigurationError,
    Conflict,
    ControlPlaneUnreachable,
    FastWorkerError,
    NotPermitted,
    QueueFull,
    StoreUnavailable,
    SubmitRefused,
    UnknownTask,
)


def rejection(rejected: TaskRejected, task_name: str, address: str) -> FastWorkerError:
    """Make the error.

    Args:
      rejected: what the machine says.
      task_name: of the task, empty if that is not known.
      address: where the control plane was looked for.
    """
    if rejected.code is RefusalCode.UNKNOWN_TASK:
        return UnknownTask(rejected.message, task_name=task_name)
    make = _REJECTIONS.get(rejected.code)
    if make is None:
        return ControlPlaneUnreachable(address, rejected.message)
    return make(rejected.message)


_REJECTIONS: Final[dict[RefusalCode | None, Callable[[str], FastWorkerError]]] = {
    RefusalCode.CONFLICT: Conflict,
    RefusalCode.QUEUE_FULL: QueueFull,
    RefusalCode.STOPPING: SubmitRefused,
    RefusalCode.STORE: StoreUnavailable,
    RefusalCode.NOT_PERMITTED: NotPermitted,
    RefusalCode.CALLBACK: ConfigurationError,
}
