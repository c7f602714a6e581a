"""The wire vocabulary: one frozen, size-capped struct for each thing said.

A *frame* is what travels in one NNG message. HELLO opens a session; after it
everything a peer asks is a REQUEST in one of the session's slots, and the
request's *body* is one of the body structs below. Numbers tag the frames, so
fields may be added at the end of a struct (they need a default) without
breaking older peers; anything else needs a new PROTOCOL_VERSION.

Task payloads are opaque ``bytes`` here. The control plane never decodes them.
"""

from __future__ import annotations

import enum
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from fastworker._core._retry import RetryOverride, RetryPolicy, Seconds
from fastworker._models import DEFAULT_GRACE

PROTOCOL_VERSION: Final = 4

# Sixteen requests may be under way in a session. The last slot is kept for
# CANCEL and BYE, so that a full window never delays a cancellation.
SLOT_COUNT: Final = 16
URGENT_SLOT: Final = SLOT_COUNT - 1

# A session of which no frame comes for this long has ended, its leases with it.
LEASE_SECONDS: Final = 30.0
# So long the control plane gathers beats before it answers them. Peers time their next
# beat by the answer, so that what was answered together comes together.
BEAT_DELAY: Final = 0.1

# Batches are cut here; one larger item travels alone, up to MAX_ITEM_BYTES.
BATCH_BYTES: Final = 1024 * 1024
MAX_ITEM_BYTES: Final = 16 * 1024 * 1024
# Once the values that wait for the reader of a stream weigh this much, its
# generator waits too, however few they are.
STREAM_BYTES: Final = 8 * 1024 * 1024
MAX_STREAM_BUFFER: Final = 10_000
MAX_BATCH_ITEMS: Final = 20_000
# An answer names at most this many of the workers that know a function.
MAX_NAMED_WORKERS: Final = 20

# A reply up to this size is kept, to be sent again when its request is
# repeated. Longer ones are made anew: their requests are idempotent.
KEPT_REPLY_BYTES: Final = 4096

# Of a task that was retried for long, the errors of the latest attempts are kept.
MAX_EARLIER_ERRORS: Final = 10

SessionId = Annotated[bytes, Meta(min_length=16, max_length=16)]
Digest = Annotated[bytes, Meta(min_length=8, max_length=8)]
Epoch = Annotated[int, Meta(ge=0, le=2**62)]
Slot = Annotated[int, Meta(ge=0, lt=SLOT_COUNT)]
Sequence = Annotated[int, Meta(ge=1, le=2**62)]
Count = Annotated[int, Meta(ge=0, le=2**62)]
ShortText = Annotated[str, Meta(max_length=256)]
Line = Annotated[str, Meta(max_length=4096)]
Name = Annotated[str, Meta(min_length=1, max_length=256)]
Priority = Annotated[int, Meta(ge=0, le=3)]
Attempts = Annotated[int, Meta(ge=0, le=2**31)]
# Seconds since 1970, up to the year 5138: what a datetime can be made of.
WallTime = Annotated[float, Meta(ge=0, le=1e11)]
# Deeper or longer text is cut by the sender (64 KiB of traceback).
LongText = Annotated[str, Meta(max_length=128 * 1024)]
# Whoever may submit chooses where the control plane connects to: nowhere but to
# TCP ports, never to files or to places inside its own process.
CallbackAddress = Annotated[
    str, Meta(max_length=300, pattern=r"\Atcp://[A-Za-z0-9_.:%\[\]\-]+:[1-9][0-9]{0,4}\Z")
]
MAX_CALLBACK_DATA_BYTES: Final = 256 * 1024
CallbackData = Annotated[bytes, Meta(max_length=MAX_CALLBACK_DATA_BYTES)]
# What tracing carries along: lines "name:value", as HTTP headers; opaque here.
MAX_TRACE_CHARACTERS: Final = 1024
TraceText = Annotated[str, Meta(max_length=MAX_TRACE_CHARACTERS)]
# One span of a trace, as W3C writes it in a traceparent.
SpanText = Annotated[str, Meta(max_length=64)]


def is_name(text: object) -> bool:
    """Whether this can travel as a Name: a task's id or a task function's name."""
    if not isinstance(text, str) or not 0 < len(text) <= 256:
        return False
    # Half of a surrogate pair is a character for Python, and for no encoding.
    return text.isascii() or text.encode(errors="ignore").decode() == text


class Role(enum.IntEnum):
    """What a peer is."""

    CLIENT = 1
    SUBWORKER = 2


