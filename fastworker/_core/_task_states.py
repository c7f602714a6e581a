"""A task's life as a table, and the control plane's row for one task.

The table is the only place that says which step may follow which; the picture
in the docs is drawn from it.
"""

from __future__ import annotations

import enum
import hashlib
import math
import zlib
from typing import TYPE_CHECKING, Final

import msgspec

from fastworker._core._messages import (
    MAX_EARLIER_ERRORS,
    CallOptions,
    Ending,
    TaskEvent,
    TaskSpec,
    WireStatus,
)
from fastworker._core._streams import StreamProgress, progress_of
from fastworker._errors import LocalProtocolError

if TYPE_CHECKING:
    from fastworker._core._subworkers import SubworkerRecord


class TaskState(enum.Enum):
    """Where a task is, as the control plane sees it."""

    HELD = "held"  # its name is unknown so far; not accepted yet
    READY = "ready"
    LEASED = "leased"  # given to a subworker, not known to run
    STARTED = "started"
    AWAY = "away"  # leased before a restart; its subworker has not come back yet
    RETRYING = "retrying"  # an attempt failed; it waits for the next
    SUCCESS = "success"
    FAILURE = "failure"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    REFUSED = "refused"

    # Members are singletons; Enum's own hash is a Python call for each step.
    __hash__ = object.__hash__


class Step(enum.Enum):
    """What happens to a task."""

    QUEUE = "queue"
    REFUSE = "refuse"
    LEASE = "lease"
    START = "start"
    HAND_BACK = "hand back"
    LOSE = "lose"
    RESTART = "restart"  # of the control plane
    RESUME = "resume"
    SUCCEED = "succeed"
    FAIL = "fail"
    RETRY = "retry"
    CANCEL = "cancel"
    EXPIRE = "expire"
    WITHDRAW = "withdraw"  # the store could not take it

    __hash__ = object.__hash__


TASK_TRANSITIONS: dict[tuple[TaskState, Step], TaskState] = {
    (TaskState.HELD, Step.QUEUE): TaskState.READY,
    (TaskState.HELD, Step.REFUSE): TaskState.REFUSED,
    (TaskState.HELD, Step.CANCEL): TaskState.CANCELLED,
    (TaskState.HELD, Step.EXPIRE): TaskState.EXPIRED,
    (TaskState.READY, Step.LEASE): TaskState.LEASED,
    (TaskState.READY, Step.CANCEL): TaskState.CANCELLED,
    (TaskState.READY, Step.EXPIRE): TaskState.EXPIRED,
    (TaskState.LEASED, Step.START): TaskState.STARTED,
    (TaskState.LEASED, Step.HAND_BACK): TaskState.READY,
    (TaskState.LEASED, Step.LOSE): TaskState.READY,
    (TaskState.LEASED, Step.SUCCEED): TaskState.SUCCESS,
    (TaskState.LEASED, Step.FAIL): TaskState.FAILURE,
    (TaskState.LEASED, Step.RETRY): TaskState.RETRYING,
    (TaskState.LEASED, Step.CANCEL): TaskState.CANCELLED,
    (TaskState.LEASED, Step.EXPIRE): TaskState.EXPIRED,
    (TaskState.STARTED, Step.HAND_BACK): TaskState.READY,
    (TaskState.STARTED, Step.LOSE): TaskState.READY,
    (TaskState.STARTED, Step.SUCCEED): TaskState.SUCCESS,
    (TaskState.STARTED, Step.FAIL): TaskState.FAILURE,
    (TaskState.STARTED, Step.RETRY): TaskState.RETRYING,
    (TaskState.STARTED, Step.CANCEL): TaskState.CANCELLED,
    (TaskState.LEASED, Step.RESTART): TaskState.AWAY,
    (TaskState.STARTED, Step.RESTART): TaskState.AWAY,
    (TaskState.AWAY, Step.RESUME): TaskState.LEASED,
    (TaskState.AWAY, Step.LOSE): TaskState.READY,
    (TaskState.AWAY, Step.FAIL): TaskState.FAILURE,
    (TaskState.AWAY, Step.CANCEL): TaskState.CANCELLED,
    (TaskState.READY, Step.WITHDRAW): TaskState.REFUSED,
    (TaskState.READY, Step.RESUME): TaskState.LEASED,
    (TaskState.RETRYING, Step.QUEUE): TaskState.READY,
    (TaskState.RETRYING, Step.CANCEL): TaskState.CANCELLED,
    (TaskState.RETRYING, Step.EXPIRE): TaskState.EXPIRED,
}

TERMINAL_STATES = (
    TaskState.SUCCESS,
    TaskState.FAILURE,
    TaskState.CANCELLED,
    TaskState.EXPIRED,
    TaskState.REFUSED,
)

