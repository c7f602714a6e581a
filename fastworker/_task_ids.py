"""Ids of tasks: UUIDs that grow with time (version 7 of RFC 9562).

A store finds tasks by id. Ids without an order touch another page of its index with
each task: that doubles what a commit has to write.
"""

from __future__ import annotations

import os
import time
import uuid
from typing import Final

_RANDOM_BITS: Final = 74
_VERSION: Final = 7 << 76
_VARIANT: Final = 2 << 62


def new_task_id() -> str:
    """An id that nobody else has: 48 bits of milliseconds, and 74 random ones."""
    chance = int.from_bytes(os.urandom(10), "big") >> (80 - _RANDOM_BITS)
    high, low = chance >> 62, chance & ((1 << 62) - 1)
    milliseconds = time.time_ns() // 1_000_000
    return str(uuid.UUID(int=milliseconds << 80 | _VERSION | high << 64 | _VARIANT | low))
