"""JSON to the Python values that the encoder was given, or NotDecodable.

The bytes may come from anybody. Tags name value types from a closed table, so
decoding never imports or calls anything that the bytes name, and its time and
memory are bounded by their number.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any, Final

import msgspec

from fastworker._errors import NotDecodable
from fastworker._json_tags import (
    MAX_DEPTH,
    MAX_EQUAL_HASHES,
    PLAIN_INT_LIMIT,
    TAGGED_TYPES,
    TAGS,
    has_colliding_hashes,
    shown,
)

_SET_TAGS: Final[dict[str, type[set[Any]] | type[frozenset[Any]]]] = {
    "$set": set,
    "$frozenset": frozenset,
}

_LARGE_BYTES: Final = 64 * 1024

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


def decode_json_arguments(data: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Decode what ``encode_json_arguments`` made.

    Raises:
      NotDecodable: the bytes are not a call's arguments.
    """
    plain, is_final = _load(data)
    if type(plain) is not list or len(plain) != 2:
        raise NotDecodable("arguments are not [[positional], {keyword}]")
    positional, keyword = plain
    if type(positional) is not list or type(keyword) is not dict:
        raise NotDecodable("arguments are not [[positional], {keyword}]")
    if is_final:
        return tuple(positional), keyword
    try:
        for name, value in keyword.items():
            keyword[name] = _untag(value, 0)
        return tuple([_untag(value, 0) for value in positional]), keyword
    except RecursionError:
        raise NotDecodable("arguments: no stack left to decode them") from None


def decode_json_value(data: bytes) -> Any:
    """Decode what ``encode_json_value`` made.

    Raises:
      NotDecodable: the bytes are not such a value.
    """
    plain, is_final = _load(data)
    if is_final:
        return plain
    try:
        return _untag(plain, 0)
    except RecursionError:
        raise NotDecodable("result: no stack left to decode it") from None


def _untag(value: Any, depth: int) -> Any:
    """Undo ``_tag``, in place where that is possible."""
    kind = type(value)
    if kind is list:
        _check_depth(depth)
        kinds = set(map(type, value))
        if list in kinds or dict in kinds:
            value[:] = [_untag(item, depth + 1) for item in value]
        return value
    if kind is not dict:
        return value
    if len(value) == 1:
        [(key, content)] = value.items()
        if key[:1] == "$":
            if key[:2] != "$$":
                return _untag_value(key, content, depth)
            value = {key[1:]: content}
    _check_depth(depth)
    for key, item in value.items():
        value[key] = _untag(item, depth + 1)
    return value


def _untag_value(tag: str, content: Any, depth: int) -> Any:
    set_type = _SET_TAGS.get(tag)
    if set_type is not None:
        return set_type(_untag_elements(content, depth, tag))
    if tag == "$int":
        return _untag_int(content)
    try:
        kind, unpack = TAGS[tag]
    except KeyError:
        raise NotDecodable(f"{shown(tag)} is not a tag of FastWorker's JSON") from None
    try:
        value = unpack(content)
        _, pack = TAGGED_TYPES[kind]
        # What does not give the same text again was not written by FastWorker.
        is_canonical = pack(value) == content
    except (ValueError, TypeError, ArithmeticError, LookupError, OSError, ImportError) as error:
        raise NotDecodable(f"{tag} {shown(content)}: {type(error).__name__}: {error}") from None
    if not is_canonical:
        raise NotDecodable(f"{tag} {shown(content)}: not in the form that FastWorker writes")
    return value


def _untag_int(content: Any) -> int:
    if type(content) is str:
        try:
            value = int(content, 16)
        except ValueError:
            pass
        else:
            if abs(value) >= PLAIN_INT_LIMIT and format(value, "x") == content:
                return value
    raise NotDecodable(f"$int {shown(content)}: not a large integer in hexadecimal")


def _untag_elements(content: Any, depth: int, tag: str) -> Collection[Any]:
    _check_depth(depth)
    if type(content) is not list:
        raise NotDecodable(f"{tag} {shown(content)}: not a list")
    items = [_untag_element(item, depth + 1) for item in content]
    try:
        if has_colliding_hashes(items):
            raise NotDecodable(f"{tag}: more than {MAX_EQUAL_HASHES} elements of equal hash")
        distinct = frozenset(items)
    except TypeError as error:
        raise NotDecodable(f"{tag} {shown(content)}: {error}") from None
    if len(distinct) != len(items):
        raise NotDecodable(f"{tag} {shown(content)}: the same element twice")
    return distinct


def _untag_element(item: Any, depth: int) -> Any:
    if type(item) is dict and item.keys() == {"$tuple"}:
        _check_depth(depth)
        parts = item["$tuple"]
        if type(parts) is not list:
            raise NotDecodable(f"$tuple {shown(parts)}: not a list")
        return tuple([_untag_element(part, depth + 1) for part in parts])
    return _untag(item, depth)


def _load(data: bytes) -> tuple[Any, bool]:
    """Parse JSON; True beside it if there is nothing to untag or to check."""
    try:
        plain = _decode(data)
        is_canonical = _encode(plain) == data
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise NotDecodable(f"not JSON as FastWorker writes it: {error}") from None
    if not is_canonical:
        # Another writer, or a repeated key, of which msgspec keeps the last.
        _refuse_repeated_keys(data)
        return plain, False
    # One byte is looked for many times faster than two, and mostly there is none.
    has_tags = b"$" in data and b'"$' in data
    return plain, _openings(data) <= MAX_DEPTH and not has_tags


def _openings(data: bytes) -> int:
    """How many brackets are opened at most; of large data no more than are of interest."""
    if len(data) < _LARGE_BYTES:
        return data.count(b"[") + data.count(b"{")
    # To count takes ten times as long as to look for the next one: 7 ms for 16 MiB.
    openings = 0
    for bracket in (b"[", b"{"):
        position = data.find(bracket)
        while position >= 0 and openings <= MAX_DEPTH:
            openings += 1
            position = data.find(bracket, position + 1)
    return openings


def _refuse_repeated_keys(data: bytes) -> None:
    def check(pairs: list[tuple[str, Any]]) -> None:
        if len({key for key, _ in pairs}) != len(pairs):
            raise NotDecodable("an object of the JSON has the same key twice")

    try:
        json.loads(data, object_pairs_hook=check, parse_int=str, parse_float=str)
    except (ValueError, RecursionError) as error:
        if isinstance(error, NotDecodable):
            raise
        raise NotDecodable(f"not JSON as FastWorker writes it: {error}") from None


def _check_depth(depth: int) -> None:
    if depth == MAX_DEPTH:
        raise NotDecodable(f"nested more than {MAX_DEPTH} levels deep")
