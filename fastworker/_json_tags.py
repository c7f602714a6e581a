"""The value types that travel tagged in JSON: one pair of functions for each.

``pack`` gives what stands in the tag, ``unpack`` makes the value of it. The
decoder packs each value again and compares, so ``unpack`` may be lenient: only
the one form that ``pack`` writes is ever accepted.
"""

from __future__ import annotations

import binascii
import dataclasses
import enum
import numbers
import pickle
import re
import uuid
from collections.abc import Callable, Collection
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec


class TagError(Exception):
    """A value of a tagged type that cannot travel; the message goes on a path."""


# Deeper data is a mistake or an attack; msgspec and this module both recurse.
MAX_DEPTH: Final = 64

# 2**2048 has 617 digits. Python can be told to refuse to convert more than
# 640 digits (never fewer), so integers from here on travel in hexadecimal.
PLAIN_INT_LIMIT: Final = 1 << 2048

# Equal hashes make a set quadratic, and integers with equal hashes are easily
# made. No honest set comes near this.
MAX_EQUAL_HASHES: Final = 64


# No dots: a key is looked up in the tzdata package too, as a resource name.
_ZONE_KEY: Final = re.compile(r"[A-Za-z0-9_+-]{1,32}(/[A-Za-z0-9_+-]{1,32}){0,3}")


def _pack_moment(value: datetime | time) -> Any:
    """ISO text alone where that says all, else [text, fold, zone]."""
    zone = value.tzinfo
    if value.fold == 0 and (zone is None or _is_plain_offset(zone)):
        return value.isoformat()
    return [value.replace(tzinfo=None).isoformat(), value.fold, _pack_zone(zone)]


def _unpack_moment(kind: type[Any]) -> Callable[[Any], Any]:
    def unpack(content: Any) -> Any:
        if type(content) is not list:
            return kind.fromisoformat(content)
        text, fold, zone = content
        return kind.fromisoformat(text).replace(fold=fold, tzinfo=_unpack_zone(zone))

    return unpack


def _is_plain_offset(zone: tzinfo) -> bool:
    # A timezone that was given a name would come back without it, and Python
    # reads "+00:00:00.000001" as UTC (3.11), so only whole minutes are text.
    if type(zone) is not timezone:
        return False
    offset, *name = _arguments_of(zone)
    return not name and not offset.microseconds and offset.seconds % 60 == 0


def _arguments_of(zone: timezone) -> tuple[Any, ...]:
    """What the timezone was made with: an offset, and a name if it has one."""
    arguments: tuple[Any, ...] = zone.__reduce__()[1]  # type: ignore[assignment]
    return arguments


def _pack_zone(zone: tzinfo | None) -> Any:
    if zone is None:
        return None
    if type(zone) is timezone:
        offset, *name = _arguments_of(zone)
        return [*_pack_timedelta(offset), *name]
    if type(zone) is not ZoneInfo:
        kind = type(zone)
        raise TagError(
            f"has a tzinfo of the class {kind.__module__}.{kind.__qualname__}; "
            f"use zoneinfo.ZoneInfo or datetime.timezone, or convert it to UTC"
        )
    if not _is_made_by_key(zone) or _ZONE_KEY.fullmatch(zone.key) is None:
        raise TagError(f"has the time zone {zone!r}, which is not one made by ZoneInfo(key)")
    return zone.key


def _is_made_by_key(zone: ZoneInfo) -> bool:
    # How a zone pickles tells how it was made: ZoneInfo(key) is the same object
    # each time, ZoneInfo.no_cache(key) is not, and from_file() has no key.
    try:
        arguments: tuple[Any, ...] = zone.__reduce__()[1]  # type: ignore[assignment]
    except pickle.PicklingError:
        return False
    return bool(arguments[1])


def _unpack_zone(content: Any) -> tzinfo | None:
    if content is None:
        return None
    if type(content) is list:
        days, seconds, microseconds, *name = content
        return timezone(timedelta(days, seconds, microseconds), *name)
    if _ZONE_KEY.fullmatch(content) is None:
        raise ValueError("not the key of a time zone")
    return ZoneInfo(content)


