"""Hostile bytes: what one frame, one body or one value from a stranger may look like (N6).

Made from a seed and nothing else. Most are nearly right: something that a peer could say,
with a few bytes changed, cut off or put in.
"""

from __future__ import annotations

import functools
import json
import math
import string
from collections.abc import Callable
from random import Random
from typing import Any, Final, get_args

import msgspec

from fastworker._core import _messages as messages
from fastworker._core._bundle import join, with_checksum
from fastworker._core._codec import encode

FRAMES: Final[list[Any]] = list(get_args(messages.Frame))
BODIES: Final[list[Any]] = list(get_args(messages.Body))
# Where msgpack says that an array, a map, bytes, a text or nothing at all follows.
_CLAIMS: Final = (0xDD, 0xDF, 0xC6, 0xDB, 0xC1, 0xFF)
_MONSTERS: Final = (
    b"\x91" * 2_000,
    b"\x81\xa1k" * 2_000,
    b"\x9a\x04" + b"\x91" * 2_000,
    b"\xdd\xff\xff\xff\xff" * 100,
    b"\xdf\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff" + b"x" * 100,
    b"\xdb\xff\xff\xff\xff\xff",
    b"\xa2\xff\xfe",
    b"\x98" + b"\xdd\x7f\xff\xff\xff" * 8,
    b"GET / HTTP/1.1\r\nHost: fastworker\r\n\r\n",
)
_LARGE: Final = (
    b"\x91" * 200_000,
    b"\x81\xa1k" * 100_000,
    b"\x98" + b"\xc4\xff" * 100_000,
)


def a_frame(rng: Random) -> bytes:
    """One frame of whatever kind, or bytes that are none."""
    return _hostile(rng, lambda: encode(a_message(rng, rng.choice(FRAMES))))


def a_body(rng: Random, kind: Any) -> bytes:
    """The body of a request or a reply, or bytes that are none."""
    # Often that of another kind: who can tell them apart by their form?
    meant = kind if rng.random() < 0.7 else rng.choice(BODIES)
    return _hostile(rng, lambda: encode(a_message(rng, meant)))


def a_bundle(rng: Random) -> bytes:
    """A message of frames, glued and cut in the wrong places."""
    glued = join([a_frame(rng) for _ in range(rng.randrange(1, 5))])
    if rng.random() < 0.5:
        return _hostile(rng, lambda: glued)
    # Whoever wants to can make a checksum that fits.
    return with_checksum(_hostile(rng, lambda: glued[:-4]))


def a_json(rng: Random) -> bytes:
    """A value of the JSON format, or what only looks like one."""
    match rng.randrange(8):
        case 0:
            return rng.choice([b"[", b'{"a":', b'{"$set":[', b'{"$bytes":"']) * rng.choice(
                [1, 50, 2_000]
            )
        case 1:
            return b"9" * rng.choice([1, 400, 5_000])
        case 2:
            key = json.dumps(a_text(rng))
            return f"{{{key}:1,{key}:2}}".encode()
        case 3 if rng.random() < 0.002:
            many = rng.choice([b"[" * 100_000, b"9" * 200_000, b""])
            return many or json.dumps(dict.fromkeys(map(str, range(100_000)))).encode()
        case _:
            return _hostile(rng, lambda: json.dumps(a_json_value(rng, 3)).encode())


def a_message(rng: Random, kind: Any) -> Any:
    """A valid message of this type; its fields are any that their types allow."""
    return _value(rng, _info(kind))


_info: Final = functools.cache(msgspec.inspect.type_info)


def a_text(rng: Random, least: int = 0, most: int = 12) -> str:
    letters = string.ascii_letters + "$_.\0\n é€\U0001f600"
    return "".join(rng.choice(letters) for _ in range(rng.randint(least, max(least, most))))


# --- how it is damaged ---


def _hostile(rng: Random, make: Callable[[], bytes]) -> bytes:
    chance = rng.random()
    if chance < 0.1:
        return make()
    if chance < 0.85:
        return damaged(rng, make())
    if chance < 0.95:
        return rng.randbytes(rng.choice([0, 1, 7, 60, 500]))
    if chance < 0.999:
        return rng.choice(_MONSTERS)
    return rng.choice(_LARGE)


