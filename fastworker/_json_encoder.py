"""Python values to JSON, such that they arrive equal and of the same type.

Plain JSON types travel as they are. Other value types travel as a *tag*: an
object with one key that begins with ``$``, as in ``{"$date": "2024-02-29"}``.
A dict of the user's that looks like a tag has one more ``$`` put before its
key. Everything else is refused, with the place and the type: a queue that
changes values on their way is found out in production, one that refuses them
is found out in the first test. ``tuple`` to ``list`` is the one change made.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from typing import Any, Final, NoReturn

import msgspec

from fastworker._errors import NotEncodable
from fastworker._json_tags import (
    MAX_DEPTH,
    MAX_EQUAL_HASHES,
    PLAIN_INT_LIMIT,
    TAGGED_TYPES,
    TagError,
    has_colliding_hashes,
    hint_for,
    name_of,
    shown,
)

_AS_IS: Final[frozenset[type]] = frozenset({str, bool, type(None)})
_SEQUENCES: Final[frozenset[type]] = frozenset({list, tuple})
_SETS: Final[dict[type, str]] = {set: "$set", frozenset: "$frozenset"}

_NO_STACK: Final = "too few stack frames left to encode this; call from less deep"

_encode = msgspec.json.Encoder().encode


class _Refused(Exception):
    """A value cannot travel. The walk adds the path on the way out."""

    def __init__(self, detail: str, *, too_deep: bool = False) -> None:
        self.detail = detail
        self.too_deep = too_deep
        self.path: list[str] = []
        self.seen: list[int] = []

    def inside(self, step: str, container: object) -> None:
        self.path.append(step)
        self.seen.append(id(container))


def encode_json_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """Encode a call's arguments as ``[[positional], {keyword}]``.

    Raises:
      NotEncodable: the message names the argument, the path in it, its type.
    """
    positional: list[Any] = []
    keyword: dict[str, Any] = {}
    place = ""
    try:
        for value in args:
            positional.append(_tag(value, 0))
        for name, value in kwargs.items():
            place = f"argument {name!r}"
            if type(name) is not str:
                _refuse_name(name)
            keyword[name] = _tag(value, 0)
        return _encode([positional, keyword])
    except _Refused as refused:
        _refuse(place or f"argument {len(positional) + 1}", refused)
    except UnicodeEncodeError:
        places = [(f"argument {number}", value) for number, value in enumerate(args, 1)]
        places += [(f"the argument name {name!r}", name) for name in kwargs]
        places += [(f"argument {name!r}", value) for name, value in kwargs.items()]
        _refuse_surrogates(places)
    except RecursionError:
        raise NotEncodable(f"arguments: {_NO_STACK}") from None


def encode_json_value(value: Any, place: str = "result") -> bytes:
    """Encode one value, which errors call ``place``.

    Raises:
      NotEncodable: the message names the path in the value and the type.
    """
    try:
        return _encode(_tag(value, 0))
    except _Refused as refused:
        _refuse(place, refused)
    except UnicodeEncodeError:
        _refuse_surrogates([(place, value)])
    except RecursionError:
        raise NotEncodable(f"{place}: {_NO_STACK}") from None


def _tag(value: Any, depth: int) -> Any:
    """Give ``value`` as what JSON has, tagged where that is not the same."""
    kind = type(value)
    if kind in _AS_IS:
        return value
    if kind is int:
        if -PLAIN_INT_LIMIT < value < PLAIN_INT_LIMIT:
            return value
        return {"$int": format(value, "x")}
    if kind is float:
        if math.isfinite(value):
            return value
        raise _Refused(f"is {value!r}, which JSON does not have; pass None or a Decimal")
    if kind in _SEQUENCES:
        return _tag_items(value, depth)
    if kind is dict:
        return _tag_dict(value, depth)
    set_tag = _SETS.get(kind)
    if set_tag is not None:
        return {set_tag: _tag_set(value, depth)}
    tagged = TAGGED_TYPES.get(kind)
    if tagged is None:
        raise _Refused(f"is of type {name_of(value)}; {hint_for(value)}")
    tag, pack = tagged
    try:
        return {tag: pack(value)}
    except TagError as error:
        raise _Refused(str(error)) from None


def _refuse_name(name: Any) -> NoReturn:
    raise _Refused(f"has a name of type {name_of(name)}; keyword arguments have str names")


def _tag_items(items: Collection[Any], depth: int) -> Collection[Any]:
    if depth == MAX_DEPTH:
        _refuse_depth()
    # Long lists of one plain type are common; these tests run at C speed.
    kinds = set(map(type, items))
    if kinds <= _AS_IS:
        return items
    if kinds == {float} and all(map(math.isfinite, items)):
        return items
    if kinds == {int} and min(items) > -PLAIN_INT_LIMIT and max(items) < PLAIN_INT_LIMIT:
        return items
    result: list[Any] = []
    try:
        for item in items:
            result.append(_tag(item, depth + 1))
    except _Refused as refused:
        refused.inside(f"[{len(result)}]", items)
        raise
    return result


def _tag_dict(value: dict[Any, Any], depth: int) -> dict[str, Any]:
    if depth == MAX_DEPTH:
        _refuse_depth()
    result: dict[str, Any] = {}
    for key, item in value.items():
        if type(key) is not str:
            raise _Refused(
                f"has the key {shown(key)} of type {name_of(key)}; JSON keys are str, "
                f"so convert the keys or pass a list of pairs"
            )
        try:
            result[key] = _tag(item, depth + 1)
        except _Refused as refused:
            refused.inside(f"[{key!r}]", value)
            raise
    if len(result) == 1:
        [(key, item)] = result.items()
        if key[:1] == "$":
            return {"$" + key: item}
    return result


def _tag_set(value: Collection[Any], depth: int) -> list[Any]:
    """Tag a set's elements, sorted so that equal sets make equal bytes."""
    if depth == MAX_DEPTH:
        _refuse_depth()
    if has_colliding_hashes(value):
        raise _Refused(f"has more than {MAX_EQUAL_HASHES} elements of equal hash; pass a list")
    return sorted([_tag_element(item, depth + 1, value) for item in value], key=_encode)