WIRE_STATUS: dict[TaskState, WireStatus] = {
    TaskState.HELD: WireStatus.HELD,
    TaskState.READY: WireStatus.PENDING,
    TaskState.LEASED: WireStatus.PENDING,
    TaskState.STARTED: WireStatus.STARTED,
    TaskState.AWAY: WireStatus.PENDING,
    TaskState.RETRYING: WireStatus.PENDING,
    TaskState.SUCCESS: WireStatus.SUCCESS,
    TaskState.FAILURE: WireStatus.FAILURE,
    TaskState.CANCELLED: WireStatus.CANCELLED,
    TaskState.EXPIRED: WireStatus.EXPIRED,
    TaskState.REFUSED: WireStatus.REFUSED,
}


class TaskRecord(msgspec.Struct, eq=False):
    """The control plane's row for a task that has not ended.

    ``fence`` grows with every lease; ``uncounted`` of those leases were no
    attempts (handed back, or lost beside another task). A suspect is run alone
    (``is_solo``); what was merely near when a worker died is never sent ahead
    again (``is_wary``), so that it is among the suspects if that happens twice.

    ``expires_at`` is when it must have started (and did not), ``deadline_at`` when it must have
    ended, ``retry_at`` when it is its turn again while RETRYING: all ``inf``
    where there is no such time. ``errors`` are those of failed attempts.
    ``fence_epoch`` is the epoch of the latest lease: after a restart it may be
    an earlier one. ``holder`` and ``holder_label`` say who has it while AWAY;
    ``is_careful`` that this lease must not be followed by another
    (on_lost="fail"). ``has_row`` says that the store was told of it,
    ``is_durable`` that the store has it, ``is_restored`` that it came from there;
    ``outcome`` is None until it has ended.
    ``joint`` have submitted it too, ``watchers`` want to hear of it besides.
    ``is_kept``: so have others who are gone, and who cannot say that they do not
    want it any more.
    ``last_ending`` is how the latest attempt ended of which code ran, ``loss`` why
    if nobody knows. ``stream`` is None unless it gives values while it runs.
    ``span`` is that of the latest attempt that was traced.
    """

    spec: TaskSpec
    sequence: int
    owner: bytes | None
    state: TaskState = TaskState.HELD
    fence: int = 0
    fence_epoch: int = 0
    uncounted: int = 0
    has_row: bool = False
    is_durable: bool = False
    is_restored: bool = False
    is_requeued: bool = False  # it has ended before, and an operator wants it once more
    is_kept: bool = False
    is_careful: bool = False
    holder: bytes = b""
    holder_label: str = ""
    outcome: TaskEvent | None = None
    worker: SubworkerRecord | None = None
    estimate: float | None = None
    started: float = 0.0
    is_solo: bool = False
    is_wary: bool = False
    is_cancel_requested: bool = False
    losses: tuple[str, ...] = ()
    parent: TaskRecord | None = None  # who has submitted it, until that has ended
    children: dict[str, TaskRecord] | None = None  # those that have not ended
    has_family: bool = False  # it has submitted some, or was submitted by another
    last_ending: Ending = Ending.NEVER_STARTED
    loss: str = ""
    held_until: float = 0.0
    expires_at: float = math.inf
    deadline_at: float = math.inf
    retry_at: float = math.inf
    failures: int = 0
    errors: tuple[str, ...] = ()
    progress: float = -1.0
    message: str = ""
    watchers: tuple[bytes, ...] = ()
    joint: tuple[bytes, ...] = ()
    stream: StreamProgress | None = None
    span: str = ""
    size: int = 0  # of its spec
    _content: int | None = None

    def __post_init__(self) -> None:
        self.size = self.spec.size
        if self.spec.options is not None:
            self.stream = progress_of(self.spec.options)

    def __repr__(self) -> str:
        return (
            f"<TaskRecord {self.spec.id} {self.spec.name!r} {self.state.value} #{self.fence}>"
        )

    @property
    def is_waited_for(self) -> bool:
        """Whether an attempt of the task that has submitted it may run, and wait for it."""
        return self.parent is not None and self.parent.worker is not None

    def is_below(self, other: TaskRecord) -> bool:
        """Whether the other has submitted it, or has submitted who did."""
        record = self.parent
        while record is not None and record is not other:
            record = record.parent
        return record is not None

    def step(self, step: Step) -> None:
        """Move along the table.

        Raises:
          LocalProtocolError: the table has no such step; nothing changed.
        """
        state = TASK_TRANSITIONS.get((self.state, step))
        if state is None:
            raise LocalProtocolError(f"cannot {step.value} {self!r}")
        self.state = state

    def has_content(self, spec: TaskSpec) -> bool:
        """Whether ``spec`` asks for the very same thing."""
        own = self.spec
        return (
            own.name == spec.name
            and own.payload == spec.payload
            and own.priority == spec.priority
            and own.format == spec.format
            and _callback_content(own) == _callback_content(spec)
            and _options_content(own) == _options_content(spec)
        )

    @property
    def content(self) -> int:
        """Tells its content; see ``content_digest``."""
        if self._content is None:
            self._content = content_digest(self.spec)
        return self._content

    @property
    def is_shared(self) -> bool:
        """Whether anybody who has its key may submit it too."""
        return self.spec.key_ttl is not None

    @property
    def owners(self) -> tuple[bytes, ...]:
        """Who has submitted it, and has not left."""
        return self.joint if self.owner is None else (self.owner, *self.joint)

    @property
    def attempts(self) -> int:
        """How many attempts have counted so far, a live one included."""
        return self.fence - self.uncounted

    @property
    def is_as_new(self) -> bool:
        """Whether nothing has happened to it but that it was queued."""
        return (
            self.fence == 0
            and self.expires_at == self.deadline_at == self.retry_at == math.inf
            and not self.is_cancel_requested
            and not self.is_kept
            and not self.joint
            and not self.span
        )

    @property
    def has_yielded(self) -> bool:
        """Whether values of it are on their way to its reader: it cannot begin anew."""
        return self.stream is not None and self.stream.yielded > 0

    @property
    def next_alarm(self) -> float:
        """When something has to happen to it by itself, ``inf`` for never.

        While a subworker has it, that keeps the time.
        """
        if self.worker is not None or self.state is TaskState.AWAY:
            return math.inf
        return min(self.deadline_at, self.expires_at, self.retry_at)

    @property
    def may_expire(self) -> bool:
        """Whether an attempt that is leased can have come too late to be started."""
        if self.state is TaskState.STARTED:
            return False
        return min(self.deadline_at, self.expires_at) < math.inf

    def note_started(self) -> None:
        """Note that it was started in time, whatever becomes of the attempt.

        Should nothing more be heard of that than that it is over, it has stopped.
        """
        self.expires_at = math.inf
        self.last_ending, self.loss = Ending.CANCELLED, ""

    def fail(self, error: str, ending: Ending) -> None:
        """Note an attempt that has failed, and that is not the last."""
        self.failures += 1
        self.expires_at = math.inf
        self.loss = ""
        if ending is not Ending.NEVER_STARTED:
            # What may still run is not to be called stopped.
            is_abandoned = ending is Ending.ABANDONED
            self.last_ending = ending if is_abandoned else Ending.CANCELLED
        self.errors = (*self.errors, error)[-MAX_EARLIER_ERRORS:]
        self.progress, self.message = -1.0, ""

    def event(self, *, error: str = "", ending: Ending = Ending.COMPLETED) -> TaskEvent:
        """What a client is told about this task now."""
        status = WIRE_STATUS[self.state]
        if self.state is TaskState.AWAY and self.started:
            status = WireStatus.STARTED
        return TaskEvent(
            task_id=self.spec.id,
            status=status,
            error=error,
            started=self.started,
            worker_id=self.holder_label if self.worker is None else self.worker.label,
            attempts=self.attempts,
            ending=ending,
            errors=self.errors,
            progress=self.progress,
            message=self.message,
        )


