"""Arguments and results arrive equal and of the same type, or are refused."""

from __future__ import annotations

import math
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastworker._errors import NotDecodable
from fastworker._json_tags import MAX_DEPTH
from fastworker._models import SerializationFormat
from fastworker._serialization import (
    FORMAT_IDS,
    FORMATS,
    decode_arguments,
    decode_result,
    encode_arguments,
    encode_result,
)

JSON = SerializationFormat.JSON
PICKLE = SerializationFormat.PICKLE

zones = st.one_of(
    st.none(),
    st.just(UTC),
    st.builds(timezone, st.timedeltas(timedelta(hours=-23), timedelta(hours=23))),
    st.builds(
        timezone,
        st.timedeltas(timedelta(hours=-23), timedelta(hours=23)),
        st.text(st.characters(codec="utf-8"), max_size=5),
    ),
    st.sampled_from(["Europe/Berlin", "America/New_York", "Etc/GMT+3", "UTC"]).map(ZoneInfo),
)
folds = st.integers(0, 1)
datetimes = st.builds(
    lambda moment, zone, fold: moment.replace(tzinfo=zone, fold=fold),
    st.datetimes(),
    zones,
    folds,
)
times = st.builds(
    lambda moment, zone, fold: moment.replace(tzinfo=zone, fold=fold), st.times(), zones, folds
)
texts = st.text(st.characters(codec="utf-8"), max_size=8)
integers = st.integers() | st.sampled_from(
    [2**63, 2**64, -(2**64), 2**2048 - 1, 2**2048, -(2**2048), 2**14_000]
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    integers,
    st.floats(allow_nan=False, allow_infinity=False),
    texts,
    datetimes,
    st.dates(),
    times,
    st.timedeltas(),
    st.uuids(),
    st.decimals(),
    st.sampled_from(
        [Decimal("-0.00"), Decimal("1E+999999"), Decimal("-NaN123"), Decimal("sNaN")]
    ),
    st.binary(max_size=8),
)
hashables = st.recursive(
    scalars.filter(lambda value: not (type(value) is Decimal and value.is_snan())),
    lambda inner: (
        st.lists(inner, max_size=3).map(tuple) | st.lists(inner, max_size=3).map(frozenset)
    ),
    max_leaves=6,
)
keys = texts | st.sampled_from(["$", "$$", "$set", "$$set", "$date", "$tuple", "$unknown"])
values = st.recursive(
    scalars | st.binary(max_size=8).map(bytearray) | st.lists(hashables, max_size=4).map(set),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=12,
)


def is_same_zone(ours: tzinfo | None, theirs: tzinfo | None) -> bool:
    if type(ours) is not type(theirs):
        return False
    if isinstance(ours, timezone):
        return repr(ours) == repr(theirs)
    return ours is theirs


def is_same(ours: Any, theirs: Any) -> bool:
    """Equal, of the same type, and so all the way down."""
    if type(ours) is not type(theirs):
        return False
    if isinstance(ours, (list, tuple)):
        return len(ours) == len(theirs) and all(map(is_same, ours, theirs))
    if isinstance(ours, dict):
        return list(ours) == list(theirs) and all(is_same(ours[k], theirs[k]) for k in ours)
    if isinstance(ours, (set, frozenset)):
        rest = list(theirs)
        for item in ours:
            found = [index for index, other in enumerate(rest) if is_same(item, other)]
            if not found:
                return False
            del rest[found[0]]
        return not rest
    if isinstance(ours, float):
        return ours == theirs and math.copysign(1, ours) == math.copysign(1, theirs)
    if isinstance(ours, Decimal):
        return repr(ours) == repr(theirs)
    if isinstance(ours, (datetime, time)):
        return (
            bool(ours.replace(tzinfo=None) == theirs.replace(tzinfo=None))
            and ours.fold == theirs.fold
            and is_same_zone(ours.tzinfo, theirs.tzinfo)
        )
    return bool(ours == theirs)


# --- what travels ---


@given(values)
@example(datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1))
@example(time(0, tzinfo=timezone(timedelta(hours=1), "CET")))
@example(time(0, tzinfo=timezone(timedelta(microseconds=1))))
@example({"$date": "2024-01-01"})
@example({"$$date": {"$": 1}})
@example({(1, (2, frozenset({(3,)})))})
@example(-0.0)
def test_a_result_arrives_equal_and_of_the_same_type(value: Any) -> None:
    assert is_same(decode_result(encode_result(value, JSON), JSON), value)


