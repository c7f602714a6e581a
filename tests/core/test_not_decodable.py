"""Bytes from anybody become a value or NotDecodable, and nothing else happens."""

from __future__ import annotations

import json
import sys
from datetime import date
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastworker._errors import NotDecodable
from fastworker._json_tags import MAX_DEPTH, TAGS
from fastworker._models import SerializationFormat
from fastworker._serialization import (
    decode_arguments,
    decode_result,
    encode_result,
)

from .test_serialization import is_same

JSON = SerializationFormat.JSON


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
    # N6 in docs/faults.md.
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
    # X7 in docs/faults.md.
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


@pytest.mark.parametrize("depth", [1, MAX_DEPTH, MAX_DEPTH + 1, MAX_DEPTH + 2])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"k":', "}")])
def test_large_data_may_be_as_deep_as_small(opening: str, closing: str, depth: int) -> None:
    def decodes(text: str) -> bool:
        data = f'{opening * depth}"{text}"{closing * depth}'.encode()
        try:
            return bool(decode_result(data, JSON))
        except NotDecodable:
            return False

    assert decodes("x" * 100_000) == decodes("x") == (depth <= MAX_DEPTH)
