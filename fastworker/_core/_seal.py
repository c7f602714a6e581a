"""Messages that nobody else can make, repeat, reorder or send back.

A sealed message is a counter in eight bytes, big-endian, an HMAC-SHA256 of 32
bytes over counter and message, and the message. Each direction of each pipe has
a key of its own, so what goes one way is refused the other way, and on every
other pipe. The receiver takes only counters above the last it has taken: what
the network loses is lost, and whatever comes twice or late is refused.

The MAC covers the whole message, so nothing inside needs one: not the slot, not
the sequence. Nothing is encrypted.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

_COUNTER_BYTES: Final = 8
_MAC_BYTES: Final = 32
OVERHEAD_BYTES: Final = _COUNTER_BYTES + _MAC_BYTES


class Sealer:
    """Seals what goes one way."""

    __slots__ = ("_counter", "_state")

    def __init__(self, key: bytes) -> None:
        # Made once and copied: to begin with a key costs more than a short message.
        self._state = hmac.new(key, digestmod=hashlib.sha256)
        self._counter = 0

    def seal(self, message: bytes) -> bytes:
        """Make a sealed message. Each has its own number, sent or not."""
        self._counter += 1
        counter = self._counter.to_bytes(_COUNTER_BYTES, "big")
        state = self._state.copy()
        state.update(counter)
        state.update(message)
        return b"".join((counter, state.digest(), message))


class Opener:
    """Opens what was sealed at the other end with the same key."""

    __slots__ = ("_last", "_state", "refused")

    def __init__(self, key: bytes) -> None:
        self._state = hmac.new(key, digestmod=hashlib.sha256)
        self._last = 0
        self.refused = 0

    def open(self, sealed: bytes) -> bytes | None:
        """The message; None if it is not what comes next from the other end."""
        view = memoryview(sealed)
        number = int.from_bytes(view[:_COUNTER_BYTES], "big")
        if len(view) >= OVERHEAD_BYTES and number > self._last:
            state = self._state.copy()
            state.update(view[:_COUNTER_BYTES])
            state.update(view[OVERHEAD_BYTES:])
            if hmac.compare_digest(state.digest(), view[_COUNTER_BYTES:OVERHEAD_BYTES]):
                self._last = number
                return bytes(view[OVERHEAD_BYTES:])
        self.refused += 1
        return None
