"""What waits for one browser: bounded, so that one that does not read costs little."""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

MAX_WAITING: Final = 8
MAX_WAITING_BYTES: Final = 256 * 1024


class Message(NamedTuple):
    """A text frame; all browsers share it. ``size`` is in bytes."""

    text: str
    size: int


class Outbox:
    """The messages that one browser has yet to be sent."""

    __slots__ = ("_messages", "_size", "has_snapshot", "is_too_slow")

    def __init__(self) -> None:
        self._messages: deque[Message] = deque()
        self._size = 0
        # Updates say what has changed since then.
        self.has_snapshot = False
        self.is_too_slow = False

    def __bool__(self) -> bool:
        """Whether there is something to do: a message to send, or the end."""
        return bool(self._messages) or self.is_too_slow

    def put(self, message: Message) -> None:
        """Add a message. If too much waits already, everything is given up."""
        if self.is_too_slow:
            return
        # One message alone may be of any size: nobody could ever be sent it otherwise.
        is_full = self._messages and (
            len(self._messages) >= MAX_WAITING or self._size + message.size > MAX_WAITING_BYTES
        )
        if is_full:
            self.is_too_slow = True
            self._messages.clear()
            self._size = 0
            return
        self._messages.append(message)
        self._size += message.size

    def pop(self) -> str | None:
        """Take the next message, if there is one."""
        if not self._messages:
            return None
        message = self._messages.popleft()
        self._size -= message.size
        return message.text
