"""Ids of tasks: UUIDs that grow with time (version 7 of RFC 9562).

A store finds tasks by id. Ids without an order touch another page of its index with
each task: that doubles what a commit has to write.
"""

from __future__ import annotations

import os
import time
from collections import deque
from typing import Final

_RANDOM_BYTES: Final = 10  # of which 74 bits are used
# Asking the system for each id takes as long as all the rest.
_IDS_AT_ONCE: Final = 256

# The random parts of ids. Of two threads that take at once, each gets its own.
_tails: Final[deque[str]] = deque()
# Two processes must not go on with the same ones.
os.register_at_fork(after_in_child=_tails.clear)


def new_task_id() -> str:
    """An id that nobody else has: 48 bits of milliseconds, and 74 random ones."""
    try:
        tail = _tails.popleft()
    except IndexError:
        tail = _draw()
    moment = f"{time.time_ns() // 1_000_000:012x}"
    return f"{moment[:8]}-{moment[8:]}-{tail}"


def _draw() -> str:
    """Draw the random parts of many ids, and return one of them."""
    digits = os.urandom(_RANDOM_BYTES * _IDS_AT_ONCE).hex()
    length = 2 * _RANDOM_BYTES
    tails = (_tail(digits[n : n + length]) for n in range(0, len(digits), length))
    first = next(tails)
    _tails.extend(tails)
    return first


def _tail(digits: str) -> str:
    # The fourth group begins with 8, 9, a or b: its first two bits are the variant.
    variant = "89ab"[int(digits[3], 16) & 3]
    return f"7{digits[:3]}-{variant}{digits[4:7]}-{digits[7:19]}"
