"""Frames and bodies come back as they went; everything else is one error, and cheap."""

from __future__ import annotations

import random
import tracemalloc
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastworker._core import _messages as messages
from fastworker._core._bundle import LARGE_BYTES
from fastworker._core._codec import (
    REQUEST_BODIES,
    decode_body,
    decode_frame,
    digest,
    encode,
)
from fastworker._core._messages import (
    Hello,
    Kind,
    Reply,
    Request,
    Role,
    Submit,
    TaskIds,
    TaskSpec,
)
from fastworker._errors import RemoteProtocolError

FRAMES: list[Any] = list(get_args(messages.Frame))
BODIES: list[Any] = list(get_args(messages.Body))
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def strategy_of(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a field's type, within its caps."""
    is_info = isinstance(kind, msgspec.inspect.Type)
    info = kind if is_info else msgspec.inspect.type_info(kind)
    match info:
        case msgspec.inspect.StructType(cls=cls, fields=fields):
            values = {f.encode_name: strategy_of(f.type) for f in fields}
            return st.fixed_dictionaries(values).map(lambda given: cls(**given))
        case msgspec.inspect.IntType(ge=low, le=high, lt=below):
            top = high if high is not None else (below - 1 if below is not None else 2**62)
            return st.integers(low or 0, top)
        case msgspec.inspect.FloatType(ge=low, le=high):
            return st.floats(low, high, allow_nan=False)
        case msgspec.inspect.BoolType():
            return st.booleans()
        case msgspec.inspect.UnionType(types=kinds):
            return st.one_of([strategy_of(each) for each in kinds])
        case msgspec.inspect.NoneType():
            return st.none()
        case msgspec.inspect.StrType(pattern=str() as pattern, max_length=high):
            return st.from_regex(pattern).filter(lambda text: len(text) <= (high or 9))
        case msgspec.inspect.StrType(min_length=low, max_length=high):
            return st.text(min_size=low or 0, max_size=min(high or 9, 9))
        case msgspec.inspect.BytesType(min_length=low, max_length=high):
            return st.binary(min_size=low or 0, max_size=min(high or 40, 40))
        case msgspec.inspect.EnumType(cls=cls):
            return st.sampled_from(cls)
        case msgspec.inspect.ListType(item_type=item):
            return st.lists(strategy_of(item), max_size=3)
        case msgspec.inspect.VarTupleType(item_type=item):
            return st.lists(strategy_of(item), max_size=3).map(tuple)
        case msgspec.inspect.DictType(key_type=key, value_type=value):
            return st.dictionaries(strategy_of(key), strategy_of(value), max_size=3)
        case _:
            raise AssertionError(f"no strategy for {info}")


@pytest.mark.parametrize("kind", FRAMES, ids=lambda kind: kind.__name__)
def test_every_frame_comes_back_as_it_went(kind: Any) -> None:
    @QUICK
    @given(strategy_of(kind))
    def check(frame: Any) -> None:
        assert decode_frame(encode(frame)) == frame

    check()


@pytest.mark.parametrize("kind", BODIES, ids=lambda kind: kind.__name__)
def test_every_body_comes_back_as_it_went(kind: Any) -> None:
    @QUICK
    @given(strategy_of(kind))
    def check(body: Any) -> None:
        assert decode_body(kind, encode(body)) == body

    check()


def try_everything(data: bytes) -> None:
    """Decode as each thing it could be; only one error may come of it."""
    for decode in [decode_frame, *(lambda d, k=kind: decode_body(k, d) for kind in BODIES)]:
        try:
            decode(data)
        except RemoteProtocolError:
            pass


def samples() -> list[bytes]:
    spec = TaskSpec("t1", "add", 2, 1, b"[[1,2],{}]", 1.0)
    body = encode(Submit([spec] * 3))
    request = Request(b"s" * 16, 1, 0, 1, 1, digest(Kind.SUBMIT, body), Kind.SUBMIT, body)
    hello = Hello(
        1, 1, b"s" * 16, Role.SUBWORKER, 0, "w", "", [messages.FunctionInfo("a", "b")]
    )
    report = messages.Report(
        1,
        [messages.StartedAttempt("t", 1, 1.0)],
        [messages.EndedAttempt("t", 1, messages.WireStatus.SUCCESS, 1.0, 1.0, 1.0)],
        [messages.HandedBack("t", 1)],
        {"add": 0.5},
    )
    return [body, encode(request), encode(hello), encode(report), encode(TaskIds(["a", "b"]))]


def test_ten_thousand_broken_frames_raise_one_error_and_keep_no_memory() -> None:
    """N6: random bytes, flipped bits, cut and glued frames."""
    randomness = random.Random(7)
    seeds = samples()
    tracemalloc.start()
    try:
        for number in range(2000):  # each is decoded as each of the eleven things
            data = bytearray(randomness.choice(seeds))
            for _ in range(randomness.randint(1, 4)):
                position = randomness.randrange(len(data))
                match randomness.randrange(4):
                    case 0:
                        data[position] ^= 1 << randomness.randrange(8)
                    case 1:
                        data[position] = randomness.choice([0xDD, 0xDF, 0xC6, 0xDB, 0xC1, 0xFF])
                    case 2:
                        del data[position:]
                        data += b"\xc0"
                    case _:
                        data[position:position] = randomness.randbytes(5)
            try_everything(bytes(data))
            try_everything(randomness.randbytes(number % 100))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000


@pytest.mark.parametrize(
    "data",
    [
        b"\x91" * 100_000,  # arrays in arrays
        b"\x81\xa1k" * 100_000,  # maps in maps
        b"\x9a\x04" + b"\x91" * 200_000,
        b"\xdd\xff\xff\xff\xff" * 1000,  # arrays of four billion items
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff\xff",  # text that is not UTF-8, and too short
        b"\xa2\xff\xfe",
        b"",
        b"\xc1",
    ],
    ids=lambda data: data[:6].hex() or "empty",
)
def test_deep_and_huge_claims_are_refused_at_once(data: bytes) -> None:
    # N6 in docs/faults.md.
    tracemalloc.start()
    try:
        try_everything(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


def a_submit(**changes: Any) -> list[Any]:
    fields = {
        "id": "t",
        "name": "n",
        "priority": 2,
        "format": 1,
        "payload": b"",
        "created": 0.0,
    }
    return [[list((fields | changes).values())]]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (Submit, a_submit(id="x" * 257)),
        (Submit, a_submit(id="")),
        (Submit, a_submit(priority=4)),
        (Submit, a_submit(priority=-1)),
        (Submit, a_submit(payload="text")),
        (Submit, a_submit(created=float("nan"))),
        (Submit, a_submit(created=1e300)),
        (TaskIds, [["a"] * 20_001]),
        (messages.Poll, [-1]),
        (messages.Poll, [2**62 + 1]),
        (messages.Lease, [0, {"l": 100_001}]),
        (messages.Lease, [0, {"x" * 257: 1}]),
        (messages.Report, [1, [["t", 2**31 + 1, 0.0]]]),
        (messages.Report, [1, [["t", 1, float("inf")]]]),
    ],
    ids=str,
)
def test_what_is_over_a_cap_is_refused(kind: Any, body: list[Any]) -> None:
    """B1: and a wall time out of which no datetime can be made."""
    with pytest.raises(RemoteProtocolError):
        decode_body(kind, msgspec.msgpack.encode(body))


