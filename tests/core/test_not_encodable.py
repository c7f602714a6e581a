"""What would arrive changed is refused where it is sent, with its path."""

from __future__ import annotations

import collections
import dataclasses
import enum
import inspect
import io
import sys
import zoneinfo
from collections.abc import Callable
from datetime import datetime, time, timedelta, tzinfo
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
import pytest

from fastworker._errors import NotDecodable, NotEncodable
from fastworker._json_tags import MAX_DEPTH
from fastworker._models import SerializationFormat
from fastworker._serialization import (
    decode_arguments,
    decode_result,
    encode_arguments,
    encode_result,
)

JSON = SerializationFormat.JSON


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Name(str):
    pass


class Point(NamedTuple):
    x: int


class Moment(datetime):
    pass


@dataclasses.dataclass
class Record:
    x: int


class Row(msgspec.Struct):
    x: int


class OddZone(tzinfo):
    def utcoffset(self, _: datetime | None) -> timedelta:
        return timedelta(0)

    def tzname(self, _: datetime | None) -> str:
        return "odd"

    def dst(self, _: datetime | None) -> None:
        return None


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (Colour.RED, "pass its .value"),
        (Level.LOW, "pass its .value"),
        (Name("x"), r"pass str\(value\)"),
        (collections.OrderedDict(), r"pass dict\(value\)"),
        (collections.defaultdict(list), r"pass dict\(value\)"),
        (Point(1), r"_asdict\(\)"),
        (Moment(2024, 1, 1), "a plain datetime"),
        (Record(1), r"pass dataclasses.asdict\(value\)"),
        (Row(1), "asdict"),
        (1j, "value.real"),
        (memoryview(b""), r"pass bytes\(value\)"),
        (object(), "SerializationFormat.PICKLE"),
        (float("nan"), "is nan"),
        (float("-inf"), "is -inf"),
        ("\ud800", "lone surrogate"),
        ({"\ud800": 1}, "key that holds a lone surrogate"),
        ({"\udfff"}, "lone surrogate"),
        ({1: 2}, "the key 1 of type int"),
        ({None: 2}, "the key None of type NoneType"),
        ({Name("x"): 2}, "Name"),
        (datetime(2024, 1, 1, tzinfo=OddZone()), "OddZone"),
        (datetime(2024, 1, 1, tzinfo=ZoneInfo.no_cache("Europe/Berlin")), "time zone"),
        ({k * (2**61 - 1) for k in range(100)}, "equal hash"),
    ],
)
def test_what_would_arrive_changed_is_refused(value: Any, words: str) -> None:
    with pytest.raises(NotEncodable, match=words):
        encode_result(value, JSON)
    with pytest.raises(NotEncodable, match=words):
        encode_arguments((), {"x": [value]}, JSON)


def test_a_zone_that_came_from_a_file_is_refused() -> None:
    path = next(
        found for root in zoneinfo.TZPATH if (found := Path(root, "Europe/Berlin")).is_file()
    )
    zone = ZoneInfo.from_file(io.BytesIO(path.read_bytes()))
    with pytest.raises(NotEncodable, match="time zone"):
        encode_result(time(1, tzinfo=zone), JSON)


@pytest.mark.parametrize(
    ("args", "kwargs", "path"),
    [
        ((1, {"when": [1j]}), {}, "argument 2['when'][0] is of type complex"),
        ((), {"point": (1, 1j)}, "argument 'point'[1] is of type complex"),
        ((), {"point": {1: 2}}, "argument 'point' has the key 1"),
        (([[{"\ud800x"}]],), {}, "argument 1[0][0]{an element} holds a lone"),
        ((1,), {"a": {"b": "\ud800"}}, "argument 'a'['b'] holds a lone"),
        ((), {"\ud800": 1}, r"the argument name '\ud800' holds a lone"),
        (({(1, (2, float("inf")))},), {}, "argument 1{an element}(an item)(an item) is inf"),
        ((), {3: 1}, "argument 3 has a name of type int"),
    ],
)
def test_the_refusal_names_the_path(args: Any, kwargs: Any, path: str) -> None:
    with pytest.raises(NotEncodable) as caught:
        encode_arguments(args, kwargs, JSON)
    assert path in str(caught.value)


def test_the_refusal_of_a_result_names_the_path() -> None:
    with pytest.raises(NotEncodable, match=r"^result\['items'\]\[3\] is of type object; "):
        encode_result({"items": [1, 2, 3, object()]}, JSON)


def test_data_that_contains_itself_is_refused_as_that() -> None:
    row: list[Any] = []
    table = {"rows": [row]}
    row.append(table)
    with pytest.raises(NotEncodable, match="contains itself"):
        encode_result(table, JSON)


def test_data_that_is_too_deep_is_refused_as_that() -> None:
    value: Any = 1
    for _ in range(MAX_DEPTH + 1):
        value = [value]
    with pytest.raises(NotEncodable, match="more than 64 levels"):
        encode_result(value, JSON)


@pytest.mark.parametrize("frames_left", [15, 30, 60, 100, 120])
def test_a_caller_deep_in_its_stack_gets_no_recursion_error(frames_left: int) -> None:
    value: Any = 1
    for _ in range(MAX_DEPTH):
        value = [value, "$"]  # the dollar keeps the decoder from its short cut
    encoded = encode_result(value, JSON)
    encoded_arguments = encode_arguments((value,), {}, JSON)

    def dive(depth: int, work: Callable[[], object]) -> object:
        return work() if depth == 0 else dive(depth - 1, work)

    deepest = sys.getrecursionlimit() - len(inspect.stack(0)) - frames_left
    refusals = 0
    for work in (
        lambda: encode_result(value, JSON),
        lambda: encode_arguments((value,), {}, JSON),
        lambda: decode_result(encoded, JSON),
        lambda: decode_arguments(encoded_arguments, JSON),
    ):
        try:
            dive(deepest, work)
        except (NotEncodable, NotDecodable):
            refusals += 1
    # How many frames a level takes differs between Python versions.
    assert refusals == 4 or frames_left > 60