def content_digest(spec: TaskSpec) -> int:
    """Tells the contents of two tasks with one id apart, long after the task ended.

    The same in every process; not a protection against forgery.
    """
    if spec.callback is None and spec.options is None:  # as nearly all of them
        head = zlib.crc32(f"{spec.priority} {spec.format} {spec.name}".encode())
        body = spec.payload
        return (zlib.crc32(body, head) << 32 | zlib.adler32(body, head)) >> 1
    content = (
        spec.name,
        spec.payload,
        spec.priority,
        spec.format,
        _callback_content(spec),
        _options_content(spec),
    )
    hashed = hashlib.blake2b(_encode(content), digest_size=8).digest()
    return int.from_bytes(hashed, "big") >> 1  # what fits everywhere


def _callback_content(spec: TaskSpec) -> tuple[str, bytes] | None:
    """Whom to tell; without the name of the event, which each call makes anew."""
    callback = spec.callback
    return None if callback is None else (callback.address, callback.data)


def _options_content(spec: TaskSpec) -> CallOptions | None:
    """What the call wants; who makes it, in which task and trace, is no part of that."""
    options = spec.options
    if options is None or not (options.parent or options.trace):
        return options
    options = msgspec.structs.replace(options, parent="", trace="")
    return None if options == _NO_OPTIONS else options


_NO_OPTIONS: Final = CallOptions()
_encode: Final = msgspec.msgpack.Encoder().encode