def damaged(rng: Random, good: bytes) -> bytes:
    """Bytes that were right, with a few changed, cut off or put in."""
    data = bytearray(good)
    for _ in range(rng.randint(1, 4)):
        if not data:
            break
        position = rng.randrange(len(data))
        match rng.randrange(6):
            case 0 | 1:
                data[position] ^= 1 << rng.randrange(8)
            case 2:
                data[position] = rng.choice(_CLAIMS)
            case 3:
                del data[position:]
                data += rng.choice([b"", b"\xc0"])
            case 4:
                data[position:position] = rng.randbytes(rng.randrange(1, 9))
            case _:
                end = min(len(data), position + rng.randrange(1, 20))
                data += data[position:end]
    return bytes(data)


# --- what is right ---


def _value(rng: Random, info: Any) -> Any:
    match info:
        case msgspec.inspect.Metadata(type=inner):
            return _value(rng, inner)
        case msgspec.inspect.StructType(cls=cls, fields=fields):
            return cls(*(_value(rng, field.type) for field in fields))
        case msgspec.inspect.IntType(ge=low, le=high, lt=below):
            top = high if high is not None else (below - 1 if below is not None else 2**62)
            bottom = low or 0
            near = min(top, bottom + 3)
            return rng.choice([bottom, near, near, rng.randint(bottom, top), top])
        case msgspec.inspect.FloatType(ge=low, le=high):
            least, most = low or 0.0, high if high is not None else 1e6
            return rng.choice([least, most, rng.uniform(least, min(most, 1e6))])
        case msgspec.inspect.BoolType():
            return rng.random() < 0.5
        case msgspec.inspect.NoneType():
            return None
        case msgspec.inspect.UnionType(types=types):
            return _value(rng, rng.choice(types))
        case msgspec.inspect.StrType(pattern=str()):
            return rng.choice(["tcp://127.0.0.1:20001", "tcp://h:1"])
        case msgspec.inspect.StrType(min_length=low, max_length=high):
            return rng.choice(["t", "add"]) if low else a_text(rng, 0, min(high or 9, 9))
        case msgspec.inspect.BytesType(min_length=low, max_length=high):
            return rng.randbytes(rng.randint(low or 0, min(high or 30, 30)))
        case msgspec.inspect.EnumType(cls=cls):
            return rng.choice(list(cls))
        case msgspec.inspect.ListType(item_type=item):
            return [_value(rng, item) for _ in range(rng.randrange(3))]
        case msgspec.inspect.VarTupleType(item_type=item):
            return tuple(_value(rng, item) for _ in range(rng.randrange(3)))
        case msgspec.inspect.DictType(key_type=key, value_type=value):
            return {_value(rng, key): _value(rng, value) for _ in range(rng.randrange(3))}
        case _:
            raise AssertionError(f"no value for {info}")


def a_json_value(rng: Random, depth: int) -> Any:
    """Any value that JSON has a form for, or that looks like one of our tags."""
    match rng.randrange(9 if depth else 5):
        case 0:
            return rng.choice([None, True, False])
        case 1:
            return rng.choice([0, -1, 2**53, 10**30, rng.getrandbits(80)])
        case 2:
            return rng.choice([0.5, -0.0, 1e300, math.nan, math.inf])
        case 3:
            return a_text(rng)
        case 4:
            return rng.choice(
                ["2024-01-01", "Europe/Berlin", "../x", "AA==", "1e5", "ff", "NaN", "sNaN"]
            )
        case 5 | 6:
            return [a_json_value(rng, depth - 1) for _ in range(rng.randrange(4))]
        case _:
            tags = ["datetime", "date", "time", "timedelta", "uuid", "decimal", "bytes", "set"]
            names = [*(f"${tag}" for tag in tags), "$$x", "$no", a_text(rng)]
            return {
                rng.choice(names): a_json_value(rng, depth - 1)
                for _ in range(rng.choice([1, 1, 2]))
            }
