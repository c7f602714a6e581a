"""The parsers of frames, bodies, bundles and values, and what is made of values."""

from __future__ import annotations

import json
import pickle
import pickletools
from collections.abc import Callable, Iterable
from random import Random
from typing import Any, Final

import msgspec

from fastworker._core._bundle import join, split
from fastworker._core._callback_payload import encode_payload
from fastworker._core._codec import decode_body, decode_frame, encode
from fastworker._core._messages import Callback, TaskEvent
from fastworker._errors import NotDecodable, NotEncodable, RemoteProtocolError
from fastworker._models import SerializationFormat
from fastworker._serialization import (
    decode_arguments,
    decode_result,
    encode_arguments,
    encode_result,
)
from tests.fuzz.hostile_messages import (
    BODIES,
    a_body,
    a_bundle,
    a_frame,
    a_json,
    a_json_value,
    a_message,
    damaged,
)


class Messages:
    """Each case by itself: one call, and the errors that it may end in."""

    life = 1

    def __init__(
        self,
        name: str,
        share: float,
        try_case: Callable[[Random], object],
        *allowed: type[Exception],
    ) -> None:
        self.name = name
        self.share = share
        self._try_case = try_case
        self._allowed = allowed

    def live(self, cases: Iterable[Random]) -> None:
        for rng in cases:
            try:
                self._try_case(rng)
            except self._allowed:
                pass


def _frame(rng: Random) -> None:
    found = decode_frame(a_frame(rng))
    _is_the_same(encode(found), encode(decode_frame(encode(found))))


def _body(rng: Random) -> None:
    kind = rng.choice(BODIES)
    found = decode_body(kind, a_body(rng, kind))
    _is_the_same(encode(found), encode(decode_body(kind, encode(found))))


def _bundle(rng: Random) -> None:
    data = a_bundle(rng)
    _is_the_same(data, join(split(data)))


def _is_the_same(one: bytes, other: bytes) -> None:
    if one != other:
        raise AssertionError(f"{one!r} became {other!r}")


def _json(rng: Random) -> None:
    data = a_json(rng)
    if rng.random() < 0.5:
        args, kwargs = decode_arguments(data, SerializationFormat.JSON)
        _travels((args, kwargs), encode_arguments(args, kwargs, SerializationFormat.JSON))
    else:
        value = decode_result(data, SerializationFormat.JSON)
        _travels(value, encode_result(value, SerializationFormat.JSON))


def _travels(value: Any, data: bytes) -> None:
    """What was decoded can be encoded again, and to the same."""
    decode: Any = decode_arguments if isinstance(value, tuple) else decode_result
    again = decode(data, SerializationFormat.JSON)
    if repr(again) != repr(value):  # by repr, since NaN is not itself
        raise AssertionError(f"{value!r} came back as {again!r}")


def _value(rng: Random) -> None:
    """Whatever a program hands over: refused, or it arrives."""
    value = a_json_value(rng, 4)
    encode_arguments((value, rng.choice([object(), {1: 2}, b"x", "\ud800"])), {}, _FORMAT)


_FORMAT: Final = SerializationFormat.JSON
# What neither imports, nor calls, nor claims memory. Without BYTEARRAY8: CPython complains
# of itself on stderr if that is cut off.
_HARMLESS: Final = frozenset(
    """
    PROTO FRAME STOP MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE INT LONG LONG1 BININT BININT1
    BININT2 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE
    BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 EMPTY_LIST APPEND APPENDS LIST EMPTY_TUPLE
    TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT DICT SETITEM SETITEMS EMPTY_SET ADDITEMS FROZENSET GET
    BINGET LONG_BINGET BINPUT MEMOIZE NEXT_BUFFER READONLY_BUFFER PERSID BINPERSID
    """.split()  # noqa: SIM905 - shorter
)


def _pickle(rng: Random) -> None:
    """Damaged, and yet nothing that would run code of its sender: that is what pickles do."""
    value = a_json_value(rng, 3)
    is_call = rng.random() < 0.5
    good = pickle.dumps(([value], {"k": value}) if is_call else value, protocol=5)
    data = damaged(rng, good)
    if not _is_harmless(data):
        data = good[: rng.randrange(len(good))]
    decode = decode_arguments if is_call else decode_result
    decode(data, SerializationFormat.PICKLE)


def _is_harmless(data: bytes) -> bool:
    try:
        return all(code.name in _HARMLESS for code, _, _ in pickletools.genops(data))
    except (ValueError, OverflowError) as error:
        # It ends there for whoever reads it; all that comes before was seen.
        why = str(error)
        return "bytearray8" not in why and any(
            word in why for word in ("unknown", "exhausted", "remain")
        )


def _callback(rng: Random) -> None:
    """Whatever a worker has reported, a listener gets one JSON object."""
    event = a_message(rng, TaskEvent)
    callback = a_message(rng, Callback)
    event = msgspec.structs.replace(event, payload=a_json(rng))
    callback = msgspec.structs.replace(callback, data=a_json(rng))
    payload = encode_payload(callback, event, rng.randrange(1, 9))
    try:
        said = json.loads(payload)
    except ValueError as error:
        # More digits than Python reads, or NaN's like, are still JSON.
        if "digits" in str(error):
            return
        raise
    except RecursionError:
        return
    if said["task_id"] != event.task_id or said["event_id"] != callback.event_id:
        raise AssertionError(f"{payload!r} is about another task")


MESSAGES: Final = [
    Messages("frames", 130, _frame, RemoteProtocolError),
    Messages("bodies", 130, _body, RemoteProtocolError),
    Messages("bundles", 60, _bundle, RemoteProtocolError),
    Messages("JSON values", 90, _json, NotDecodable),
    Messages("values to encode", 20, _value, NotEncodable),
    Messages("pickles", 20, _pickle, NotDecodable),
    Messages("callback payloads", 20, _callback),
]