def _tag_element(item: Any, depth: int, container: object) -> Any:
    # A tuple in a set must stay hashable, so here, and only here, it is tagged.
    try:
        if type(item) is not tuple:
            return _tag(item, depth)
        if depth == MAX_DEPTH:
            _refuse_depth()
        return {"$tuple": [_tag_element(part, depth + 1, item) for part in item]}
    except _Refused as refused:
        refused.inside(
            "{an element}" if type(container) is not tuple else "(an item)", container
        )
        raise


def _refuse_depth() -> NoReturn:
    # What to say is known when the path is: it may come round to its start.
    raise _Refused("", too_deep=True)


def _refuse(place: str, refused: _Refused) -> NoReturn:
    steps = refused.path[::-1]
    path = "".join(steps if len(steps) <= 8 else [*steps[:6], "..."])
    detail = refused.detail
    if refused.too_deep:
        if len(set(refused.seen)) < len(refused.seen):
            detail = "contains itself; JSON cannot say that"
        else:
            detail = f"is nested more than {MAX_DEPTH} levels deep; flatten it, or pass a key"
    raise NotEncodable(f"{place}{path} {detail}") from None


def _refuse_surrogates(places: Iterable[tuple[str, Any]]) -> NoReturn:
    detail = "holds a lone surrogate, which UTF-8 does not have; pass bytes, or encode it first"
    for place, value in places:
        found = _path_to_surrogate(value)
        if found is not None:
            raise NotEncodable(f"{place}{found} {detail}") from None
    raise NotEncodable(f"a str {detail}") from None


def _path_to_surrogate(value: Any) -> str | None:
    if isinstance(value, str):
        return "" if any("\ud800" <= character <= "\udfff" for character in value) else None
    steps: Iterable[tuple[str, Any]] = ()
    if isinstance(value, dict):
        if any(_path_to_surrogate(key) is not None for key in value):
            return " has a key that"
        steps = ((f"[{key!r}]", item) for key, item in value.items())
    elif isinstance(value, (list, tuple)):
        steps = ((f"[{index}]", item) for index, item in enumerate(value))
    elif isinstance(value, (set, frozenset)):
        steps = (("{an element}", item) for item in value)
    for step, item in steps:
        found = _path_to_surrogate(item)
        if found is not None:
            return step + found
    return None