class Kind(enum.IntEnum):
    """What a request asks."""

    SUBMIT = 1
    POLL = 2
    CANCEL = 3
    QUERY = 4
    WATCH = 5
    REPORT = 6
    LEASE = 7
    BYE = 8
    FUNCTIONS = 9
    CALLBACKS = 10
    CREDIT = 11
    TASKS = 12
    TASK = 13
    TASK_ACTION = 14
    OVERVIEW = 15
    WORKERS = 16
    METRICS = 17
    DRAIN = 18
    EVENTS = 19


# Requests that may wait for their answer. One POLL or LEASE is parked at a time, and an
# EVENTS for each subscription.
LONG_KINDS: Final = frozenset({Kind.POLL, Kind.LEASE, Kind.EVENTS})


class FunctionInfo(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A task function as a subworker announces it.

    ``timeout`` and ``grace`` are seconds, and 0 stands for "no timeout".
    """

    name: Name
    lane: ShortText
    signature: Line = ""
    doc: Line = ""
    on_lost: ShortText = "retry"
    retry: RetryPolicy = RetryPolicy()
    timeout: Seconds = 0.0
    grace: Seconds = DEFAULT_GRACE
    is_stream: bool = False


class HeldAttempt(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An attempt that a subworker was leased, and whose end it may still have to report.

    ``epoch`` and ``attempt`` are its fence. ``started``: user code of it may have run.
    """

    task_id: Name
    epoch: Epoch
    attempt: Attempts
    started: bool = False


class Hello(msgspec.Struct, array_like=True, tag=0, frozen=True, gc=False):
    """Open the session ``session``, or come back to it on a new pipe.

    ``epoch`` is the one the session was opened in, 0 for a new session.
    ``nonce`` is echoed, so that an answer to an earlier HELLO is known as such.
    ``held`` is what a subworker has of the session, should the control plane be
    another one by now.
    """

    protocol: Count
    nonce: Count
    session: SessionId
    role: Role
    epoch: Epoch
    worker_id: ShortText
    address: ShortText = ""
    functions: Annotated[list[FunctionInfo], Meta(max_length=MAX_BATCH_ITEMS)] = []
    held: Annotated[list[HeldAttempt], Meta(max_length=MAX_BATCH_ITEMS)] = []


class Welcome(msgspec.Struct, array_like=True, tag=1, frozen=True, gc=False):
    """The session is open. ``lease`` and ``beat`` are in seconds.

    ``kept`` are those of the HELLO's held attempts whose leases still hold though
    the epoch is another. ``durable``: what was acknowledged outlives this process.
    ``operator``: the peer may also see and change what is not its own.
    """

    nonce: Count
    session: SessionId
    epoch: Epoch
    resumed: bool
    lease: float
    beat: float
    worker_id: ShortText
    kept: list[HeldAttempt] = []
    durable: bool = False
    operator: bool = True


class Redirect(msgspec.Struct, array_like=True, tag=2, frozen=True, gc=False):
    """Say HELLO on this port of the same host instead."""

    nonce: Count
    port: Annotated[int, Meta(ge=1, le=65535)]


class Refused(msgspec.Struct, array_like=True, tag=3, frozen=True, gc=False):
    """There will be no session; ``reason`` is for a person to read."""

    nonce: Count
    reason: Line


class Request(msgspec.Struct, array_like=True, tag=4, frozen=True, gc=False):
    """One request. ``copy`` counts its repeats and is not part of the digest."""

    session: SessionId
    epoch: Epoch
    slot: Slot
    sequence: Sequence
    copy: Count
    digest: Digest
    kind: Kind
    body: bytes


class Reply(msgspec.Struct, array_like=True, tag=5, frozen=True, gc=False):
    """The answer to the request with this slot and sequence."""

    session: SessionId
    epoch: Epoch
    slot: Slot
    sequence: Sequence
    body: bytes


class Working(msgspec.Struct, array_like=True, tag=6, frozen=True, gc=False):
    """The request's repeat number ``copy`` has come; its answer is not ready."""

    session: SessionId
    epoch: Epoch
    slot: Slot
    sequence: Sequence
    copy: Count


class Rehello(msgspec.Struct, array_like=True, tag=7, frozen=True, gc=False):
    """The session named is not known in this epoch: say HELLO again."""

    session: SessionId
    epoch: Epoch


class Closed(msgspec.Struct, array_like=True, tag=8, frozen=True, gc=False):
    """The session named was closed because its peer broke a rule."""

    session: SessionId
    reason: Line


Frame = Hello | Welcome | Redirect | Refused | Request | Reply | Working | Rehello | Closed


# --- bodies -----------------------------------------------------------------


class Callback(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Whom to tell when the task has ended. ``data`` is JSON that goes along.

    ``event_id`` names what is told, the same however often it is sent.
    """

    address: CallbackAddress
    event_id: Name
    data: CallbackData = b"null"

    @property
    def size(self) -> int:
        """About how many bytes this holds."""
        return 200 + len(self.address) + len(self.event_id) + len(self.data)


class CallOptions(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What one call wants otherwise than its function says. In seconds; None leaves it.

    ``parent`` is the task that submits this one, from inside; if that is
    cancelled, so is this. ``stream`` is how many values a generator may be
    ahead of its reader, 0 for a task that is no stream. ``trace`` is where the
    call belongs in a trace, empty if nobody traces.
    """

    timeout: Seconds | None = None
    grace: Seconds | None = None
    retry: RetryOverride | None = None
    parent: ShortText = ""
    stream: Annotated[int, Meta(ge=0, le=MAX_STREAM_BUFFER)] = 0
    trace: TraceText = ""


class TaskSpec(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One task as its client submits it. ``created`` is wall time.

    ``expires`` and ``budget`` are seconds from the moment of sending: until
    when it must have started, and until when it must have ended. They shrink
    while a task waits to be sent, and are no part of its content. ``key_ttl``:
    the id was made of an idempotency key, which counts for so many seconds.
    """

    id: Name
    name: Name
    priority: Priority
    format: Count
    payload: bytes
    created: WallTime
    attached: bool = False
    callback: Callback | None = None
    options: CallOptions | None = None
    expires: Seconds | None = None
    budget: Seconds | None = None
    key_ttl: Seconds | None = None

    @property
    def size(self) -> int:
        """About how many bytes this holds."""
        size = 100 + len(self.payload)
        if self.options is not None:
            size += len(self.options.trace)
        if self.callback is not None:
            size += self.callback.size
        return size


class Submit(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Queue these tasks. Idempotent by task id and content.

    ``hurry``: somebody waits for the answer itself, not only for outcomes.
    """

    tasks: Annotated[list[TaskSpec], Meta(max_length=MAX_BATCH_ITEMS)]
    hurry: bool = True


class RefusalCode(enum.IntEnum):
    """Why a task was not queued."""

    UNKNOWN_TASK = 1
    CONFLICT = 2
    QUEUE_FULL = 3
    STOPPING = 4
    STORE = 5
    NOT_PERMITTED = 6
    CALLBACK = 7


class Refusal(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Task number ``index`` of the SUBMIT was not queued."""

    index: Count
    code: RefusalCode
    message: Line


class SubmitReply(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """All tasks not named here are queued.

    Those in ``held`` wait for a worker that knows their name; whether they
    are queued or refused comes later, by POLL.
    """

    refusals: list[Refusal] = []
    held: list[Count] = []


class Poll(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Give me what happened after ``cursor``; what came before has arrived."""

    cursor: Count


class WireStatus(enum.IntEnum):
    """A task's status on the wire; HELD and REFUSED never reach users.

    DENIED is no status, but the answer to a CANCEL of what is somebody else's.
    """

    HELD = 0
    PENDING = 1
    STARTED = 2
    SUCCESS = 3
    FAILURE = 4
    CANCELLED = 5
    EXPIRED = 6
    REFUSED = 7
    UNKNOWN = 8
    EVICTED = 9
    DENIED = 10


class Ending(enum.IntEnum):
    """How the last attempt of a task ended; what a cancel can learn.

    COMPLETED: user code returned or raised. NEVER_STARTED: none ever ran.
    CANCELLED: it was asked to stop, and did. KILLED: its process was ended by a
    signal. ABANDONED: it did not stop in its grace and may still be running;
    whatever it returns is dropped. LOST: nobody knows.
    """

    COMPLETED = 0
    NEVER_STARTED = 1
    CANCELLED = 2
    KILLED = 3
    ABANDONED = 4
    LOST = 5


class TaskEvent(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What became of a task. ``started`` and ``completed`` are wall time, 0 if not yet.

    ``value_dropped`` says that the task succeeded, and its value had to be
    given up because nobody fetched it in time. ``signal`` is the number of the
    signal that ended its process. ``errors`` are the error lines of earlier
    attempts, the oldest first. ``progress`` is what a running task last said
    of itself, 0 to 1, negative if nothing.
    """

    task_id: Name
    status: WireStatus
    format: Count = 0
    payload: bytes = b""
    error: Line = ""
    traceback: LongText = ""
    started: WallTime = 0.0
    completed: WallTime = 0.0
    worker_id: ShortText = ""
    attempts: Attempts = 0
    value_dropped: bool = False
    ending: Ending = Ending.COMPLETED
    signal: Annotated[int, Meta(ge=0, le=255)] = 0
    errors: Annotated[tuple[Line, ...], Meta(max_length=MAX_EARLIER_ERRORS)] = ()
    progress: float = -1.0
    message: Line = ""

    @property
    def size(self) -> int:
        """About how many bytes this holds."""
        size = 200 + len(self.payload) + len(self.traceback) + len(self.error)
        if self.message or self.errors:
            size += len(self.message) + sum(map(len, self.errors))
        return size


class StreamValue(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Value number ``index``, from 0, of a stream.

    ``value_dropped`` says that it had to be given up because nobody fetched
    it, nor much else, in time.
    """

    task_id: Name
    index: Count
    format: Count
    payload: bytes
    value_dropped: bool = False

    @property
    def size(self) -> int:
        """About how many bytes this holds."""
        return 100 + len(self.payload)


class PollReply(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What happened, in order; the next POLL's cursor.

    The values of a stream come before what is said of its task.
    """

    cursor: Count
    events: list[TaskEvent] = []
    values: list[StreamValue] = []


class ReadUpTo(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """So many values of this stream, from its first on, have been read."""

    task_id: Name
    count: Count


class Credits(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """How far streams were read. Whole numbers from the start, so idempotent."""

    read: Annotated[list[ReadUpTo], Meta(max_length=MAX_BATCH_ITEMS)]


class TaskIds(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The body of CANCEL, QUERY and WATCH.

    ``grace`` is for CANCEL: seconds that a running attempt gets to end; None is
    what its function or its call says. A CANCEL with ``wants_end`` also watches:
    the asker hears by POLL how each of the tasks ends. One that ``leaves`` only
    does not want them any more: others that have submitted them too may. A WATCH
    is for tasks of the asker's own unless ``is_owner`` is false.
    """

    ids: Annotated[list[Name], Meta(max_length=MAX_BATCH_ITEMS)]
    grace: Seconds | None = None
    wants_end: bool = False
    is_owner: bool = True
    leaves: bool = False


class TaskEvents(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The answer to CANCEL, QUERY and WATCH: each task as it is now, in order."""

    events: list[TaskEvent]


class StartedAttempt(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """User code of this attempt runs since ``wall``, in the span ``span`` if that is traced."""

    task_id: Name
    attempt: Attempts
    wall: WallTime
    span: SpanText = ""


class EndedAttempt(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """User code of this attempt has ended. ``outcome`` is a WireStatus, ``span`` as above."""

    task_id: Name
    attempt: Attempts
    outcome: WireStatus
    started: WallTime
    completed: WallTime
    seconds: float
    format: Count = 0
    payload: bytes = b""
    error: Line = ""
    traceback: LongText = ""
    ending: Ending = Ending.COMPLETED
    signal: Annotated[int, Meta(ge=0, le=255)] = 0
    is_retryable: bool = True
    span: SpanText = ""

    @property
    def size(self) -> int:
        """About how many bytes this holds."""
        return 100 + len(self.payload) + len(self.traceback) + len(self.error)


class HandedBack(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """This attempt was given up: it has not started here and never will.

    ``was_started``: it had, and was interrupted because this subworker ends.
    """

    task_id: Name
    attempt: Attempts
    was_started: bool = False


class Progress(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What this attempt last said of itself: a part done, from 0 to 1, and a text."""

    task_id: Name
    attempt: Attempts
    fraction: Annotated[float, Meta(ge=0, le=1)]
    message: Line = ""


class YieldedValue(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Value number ``index``, from 0, that the generator of this attempt has yielded."""

    task_id: Name
    attempt: Attempts
    index: Count
    format: Count
    payload: bytes

    @property
    def size(self) -> int:
        """About how many bytes this holds."""
        return 100 + len(self.payload)


class Report(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """News of attempts that were leased in ``epoch``; fenced, so idempotent.

    ``busy`` names functions that have been running for this many seconds
    without an end, so that the control plane stops sending work ahead. What is
    ``yielded`` comes before the ends, here and in the order of the reports.
    """

    epoch: Epoch
    started: Annotated[list[StartedAttempt], Meta(max_length=MAX_BATCH_ITEMS)] = []
    ended: Annotated[list[EndedAttempt], Meta(max_length=MAX_BATCH_ITEMS)] = []
    handed_back: Annotated[list[HandedBack], Meta(max_length=MAX_BATCH_ITEMS)] = []
    busy: dict[Name, float] = {}
    progress: Annotated[list[Progress], Meta(max_length=MAX_BATCH_ITEMS)] = []
    yielded: Annotated[list[YieldedValue], Meta(max_length=MAX_BATCH_ITEMS)] = []


class Lease(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Give me work. ``capacity`` is how many attempts each lane may hold in all.

    It is the whole capacity and never what is free now: the control plane
    subtracts what it has leased by its own ledger, so frames that are lost,
    doubled or late can never make it lease too much. What the control plane
    gave up to ``cursor`` has arrived.
    """

    cursor: Count
    capacity: dict[ShortText, Annotated[int, Meta(ge=0, le=100_000)]]
    draining: bool = False


class Assignment(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One attempt leased to this subworker.

    ``attempt`` is the fence, ``number`` counts the attempts that count, from 1.
    ``time_left`` is seconds until the task's deadline, from the moment of
    sending; ``start_within`` until it must have started. ``options`` are the
    call's, as they were submitted. ``earlier`` is the span of the attempt before.
    """

    task_id: Name
    attempt: Attempts
    name: Name
    format: Count
    payload: bytes
    number: Attempts = 1
    priority: Priority = 2
    time_left: Seconds | None = None
    options: CallOptions | None = None
    created: WallTime = 0.0
    start_within: Seconds | None = None
    earlier: SpanText = ""


class StopOrder(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Stop this attempt; ``grace`` seconds from now it is given up, or killed.

    ``epoch`` is the one of its lease, 0 for the session's.
    """

    task_id: Name
    attempt: Attempts
    grace: Seconds | None = None
    epoch: Epoch = 0


class StreamCredit(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """So many values of this attempt's stream, from its first on, have been read."""

    task_id: Name
    attempt: Attempts
    count: Count


class LeaseReply(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Work to do, and attempts to stop; the next LEASE's cursor.

    ``numbers`` has one number for each assignment. When two LEASEs cross, an
    assignment may come twice; the one at or below the cursor is known already.
    ``drain``: take no more work, and end; said until a LEASE is ``draining``.
    """

    cursor: Count
    assignments: list[Assignment] = []
    cancels: list[StopOrder] = []
    numbers: list[Count] = []
    credits: list[StreamCredit] = []
    drain: bool = False


class FunctionsAsked(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Which task functions do live workers know? Those whose names come after ``after``."""

    after: ShortText = ""


class LiveFunction(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A task function as the worker announced it that joined last, and who knows it.

    ``workers`` are the first few of ``worker_count``.
    """

    function: FunctionInfo
    workers: Annotated[list[ShortText], Meta(max_length=MAX_NAMED_WORKERS)]
    worker_count: Count

    @property
    def size(self) -> int:
        """About how many bytes this holds."""
        info = self.function
        texts = (info.name, info.lane, info.signature, info.doc, info.on_lost, *self.workers)
        return 50 + sum(map(len, texts))


class FunctionsReply(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A page of task functions, sorted by name; ``more`` come after the last one."""

    functions: list[LiveFunction]
    more: bool = False


class CallbackPhase(enum.IntEnum):
    """Where a callback is that has not arrived."""

    QUEUED = 1
    RETRYING = 2  # its address has failed, and nothing has arrived there since
    PARKED = 3  # given up


class CallbacksAsked(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Which callbacks have not arrived? At most ``limit``; in any phase if none is named."""

    phases: Annotated[list[CallbackPhase], Meta(max_length=3)] = []
    limit: Annotated[int, Meta(ge=0, le=MAX_BATCH_ITEMS)] = 1_000


class CallbackView(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One callback. ``error`` is the last one of its address, empty if there was none."""

    phase: CallbackPhase
    address: CallbackAddress
    event_id: Name
    task_id: Name
    tries: Count
    error: Line = ""

    @property
    def size(self) -> int:
        """About how many bytes this holds."""
        texts = (self.address, self.event_id, self.task_id, self.error)
        return 50 + sum(map(len, texts))


class CallbacksReply(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The numbers of all callbacks, and those that were asked for: parked ones first.

    due = queued + retrying + parked + delivered + dropped. ``is_cut`` says
    that there are more of those asked for.
    """

    due: Count
    queued: Count
    retrying: Count
    parked: Count
    delivered: Count
    dropped: Count
    callbacks: list[CallbackView] = []
    is_cut: bool = False


class Nothing(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An empty body."""


Body = (
    Submit
    | SubmitReply
    | Poll
    | PollReply
    | TaskIds
    | TaskEvents
    | Report
    | Lease
    | LeaseReply
    | FunctionsAsked
    | FunctionsReply
    | CallbacksAsked
    | CallbacksReply
    | Credits
    | Nothing
)