def test_a_frame_names_its_slot_and_session_within_their_caps() -> None:
    good = msgspec.to_builtins(
        Request(b"s" * 16, 1, 0, 1, 1, bytes(8), Kind.POLL, b""), builtin_types=(bytes,)
    )
    assert decode_frame(msgspec.msgpack.encode(good))
    for position, value in [(1, b"short"), (3, 16), (4, 0), (6, bytes(9)), (7, 99)]:
        bad = [*good[:position], value, *good[position + 1 :]]
        with pytest.raises(RemoteProtocolError):
            decode_frame(msgspec.msgpack.encode(bad))


def test_fields_added_by_a_newer_peer_are_passed_over() -> None:
    """U1."""
    assert decode_body(messages.Poll, msgspec.msgpack.encode([7, "new"])).cursor == 7


def test_each_kind_of_request_has_its_body() -> None:
    assert set(REQUEST_BODIES) == set(Kind)


def test_a_digest_tells_kinds_and_bodies_apart() -> None:
    digests = {digest(kind, body) for kind in Kind for body in (b"", b"a", b"b")}
    assert len(digests) == 3 * len(Kind)


@pytest.mark.parametrize("kind", [Request, Reply])
def test_a_large_body_is_decoded_where_it_lies(kind: type[Request | Reply]) -> None:
    body = bytes(LARGE_BYTES)
    frame = (
        Request(b"s" * 16, 1, 0, 1, 1, b"d" * 8, Kind.SUBMIT, body)
        if kind is Request
        else Reply(b"s" * 16, 1, 0, 1, body)
    )
    data = encode(frame)
    tracemalloc.start()
    decoded = decode_frame(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert decoded == frame
    assert peak < LARGE_BYTES / 2


def test_a_large_frame_that_is_none_is_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        decode_frame(bytes(LARGE_BYTES))


def test_large_requests_are_told_apart() -> None:
    body = bytes(LARGE_BYTES)
    others = [body + b"\0", body[:-1] + b"\1", b"\1" + body[1:]]
    digests = {digest(Kind.SUBMIT, each) for each in [body, *others]}
    assert len(digests | {digest(Kind.REPORT, body)}) == 5
