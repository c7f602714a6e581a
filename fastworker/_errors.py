"""The whole error tree on one screen.

Errors say whose fault it was: yours (``ValueError``, ``ConfigurationError``,
``ClientClosed``), the world's (``LinkError``), the peer's
(``RemoteProtocolError``) or the task's (``TaskError``). This module imports
nothing, so every layer may raise from it.
"""

from __future__ import annotations


class FastWorkerError(Exception):
    """Base class of every error that FastWorker raises on purpose."""

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions are rebuilt by their __init__, which some of ours build
        # the message in: unpickled errors would fail, or say it twice.
        return _rebuild, (type(self), self.args), self.__dict__


def _rebuild(kind: type[FastWorkerError], args: tuple[object, ...]) -> FastWorkerError:
    return kind.__new__(kind, *args)


class ConfigurationError(FastWorkerError, ValueError):
    """A setting cannot be used. The message shows the value and what would do."""


class AddressInUse(ConfigurationError):
    """An address to listen on is taken by another program."""

    def __init__(self, address: str) -> None:
        self.address = address
        super().__init__(
            f"{address} is in use by another program; stop it or choose another address"
        )


class StoreError(ConfigurationError):
    """A store cannot be used, and waiting would not help; the message says what would."""


class RegistrationError(FastWorkerError, ValueError):
    """A function cannot be a task, or its name belongs to another function."""


class ProtocolError(FastWorkerError):
    """A rule of the wire or of a state machine was broken."""


class LocalProtocolError(ProtocolError):
    """We broke the rule: a bug here, or a call at the wrong time. Nothing changed."""


class RemoteProtocolError(ProtocolError):
    """The peer broke the rule. Its pipe is dropped; others are served on."""


class LinkError(FastWorkerError):
    """The network failed; ``__cause__`` has the transport's own error, if any."""


class ControlPlaneUnreachable(LinkError):
    """No control plane answered in time."""

    def __init__(self, address: str, detail: str) -> None:
        self.address = address
        super().__init__(
            f"no control plane answered at {address}: {detail}. "
            f"Start one with 'fastworker control-plane', or check the address."
        )


class LinkBroken(LinkError):
    """The control plane answered, and will not speak with this peer."""


class AuthenticationError(LinkBroken):
    """One side did not prove who it is, so nothing was said."""


class LinkClosed(LinkError):
    """The link was closed on this side while, or before, it was used."""


class ClientClosed(FastWorkerError):
    """The client is not running: it was never started, or it has been stopped."""


class ClientBroken(FastWorkerError):
    """The client's background work failed; ``__cause__`` has the reason."""


class ForkedClient(FastWorkerError):
    """A process that was forked from one with open sockets used them, or wants its own."""

    def __init__(self, owner_pid: int, pid: int) -> None:
        super().__init__(
            f"process {pid} was forked from {owner_pid}, which had opened sockets by then, and "
            f"can neither use those nor open others; fork before the first client starts, or "
            f"start the process by spawn or exec"
        )


class NotPermitted(FastWorkerError):
    """The role that this peer has proved may not do this; the message says which may."""


class SubmitError(FastWorkerError):
    """A task was not queued. Submitting it again is safe."""


class UnknownTask(SubmitError):
    """No worker has registered this task name."""

    def __init__(self, message: str, *, task_name: str = "") -> None:
        self.task_name = task_name
        super().__init__(message)


class NotEncodable(SubmitError, TypeError):
    """An argument or result cannot travel in the chosen serialization format."""


class NotDecodable(FastWorkerError, ValueError):
    """Bytes are not what the stated serialization format would have produced."""


class PayloadTooLarge(SubmitError, ValueError):
    """A task's arguments are larger than one message may be."""

    def __init__(self, what: str, size: int, limit: int) -> None:
        self.size = size
        self.limit = limit
        super().__init__(
            f"{what}: {size:,} bytes encoded, the limit is {limit:,}; "
            f"pass a path or a key instead of the data"
        )


class SubmitRefused(SubmitError):
    """The control plane refused the task; the message is its reason."""


class QueueFull(SubmitError):
    """The control plane holds as many tasks as it may; try again later."""


class StoreUnavailable(SubmitError):
    """The store cannot be written or read now, so nothing is accepted; try again later."""


class Conflict(SubmitError):
    """This task id is already used by a task with other content."""


class TaskError(FastWorkerError):
    """A task did not end with a value.

    ``traceback`` is the remote traceback as text, ``errors`` are the error lines
    of the attempts before the last. Both are also among its notes.
    """

    def __init__(self, message: str, *, task_id: str = "") -> None:
        self.task_id = task_id
        self.traceback: str | None = None
        self.errors: list[str] = []
        super().__init__(message)


class TaskFailed(TaskError):
    """The task function raised, or the task could not be run at all."""


class TaskTimedOut(TaskError, TimeoutError):
    """The task did not end within its time limit."""


class TaskExpired(TaskError):
    """The task was not started in time, so it never will be."""


class TaskNotFound(TaskError):
    """No task has this id, as far as anybody remembers."""


class TaskCancelled(TaskError):
    """The task was cancelled before it ended."""


class TaskLost(TaskError):
    """The task's outcome cannot be known: who kept it is gone."""


class ResultExpired(TaskError):
    """The task has ended, and its result is no longer kept."""


def _show_public_names() -> None:
    # Tracebacks and pickles show the name that users import. Not to be done for
    # classes whose annotations are read: those are resolved in that module.
    for value in list(globals().values()):
        if isinstance(value, type) and issubclass(value, FastWorkerError):
            value.__module__ = "fastworker"


_show_public_names()
