"""Results as plain JSON, for people and for the next command of a pipe.

On the wire each type keeps its tag; here there is nobody to decode one, so
values are shown in the form that most programs read: dates as ISO text, sets
as lists, bytes as base64.
"""

from __future__ import annotations

import base64
import json
import math
import sys
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from typing import Any

import click


def to_json(value: Any) -> str:
    """Write any value as one line of JSON; no value is refused.

    What JSON has no form for (only a pickled result can hold such) is shown
    by its ``repr`` as a text. A timedelta is a number of seconds.
    """
    try:
        plain = _plain(value)
    except RecursionError:
        plain = f"(a {type(value).__qualname__} that contains itself, or is nested too deep)"
    return json.dumps(plain, ensure_ascii=not speaks_unicode())


def print_json(value: Any) -> None:
    """Write a value to stdout as one line of JSON."""
    click.echo(to_json(value))


def one_line(text: str) -> str:
    """A text from elsewhere that cannot do anything to a terminal but fill a line."""
    if not speaks_unicode():
        text = text.encode("ascii", "backslashreplace").decode()
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def speaks_unicode() -> bool:
    """Whether stdout takes every character."""
    encoding: str = getattr(sys.stdout, "encoding", None) or "ascii"
    return encoding.lower().replace("-", "") == "utf8"


def _plain(value: Any) -> Any:
    match value:
        case None | bool():
            return value
        case str():
            # A lone surrogate is no Unicode; a terminal would not take it.
            return str.__str__(value).encode("utf-8", "backslashreplace").decode()
        case int():
            # Python refuses to write more than some thousand digits in decimal.
            return int(value) if value.bit_length() <= 4096 else hex(value)
        case float():
            return float(value) if math.isfinite(value) else str(float(value))
        case datetime() | date() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case bytes() | bytearray() | memoryview():
            return base64.b64encode(value).decode()
        case Mapping():
            return {_key(key): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case set() | frozenset():
            items = [_plain(item) for item in value]
            return sorted(items, key=lambda item: (type(item).__name__, json.dumps(item)))
        case _:
            return _plain(_text_of(value))


def _key(key: Any) -> str:
    plain = _plain(key)
    return plain if isinstance(plain, str) else json.dumps(plain)


def _text_of(value: Any) -> str:
    # str is what one wants of a UUID, a Decimal, a path; repr of the rest.
    module = type(value).__module__
    return str(value) if module in {"uuid", "decimal", "pathlib", "fractions"} else repr(value)
