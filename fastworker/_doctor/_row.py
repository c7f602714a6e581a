"""One line of what the doctor says: what was looked at, what was found, what to do."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import NamedTuple


class Level(enum.Enum):
    """How bad it is. A control plane may start with a WARN, and should not with a FAIL."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Row(NamedTuple):
    """See the module's first lines. ``advice`` is empty where nothing has to be done."""

    check: str
    level: Level
    found: str
    advice: str = ""


def ok(check: str, found: str) -> Row:
    """Nothing has to be done."""
    return Row(check, Level.OK, found)


def warn(check: str, found: str, advice: str) -> Row:
    """It works, and will not always."""
    return Row(check, Level.WARN, found, advice)


def fail(check: str, found: str, advice: str) -> Row:
    """It does not work, or harms."""
    return Row(check, Level.FAIL, found, advice)


def worst(rows: Iterable[Row]) -> Level:
    """The worst level there is."""
    levels = {row.level for row in rows}
    return next((level for level in (Level.FAIL, Level.WARN) if level in levels), Level.OK)
