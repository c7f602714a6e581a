"""PICKLE carries what JSON refuses; its own failures have the same names."""

from __future__ import annotations

import dataclasses
import enum
import threading
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastworker._errors import NotDecodable, NotEncodable
from fastworker._models import SerializationFormat
from fastworker._serialization import (
    decode_arguments,
    decode_result,
    encode_arguments,
    encode_result,
)

PICKLE = SerializationFormat.PICKLE


class Colour(enum.Enum):
    RED = "red"


class Point(NamedTuple):
    x: int


@dataclasses.dataclass
class Record:
    x: int


def test_pickle_carries_what_json_refuses() -> None:
    value = (Record(1), Colour.RED, 1j, {1: 2}, Point(3))
    assert decode_result(encode_result(value, PICKLE), PICKLE) == value
    data = encode_arguments(value, {"x": value}, PICKLE)
    assert decode_arguments(data, PICKLE) == (value, {"x": value})


class Unwilling:
    def __init__(self, error: Exception) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        raise self.error


@pytest.mark.parametrize(
    "value",
    [lambda: 1, threading.Lock(), Unwilling(KeyError("x")), Unwilling(RecursionError())],
)
def test_what_cannot_be_pickled_is_not_encodable(value: Any) -> None:
    with pytest.raises(NotEncodable, match="cannot be pickled"):
        encode_result(value, PICKLE)
    with pytest.raises(NotEncodable, match="cannot be pickled"):
        encode_arguments((value,), {}, PICKLE)


# PICKLE is for trusted peers: "r" may ask for a memo of 4 GB before it fails, and
# a cut-off \x96 makes CPython complain of its own reference counts.
@given(st.binary(max_size=60).filter(lambda data: b"r" not in data and b"\x96" not in data))
@example(b"cno_such_module\nx\n.")
@example(encode_result(b"x" * 50, PICKLE)[:20])
def test_broken_pickles_are_not_decodable(data: bytes) -> None:
    for decode in (decode_result, decode_arguments):
        try:
            decode(data, PICKLE)
        except NotDecodable:
            pass


@pytest.mark.parametrize("value", [1, (1, 2), ((), {1: 2}), ([], {}), ((), {}, 1)])
def test_a_pickle_of_something_else_is_no_arguments(value: Any) -> None:
    with pytest.raises(NotDecodable, match="not \\(args, kwargs\\)"):
        decode_arguments(encode_result(value, PICKLE), PICKLE)