@given(st.lists(values, max_size=3).map(tuple), st.dictionaries(keys, values, max_size=3))
def test_arguments_arrive_equal_and_of_the_same_type(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    assert is_same(decode_arguments(encode_arguments(args, kwargs, JSON), JSON), (args, kwargs))


def test_a_tuple_arrives_as_a_list() -> None:
    assert decode_result(encode_result((1, [(2,)]), JSON), JSON) == [1, [[2]]]


def test_a_moment_in_a_named_zone_compares_equal_also_when_it_is_ambiguous() -> None:
    # Between two zone objects Python calls such moments unequal.
    moment = datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1)
    assert decode_result(encode_result(moment, JSON), JSON) == moment


@given(st.lists(st.one_of(texts, st.integers(), st.dates()), max_size=8))
def test_equal_sets_make_equal_bytes(items: list[Any]) -> None:
    backwards = items[::-1]
    assert encode_result(set(items), JSON) == encode_result(set(backwards), JSON)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": 1}, b'{"a":1}'),
        ({"$a": 1}, b'{"$$a":1}'),
        ({"$a": 1, "b": 2}, b'{"$a":1,"b":2}'),
        (date(2024, 2, 29), b'{"$date":"2024-02-29"}'),
        (
            datetime(2024, 2, 29, 1, tzinfo=UTC),
            b'{"$datetime":"2024-02-29T01:00:00+00:00"}',
        ),
        (
            datetime(2024, 2, 29, 1, tzinfo=ZoneInfo("Europe/Berlin")),
            b'{"$datetime":["2024-02-29T01:00:00",0,"Europe/Berlin"]}',
        ),
        (time(1, 2, fold=1), b'{"$time":["01:02:00",1,null]}'),
        (timedelta(seconds=-1), b'{"$timedelta":[-1,86399,0]}'),
        (uuid.UUID(int=1), b'{"$uuid":"00000000-0000-0000-0000-000000000001"}'),
        (Decimal("1.10"), b'{"$decimal":"1.10"}'),
        (b"\x00\xff", b'{"$bytes":"AP8="}'),
        ({2, 1}, b'{"$set":[1,2]}'),
        (frozenset({(1,)}), b'{"$frozenset":[{"$tuple":[1]}]}'),
    ],
)
def test_the_wire_form_stays_as_it_is(value: Any, text: bytes) -> None:
    # Stored and queued tasks are in this form: a change would lose them.
    assert encode_result(value, JSON) == text


def test_data_of_the_greatest_depth_arrives() -> None:
    value: Any = 1
    for _ in range(MAX_DEPTH):
        value = [value]
    assert decode_result(encode_result(value, JSON), JSON) == value
    assert decode_arguments(encode_arguments((value,), {}, JSON), JSON) == ((value,), {})


def test_hashables_of_the_greatest_depth_arrive() -> None:
    value: Any = 1
    for _ in range(MAX_DEPTH - 1):
        value = (value,)
    assert decode_result(encode_result({value}, JSON), JSON) == {value}


@pytest.fixture
def fewest_digits() -> Iterator[None]:
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(640)
    yield
    sys.set_int_max_str_digits(before)


@pytest.mark.usefixtures("fewest_digits")
@pytest.mark.parametrize("bits", [63, 64, 2047, 2048, 2049, 40_000])
def test_integers_of_any_size_arrive_whatever_the_digit_limit(bits: int) -> None:
    for value in (2**bits, -(2**bits), 2**bits - 1):
        assert decode_result(encode_result([value, {"x": value}], JSON), JSON) == [
            value,
            {"x": value},
        ]


@pytest.mark.usefixtures("fewest_digits")
def test_more_digits_than_python_allows_are_not_decodable() -> None:
    with pytest.raises(NotDecodable):
        decode_result(b"9" * 4000, JSON)


def test_every_format_has_one_number() -> None:
    assert FORMAT_IDS == {JSON: 1, PICKLE: 2}
    assert FORMATS == {1: JSON, 2: PICKLE}
