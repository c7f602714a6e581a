"""What a callback says: one JSON object that a listener can read without FastWorker.

A result that is JSON already goes in as the bytes it is. Nothing here builds
values of it: its syntax is scanned, because bytes that are no JSON, or too much
of it, would make the whole object something else than it claims to be.
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from fastworker._core._messages import MAX_ITEM_BYTES, Callback, TaskEvent, WireStatus

# Numbers of the wire; they never change their meaning.
_JSON: Final = 1
_FORMAT_NAMES: Final = {_JSON: "json", 2: "pickle"}
_NULL: Final = Raw(b"null")

_encoder = msgspec.json.Encoder()
_scanner = msgspec.json.Decoder(Raw)


class CallbackPayload(msgspec.Struct, frozen=True, gc=False):
    """The object, its keys in this order.

    ``attempts`` is how often the task was run, ``delivery`` how often this
    callback has been sent, this time included.
    """

    event_id: str
    task_id: str
    status: str
    result: Raw
    error: str | None
    started_at: str | None
    completed_at: str | None
    callback_data: Raw
    attempts: int
    delivery: int
    result_format: str | UnsetType = UNSET
    result_base64: str | UnsetType = UNSET
    result_omitted: bool | UnsetType = UNSET


def encode_payload(callback: Callback, event: TaskEvent, delivery: int) -> bytes:
    """Make the bytes of one sending of a callback."""
    result = _NULL
    format: str | UnsetType = UNSET
    in_base64: str | UnsetType = UNSET
    is_omitted: bool | UnsetType = UNSET
    if event.status is WireStatus.SUCCESS:
        found = _as_json(event.payload) if event.format == _JSON else None
        if found is not None:
            result = found
        else:
            format = _FORMAT_NAMES.get(event.format, str(event.format))
            if event.value_dropped or len(event.payload) > MAX_ITEM_BYTES * 3 // 4:
                is_omitted = True  # it would not fit into a message
            else:
                in_base64 = base64.b64encode(event.payload).decode("ascii")
    return _encoder.encode(
        CallbackPayload(
            event_id=callback.event_id,
            task_id=event.task_id,
            status=event.status.name.lower(),
            result=result,
            error=event.error or None,
            started_at=_iso(event.started),
            completed_at=_iso(event.completed),
            callback_data=_as_json(callback.data) or _NULL,
            attempts=event.attempts,
            delivery=delivery,
            result_format=format,
            result_base64=in_base64,
            result_omitted=is_omitted,
        )
    )


def _as_json(data: bytes) -> Raw | None:
    try:
        data.decode()  # the scan does not look into strings
        return _scanner.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _iso(wall: float) -> str | None:
    return datetime.fromtimestamp(wall, UTC).isoformat() if wall else None
