"""Arguments and results arrive equal and of the same type, or are refused."""

from __future__ import annotations

import collections
import dataclasses
import enum
import inspect
import io
import json
import math
import sys
import threading
import uuid
import zoneinfo
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastworker._errors import NotDecodable, NotEncodable
from fastworker._json_tags import MAX_DEPTH, TAGS
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


# --- what is refused ---


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


# --- what is not decodable ---

json_like = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(
        ["2024-01-01", "Europe/Berlin", "../x", "AA==", "1e5", "ff", "NaN", "sNaN"]
    ),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from([*TAGS, "$set", "$frozenset", "$tuple", "$int", "$no", "$$x"])
            | st.text(max_size=2),
            inner,
            max_size=2,
        )
    ),
    max_leaves=10,
)


@given(json_like.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=50))
@example(b'{"$decimal":{"$decimal":"1"}}')
@example(b'{"$set":[{"$decimal":"sNaN"}]}')
@example(b'{"$datetime":["2024-01-01",0,"Europe"]}')
@example(b'{"$datetime":["2024-01-01",0,"posix"]}')
def test_decoding_gives_a_value_that_would_be_written_so_or_not_decodable(data: bytes) -> None:
    try:
        value = decode_result(data, JSON)
    except NotDecodable:
        pass
    else:
        assert is_same(decode_result(encode_result(value, JSON), JSON), value)
    try:
        args, kwargs = decode_arguments(data, JSON)
    except NotDecodable:
        pass
    else:
        assert type(args) is tuple
        assert type(kwargs) is dict


@pytest.mark.parametrize(
    "data",
    [
        b" ",
        b"NaN",
        b"[1,]",
        b"1e999",
        b'"\xff"',
        b'"\\ud800"',
        b'"\xed\xa0\x80"',
        b"9" * 5000,
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b"[" * 65 + b"]" * 65,
        b'{"a":' * 65 + b"1" + b"}" * 65,
        b'{"$set":[' * 65 + b"]}" * 65,
        b'{"a":1,"a":2}',
        b'{"a":{"$date":"2024-01-01","$date":"2024-01-02"}}',
        b'{"a":1,"\\u0061":2}',
        b'{"$no":1}',
        b'{"$tuple":[1]}',
        b'{"$set":{}}',
        b'{"$set":[1,1]}',
        b'{"$set":[1,true]}',
        b'{"$set":[[1]]}',
        b'{"$set":[{"$tuple":1}]}',
        b'{"$frozenset":[{"a":1}]}',
        b'{"$date":"20240229"}',
        b'{"$date":5}',
        b'{"$date":"2024-02-30"}',
        b'{"$datetime":["2024-01-01T00:00:00",0,"../../etc/passwd"]}',
        b'{"$datetime":["2024-01-01T00:00:00",0,"Nowhere/Town"]}',
        b'{"$datetime":["2024-01-01T00:00:00",2,null]}',
        b'{"$datetime":["2024-01-01T00:00:00",0,null]}',
        b'{"$datetime":["2024-01-01T00:00:00",0,[0,999999,0]]}',
        b'{"$timedelta":[1,2]}',
        b'{"$timedelta":[0,86400,0]}',
        b'{"$timedelta":[1e300,0,0]}',
        b'{"$timedelta":{}}',
        b'{"$uuid":"{00000000-0000-0000-0000-000000000001}"}',
        b'{"$uuid":1}',
        b'{"$decimal":" 1"}',
        b'{"$decimal":"1_0"}',
        b'{"$decimal":"1e99999999999999999999"}',
        b'{"$decimal":[0,[1],0]}',
        b'{"$bytes":"AP9="}',
        b'{"$bytes":"AP8"}',
        b'{"$bytes":"A\xc3\xa4"}',
        b'{"$bytes":7}',
        b'{"$int":"ff"}',
        b'{"$int":"0x1"}',
        b'{"$int":5}',
        b'{"$set":[' + b",".join(b"%d" % (k * (2**61 - 1)) for k in range(100)) + b"]}",
    ],
    ids=lambda data: ascii(data[:40]),
)
def test_what_the_encoder_never_writes_is_not_decodable(data: bytes) -> None:
    with pytest.raises(NotDecodable):
        decode_result(data, JSON)
    with pytest.raises(NotDecodable):
        decode_arguments(b"[[1," + data + b"],{}]", JSON)
    with pytest.raises(NotDecodable):
        decode_arguments(b'[[],{"x":' + data + b"}]", JSON)


@pytest.mark.parametrize(
    "data", [b"1", b"[]", b"[[]]", b"[[],[]]", b"[{},{}]", b"[[],{},1]", b'{"a":1}', b"null"]
)
def test_arguments_have_one_shape(data: bytes) -> None:
    with pytest.raises(NotDecodable, match="positional"):
        decode_arguments(data, JSON)


def test_another_writers_spacing_and_escapes_are_accepted() -> None:
    data = b'[ [1, {"\\u0024date" : "2024-02-29"}], {"a": 1e0} ]'
    assert decode_arguments(data, JSON) == ((1, date(2024, 2, 29)), {"a": 1.0})


def test_decoding_imports_nothing_that_the_bytes_name() -> None:
    before = set(sys.modules)
    for text in ("this", "antigravity", "tzdata", "test.support", "lib2to3"):
        for data in (
            b'{"$datetime":["2024-01-01T00:00:00",0,"%s"]}' % text.encode(),
            b'{"$%s":"x"}' % text.encode(),
        ):
            with pytest.raises(NotDecodable):
                decode_result(data, JSON)
    assert not {"this", "antigravity", "test.support", "lib2to3"} & (set(sys.modules) - before)


@pytest.mark.parametrize("key", ["a.b", "Europe/Berlin.py", "a\0b", "", "x" * 99, 5, {}])
def test_only_what_looks_like_a_zone_key_is_looked_up(key: Any) -> None:
    data = json.dumps({"$time": ["00:00:00", 0, key]}).encode()
    with pytest.raises(NotDecodable, match=r"not the key|TypeError"):
        decode_result(data, JSON)


# --- pickle ---


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


def test_every_format_has_one_number() -> None:
    assert FORMAT_IDS == {JSON: 1, PICKLE: 2}
    assert FORMATS == {1: JSON, 2: PICKLE}