def _pack_timedelta(value: timedelta) -> list[int]:
    return [value.days, value.seconds, value.microseconds]


def _unpack_timedelta(content: Any) -> timedelta:
    days, seconds, microseconds = content
    return timedelta(days, seconds, microseconds)


def _pack_bytes(value: bytes | bytearray) -> str:
    return binascii.b2a_base64(value, newline=False).decode("ascii")


def _unpack_bytes(content: Any) -> bytes:
    return binascii.a2b_base64(content, strict_mode=True)


def _unpack_bytearray(content: Any) -> bytearray:
    return bytearray(_unpack_bytes(content))


def _unpack_uuid(content: Any) -> uuid.UUID:
    if type(content) is not str:
        raise TypeError("not a str")
    return uuid.UUID(content)


def _unpack_decimal(content: Any) -> Decimal:
    if type(content) is not str:
        raise TypeError("not a str")
    return Decimal(content)


Pack = Callable[[Any], Any]
Unpack = Callable[[Any], Any]

_TABLE: Final[list[tuple[type, str, Pack, Unpack]]] = [
    (datetime, "$datetime", _pack_moment, _unpack_moment(datetime)),
    (date, "$date", date.isoformat, date.fromisoformat),
    (time, "$time", _pack_moment, _unpack_moment(time)),
    (timedelta, "$timedelta", _pack_timedelta, _unpack_timedelta),
    (uuid.UUID, "$uuid", str, _unpack_uuid),
    (Decimal, "$decimal", str, _unpack_decimal),
    (bytes, "$bytes", _pack_bytes, _unpack_bytes),
    (bytearray, "$bytearray", _pack_bytes, _unpack_bytearray),
]

TAGGED_TYPES: Final[dict[type, tuple[str, Pack]]] = {
    kind: (tag, pack) for kind, tag, pack, _ in _TABLE
}
TAGS: Final[dict[str, tuple[type, Unpack]]] = {
    tag: (kind, unpack) for kind, tag, _, unpack in _TABLE
}


def hint_for(value: object) -> str:
    """Say what to pass instead of a value that JSON cannot carry as it is."""
    if isinstance(value, enum.Enum):
        return "pass its .value or .name"
    if dataclasses.is_dataclass(value):
        return "pass dataclasses.asdict(value)"
    if isinstance(value, msgspec.Struct):
        return "pass msgspec.structs.asdict(value)"
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return "pass value._asdict() or tuple(value)"
    if isinstance(value, (memoryview, bytes, bytearray)):
        return "pass bytes(value)"
    if isinstance(value, complex):
        return "pass [value.real, value.imag]"
    for base in (str, float, list, tuple, dict, set, frozenset):
        if isinstance(value, base):
            return f"it would arrive as a plain {base.__name__}, so pass {base.__name__}(value)"
    if isinstance(value, numbers.Integral):
        return "pass int(value)"
    for kind in TAGGED_TYPES:
        if isinstance(value, kind):
            return f"it would arrive as a plain {kind.__name__}, so convert it to that first"
    return "pass plain data instead, or use SerializationFormat.PICKLE"


def has_colliding_hashes(items: Collection[Any]) -> bool:
    if len(items) <= MAX_EQUAL_HASHES:
        return False
    counts: dict[int, int] = {}
    for item in items:
        code = hash(item)
        counts[code] = counts.get(code, 0) + 1
    return max(counts.values()) > MAX_EQUAL_HASHES


def name_of(value: object) -> str:
    kind = type(value)
    if kind.__module__ == "builtins":
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def shown(value: Any) -> str:
    """Show plain data in a message, cut short."""
    if isinstance(value, (str, bytes)):
        value = value[:80]
    elif isinstance(value, int) and value.bit_length() > 256:
        return "(a large int)"
    elif not isinstance(value, (int, float, type(None))):
        return f"({name_of(value)})"
    return ascii(value)
