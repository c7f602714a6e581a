"""What one call wants otherwise than its function says; checked before it is sent."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from fastworker._core._messages import MAX_STREAM_BUFFER, CallOptions
from fastworker._core._retry import RetryOverride
from fastworker._models import LONGEST_DELAY, MAX_RETRIES, TaskPriority

# How many values of a stream may wait for their reader.
DEFAULT_BUFFER: Final = 32


@dataclasses.dataclass(frozen=True, slots=True)
class CallSettings:
    """See :meth:`Client.options`. Times are in seconds; None leaves it to the function.

    Raises:
      ValueError: a value cannot be used. The message shows it.
    """

    priority: TaskPriority = TaskPriority.NORMAL
    timeout: float | None = None
    grace: float | None = None
    expires: float | None = None
    max_retries: int | None = None
    retry_delay: float | None = None
    backoff: float | None = None
    max_delay: float | None = None
    jitter: float | None = None
    buffer: int = DEFAULT_BUFFER

    def __post_init__(self) -> None:
        for name, least, most in _BOUNDS:
            value = getattr(self, name)
            if value is not None:
                _check(name, value, least, most)
        if self.timeout == 0:
            raise ValueError("timeout=0: use a number of seconds above 0")

    @property
    def retry(self) -> RetryOverride | None:
        """The part that is about retries."""
        values = (
            self.max_retries,
            self.retry_delay,
            self.backoff,
            self.max_delay,
            self.jitter,
        )
        return RetryOverride(*values) if any(v is not None for v in values) else None

    def on_the_wire(self, *, parent: str, stream: int = 0) -> CallOptions | None:
        """As it travels with a task; None if there is nothing to say."""
        options = CallOptions(self.timeout, self.grace, self.retry, parent, stream)
        return None if options == _NOTHING else options

    def changed(self, **changes: Any) -> CallSettings:
        """A copy in which everything is replaced that is not None."""
        named = {name: value for name, value in changes.items() if value is not None}
        return dataclasses.replace(self, **named)


def check_grace(grace: float | None) -> None:
    """Look at what a cancel was told, before it is sent.

    Raises:
      ValueError: it cannot be used. The message shows it.
    """
    if grace is not None:
        _check("grace", grace, 0.0, LONGEST_DELAY)


_NOTHING: Final = CallOptions()
_BOUNDS: Final = (
    ("timeout", 0.0, LONGEST_DELAY),
    ("grace", 0.0, LONGEST_DELAY),
    ("expires", 0.0, LONGEST_DELAY),
    ("max_retries", 0, MAX_RETRIES),
    ("retry_delay", 0.0, LONGEST_DELAY),
    ("backoff", 1.0, 1000.0),
    ("max_delay", 0.0, LONGEST_DELAY),
    ("jitter", 0.0, 1.0),
    ("buffer", 1, MAX_STREAM_BUFFER),
)


def _check(name: str, value: object, least: float, most: float) -> None:
    kinds = int if isinstance(least, int) else (int, float)
    is_number = isinstance(value, kinds) and not isinstance(value, bool)
    # Neither nan nor inf is in it, and no whole number is too large to ask.
    if not is_number or not least <= value <= most:  # type: ignore[operator]
        raise ValueError(
            f"{name}={value!r}: use a {'whole ' if kinds is int else ''}number "
            f"from {least:g} to {most:g}"
        )
