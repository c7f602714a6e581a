"""FastWorker: a task queue with no broker to run, structured from end to end.

Public names are loaded when they are first used (PEP 562), so that a module of
task functions, a task process or ``--help`` pays for no event loop and no
sockets. Type checkers read the imports below instead.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastworker._cancel_outcome import Abandoned as Abandoned
    from fastworker._cancel_outcome import Cancelled as Cancelled
    from fastworker._cancel_outcome import CancelOutcome as CancelOutcome
    from fastworker._cancel_outcome import Completed as Completed
    from fastworker._cancel_outcome import Killed as Killed
    from fastworker._cancel_outcome import Lost as Lost
    from fastworker._cancel_outcome import NeverStarted as NeverStarted
    from fastworker._client import Client as Client
    from fastworker._control_plane import ControlPlaneWorker as ControlPlaneWorker
    from fastworker._credentials import AuthTokens as AuthTokens
    from fastworker._errors import AddressInUse as AddressInUse
    from fastworker._errors import AuthenticationError as AuthenticationError
    from fastworker._errors import ClientBroken as ClientBroken
    from fastworker._errors import ClientClosed as ClientClosed
    from fastworker._errors import ConfigurationError as ConfigurationError
    from fastworker._errors import Conflict as Conflict
    from fastworker._errors import ControlPlaneUnreachable as ControlPlaneUnreachable
    from fastworker._errors import FastWorkerError as FastWorkerError
    from fastworker._errors import ForkedClient as ForkedClient
    from fastworker._errors import LinkBroken as LinkBroken
    from fastworker._errors import LinkClosed as LinkClosed
    from fastworker._errors import LinkError as LinkError
    from fastworker._errors import LocalProtocolError as LocalProtocolError
    from fastworker._errors import NotDecodable as NotDecodable
    from fastworker._errors import NotEncodable as NotEncodable
    from fastworker._errors import NotPermitted as NotPermitted
    from fastworker._errors import PayloadTooLarge as PayloadTooLarge
    from fastworker._errors import ProtocolError as ProtocolError
    from fastworker._errors import QueueFull as QueueFull
    from fastworker._errors import RegistrationError as RegistrationError
    from fastworker._errors import RemoteProtocolError as RemoteProtocolError
    from fastworker._errors import ResultExpired as ResultExpired
    from fastworker._errors import StoreError as StoreError
    from fastworker._errors import StoreUnavailable as StoreUnavailable
    from fastworker._errors import SubmitError as SubmitError
    from fastworker._errors import SubmitRefused as SubmitRefused
    from fastworker._errors import TaskCancelled as TaskCancelled
    from fastworker._errors import TaskError as TaskError
    from fastworker._errors import TaskExpired as TaskExpired
    from fastworker._errors import TaskFailed as TaskFailed
    from fastworker._errors import TaskLost as TaskLost
    from fastworker._errors import TaskNotFound as TaskNotFound
    from fastworker._errors import TaskTimedOut as TaskTimedOut
    from fastworker._errors import UnknownTask as UnknownTask
    from fastworker._lanes._context import check_cancelled as check_cancelled
    from fastworker._lanes._context import current_task as current_task
    from fastworker._lanes._context import progress as progress
    from fastworker._lanes._context import time_left as time_left
    from fastworker._local import local as local
    from fastworker._models import CallbackInfo as CallbackInfo
    from fastworker._models import SerializationFormat as SerializationFormat
    from fastworker._models import Task as Task
    from fastworker._models import TaskChange as TaskChange
    from fastworker._models import TaskFunctionInfo as TaskFunctionInfo
    from fastworker._models import TaskPriority as TaskPriority
    from fastworker._models import TaskResult as TaskResult
    from fastworker._models import TaskStatus as TaskStatus
    from fastworker._registry import task as task
    from fastworker._submitter import ClientWithOptions as ClientWithOptions
    from fastworker._subworker import SubWorker as SubWorker
    from fastworker._sync_client import SyncClient as SyncClient
    from fastworker._sync_events import SyncEventStream as SyncEventStream
    from fastworker._sync_group import SyncTaskGroup as SyncTaskGroup
    from fastworker._sync_handle import SyncTaskHandle as SyncTaskHandle
    from fastworker._sync_stream import SyncStream as SyncStream
    from fastworker._sync_submitter import SyncClientWithOptions as SyncClientWithOptions
    from fastworker._task_events import EventStream as EventStream
    from fastworker._task_group import TaskGroup as TaskGroup
    from fastworker._task_handle import Progress as Progress
    from fastworker._task_handle import TaskHandle as TaskHandle
    from fastworker._task_stream import Stream as Stream
    from fastworker._tls import TlsSettings as TlsSettings

    __version__: str

__all__ = [
    # tasks
    "task",
    "check_cancelled",
    "current_task",
    "progress",
    "time_left",
    # components
    "Client",
    "ControlPlaneWorker",
    "SubWorker",
    "SyncClient",
    "local",
    "AuthTokens",
    "TlsSettings",
    # what clients give
    "ClientWithOptions",
    "TaskGroup",
    "TaskHandle",
    "Stream",
    "Progress",
    "EventStream",
    "SyncClientWithOptions",
    "SyncTaskGroup",
    "SyncStream",
    "SyncTaskHandle",
    "SyncEventStream",
    # what a cancel has come to
    "CancelOutcome",
    "NeverStarted",
    "Cancelled",
    "Completed",
    "Killed",
    "Abandoned",
    "Lost",
    # models
    "CallbackInfo",
    "SerializationFormat",
    "Task",
    "TaskChange",
    "TaskFunctionInfo",
    "TaskPriority",
    "TaskResult",
    "TaskStatus",
    # errors
    "FastWorkerError",
    "ConfigurationError",
    "AddressInUse",
    "StoreError",
    "RegistrationError",
    "ProtocolError",
    "LocalProtocolError",
    "RemoteProtocolError",
    "LinkError",
    "ControlPlaneUnreachable",
    "LinkBroken",
    "AuthenticationError",
    "LinkClosed",
    "ClientClosed",
    "ClientBroken",
    "ForkedClient",
    "NotPermitted",
    "SubmitError",
    "UnknownTask",
    "NotEncodable",
    "PayloadTooLarge",
    "SubmitRefused",
    "QueueFull",
    "StoreUnavailable",
    "Conflict",
    "NotDecodable",
    "TaskError",
    "TaskFailed",
    "TaskTimedOut",
    "TaskExpired",
    "TaskNotFound",
    "TaskCancelled",
    "TaskLost",
    "ResultExpired",
    # about
    "__version__",
]

# Where each name lives; everything else that is public is an error.
_HOMES = {
    "task": "_registry",
    "check_cancelled": "_lanes._context",
    "current_task": "_lanes._context",
    "progress": "_lanes._context",
    "time_left": "_lanes._context",
    "Client": "_client",
    "ClientWithOptions": "_submitter",
    "TaskGroup": "_task_group",
    "TaskHandle": "_task_handle",
    "Stream": "_task_stream",
    "Progress": "_task_handle",
    "EventStream": "_task_events",
    "CancelOutcome": "_cancel_outcome",
    "NeverStarted": "_cancel_outcome",
    "Cancelled": "_cancel_outcome",
    "Completed": "_cancel_outcome",
    "Killed": "_cancel_outcome",
    "Abandoned": "_cancel_outcome",
    "Lost": "_cancel_outcome",
    "ControlPlaneWorker": "_control_plane",
    "SubWorker": "_subworker",
    "AuthTokens": "_credentials",
    "TlsSettings": "_tls",
    "SyncClient": "_sync_client",
    "SyncClientWithOptions": "_sync_submitter",
    "SyncTaskGroup": "_sync_group",
    "SyncStream": "_sync_stream",
    "SyncEventStream": "_sync_events",
    "SyncTaskHandle": "_sync_handle",
    "local": "_local",
    "CallbackInfo": "_models",
    "SerializationFormat": "_models",
    "Task": "_models",
    "TaskChange": "_models",
    "TaskFunctionInfo": "_models",
    "TaskPriority": "_models",
    "TaskResult": "_models",
    "TaskStatus": "_models",
}

# Hidden from type checkers, which would take any name for an existing one.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name == "__version__":
            from fastworker._version import installed_version

            value: object = installed_version()
        elif name in __all__:
            module = import_module(f"fastworker.{_HOMES.get(name, '_errors')}")
            value = getattr(module, name)
        else:
            raise AttributeError(f"module 'fastworker' has no attribute {name!r}")
        globals()[name] = value  # the next access finds it without coming here
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
