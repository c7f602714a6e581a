"""Bytes to messages and back, by msgspec; the only place where frames are parsed.

Decoding is typed and size-capped: what comes out obeys the annotations in
``_messages.py``, and everything else is a RemoteProtocolError. No message
type contains ``Any``, so nesting is bounded by the types themselves.
"""

from __future__ import annotations

import hashlib
import zlib
from typing import Any, TypeAlias, TypeVar

import msgspec

from fastworker._core._bundle import LARGE_BYTES
from fastworker._core._event_messages import EventsAsked, EventsReply
from fastworker._core._messages import (
    Body,
    CallbacksAsked,
    Credits,
    Frame,
    FunctionsAsked,
    Kind,
    Lease,
    Nothing,
    Poll,
    Reply,
    Report,
    Request,
    Submit,
    TaskIds,
)
from fastworker._core._metrics import MetricsAsked, MetricsReply
from fastworker._core._overview import (
    DrainAsked,
    DrainReply,
    Overview,
    OverviewAsked,
    WorkersAsked,
    WorkersReply,
)
from fastworker._core._stored import TasksAsked, TasksPage
from fastworker._core._task_questions import TaskAsked, TaskDetail, TasksDone, TasksNamed
from fastworker._errors import RemoteProtocolError

_encoder = msgspec.msgpack.Encoder()
_frame_decoder: msgspec.msgpack.Decoder[Frame] = msgspec.msgpack.Decoder(Frame)


def _with_view(frame: type[Request | Reply]) -> Any:
    """The same frame, of which the body is a view of what is decoded."""
    fields = [
        (field.name, memoryview if field.name == "body" else field.type)
        for field in msgspec.structs.fields(frame)
    ]
    tag = frame.__struct_config__.tag
    return msgspec.defstruct(frame.__name__, fields, array_like=True, tag=tag, frozen=True)


_REQUEST_VIEW: Any = _with_view(Request)
_view_decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(
    _REQUEST_VIEW | _with_view(Reply)
)

AnyBody: TypeAlias = (
    Body
    | TasksAsked
    | TasksPage
    | TaskAsked
    | TaskDetail
    | TasksNamed
    | TasksDone
    | OverviewAsked
    | Overview
    | WorkersAsked
    | WorkersReply
    | MetricsAsked
    | MetricsReply
    | DrainAsked
    | DrainReply
    | EventsAsked
    | EventsReply
)
T = TypeVar("T", bound=AnyBody)

REQUEST_BODIES: dict[Kind, Any] = {
    Kind.SUBMIT: Submit,
    Kind.POLL: Poll,
    Kind.CANCEL: TaskIds,
    Kind.QUERY: TaskIds,
    Kind.WATCH: TaskIds,
    Kind.REPORT: Report,
    Kind.LEASE: Lease,
    Kind.BYE: Nothing,
    Kind.FUNCTIONS: FunctionsAsked,
    Kind.CALLBACKS: CallbacksAsked,
    Kind.CREDIT: Credits,
    Kind.TASKS: TasksAsked,
    Kind.TASK: TaskAsked,
    Kind.TASK_ACTION: TasksNamed,
    Kind.OVERVIEW: OverviewAsked,
    Kind.WORKERS: WorkersAsked,
    Kind.METRICS: MetricsAsked,
    Kind.DRAIN: DrainAsked,
    Kind.EVENTS: EventsAsked,
}
_decoders: dict[Any, msgspec.msgpack.Decoder[Any]] = {}


def encode(message: Frame | AnyBody) -> bytes:
    """Encode a frame or a body."""
    return _encoder.encode(message)


def decode_frame(data: bytes | memoryview) -> Frame:
    """Decode one frame. A large body is no copy, but a view of ``data``.

    Raises:
      RemoteProtocolError: the bytes are not a frame of this protocol version.
    """
    if len(data) >= LARGE_BYTES:
        try:
            found = _view_decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass  # something else, or nothing at all
        else:
            frame = Request if isinstance(found, _REQUEST_VIEW) else Reply
            return frame(*msgspec.structs.astuple(found))
    try:
        return _frame_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteProtocolError(f"not a frame: {error}") from None


def decode_body(body_type: type[T], data: bytes) -> T:
    """Decode a request's or reply's body.

    Raises:
      RemoteProtocolError: the bytes are not such a body.
    """
    decoder = _decoders.get(body_type)
    if decoder is None:
        decoder = _decoders[body_type] = msgspec.msgpack.Decoder(body_type)
    try:
        body: T = decoder.decode(data)
        return body
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteProtocolError(f"not a {body_type.__name__}: {error}") from None


def digest(kind: Kind, body: bytes) -> bytes:
    """Eight bytes that tell requests apart; not a protection against forgery.

    Only the sender makes one, once for each request: what it is made of may change.
    """
    if len(body) >= LARGE_BYTES:
        # A fifth of the time, which for 16 MiB is 5 instead of 22 ms.
        body = len(body).to_bytes(8, "big") + zlib.crc32(body).to_bytes(4, "big")
    hasher = hashlib.blake2b(body, digest_size=8, person=b"fastworker")
    hasher.update(kind.to_bytes(1, "big"))
    return hasher.digest()
