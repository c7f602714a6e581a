"""What one call wants otherwise than its function says; checked before it is sent."""

from __future__ import annotations

import dataclasses
import uuid
from typing import Any, Final, Literal, get_args

import msgspec

from fastworker._core._messages import MAX_STREAM_BUFFER, CallOptions, TaskSpec, is_name
from fastworker._core._retry import RetryOverride
from fastworker._models import LONGEST_DELAY, MAX_RETRIES, TaskPriority, shown

# How many values of a stream may wait for their reader.
DEFAULT_BUFFER: Final = 32
# For how long an idempotency key counts: a day.
DEFAULT_KEY_SECONDS: Final = 86_400.0
WhenFull = Literal["raise", "wait"]


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
    idempotency_key: str | None = None
    idempotency_ttl: float = DEFAULT_KEY_SECONDS
    task_id: str | None = None
    when_full: WhenFull = "raise"
    # What travels with each of the tasks, made once.
    _options: CallOptions = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, least, most in _BOUNDS:
            value = getattr(self, name)
            if value is not None:
                _check(name, value, least, most)
        if self.timeout == 0:
            raise ValueError("timeout=0: use a number of seconds above 0")
        for name in ("idempotency_key", "task_id"):
            value = getattr(self, name)
            if value is not None and not is_name(value):
                raise ValueError(f"{name}={value!r:.80}: use a text of 1 to 256 characters")
        if self.idempotency_key is not None and self.task_id is not None:
            raise ValueError(
                f"idempotency_key={self.idempotency_key!r} and task_id={self.task_id!r}: a key "
                f"chooses the task's id; leave one of them out"
            )
        if self.when_full not in get_args(WhenFull):
            raise ValueError(f"when_full={self.when_full!r}: use 'raise' or 'wait'")
        options = CallOptions(self.timeout, self.grace, self.retry)
        object.__setattr__(self, "_options", options)  # frozen from here on

    @property
    def chosen_id(self) -> str | None:
        """The id that the task is to have, None if it is all the same."""
        if self.idempotency_key is not None:
            return task_id_of(self.idempotency_key)
        return self.task_id

    def check_many(self, call: str) -> None:
        """Look whether this call, which is no single submit, can have these settings.

        Raises:
          ValueError: it cannot. The message says why.
        """
        for name in ("idempotency_key", "task_id"):
            value = getattr(self, name)
            if value is not None:
                raise ValueError(
                    f"{name}={value!r} with {call}(): it stands for one task; give one to "
                    f"each submit instead"
                )

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
        if parent or stream:
            return msgspec.structs.replace(self._options, parent=parent, stream=stream)
        return None if self._options == _NOTHING else self._options

    def changed(self, **changes: Any) -> CallSettings:
        """A copy in which everything is replaced that is not None."""
        named = {name: value for name, value in changes.items() if value is not None}
        return dataclasses.replace(self, **named)


def with_trace(spec: TaskSpec, trace: str) -> TaskSpec:
    """The same task, with its place in a trace."""
    if not trace:
        return spec
    options = msgspec.structs.replace(spec.options or _NOTHING, trace=trace)
    return msgspec.structs.replace(spec, options=options)


def task_id_of(idempotency_key: str) -> str:
    """The id of the task of this key, the same wherever it is made (RFC 9562, version 5)."""
    return str(uuid.uuid5(_KEYS, idempotency_key))


def check_grace(grace: float | None) -> None:
    """Look at what a cancel was told, before it is sent.

    Raises:
      ValueError: it cannot be used. The message shows it.
    """
    if grace is not None:
        _check("grace", grace, 0.0, LONGEST_DELAY)


_KEYS: Final = uuid.UUID("8a1d4e0c-55a3-4a3e-9a62-8f2c5be1c0d7")
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
    ("idempotency_ttl", 0.0, LONGEST_DELAY),
    ("buffer", 1, MAX_STREAM_BUFFER),
)


def _check(name: str, value: object, least: float, most: float) -> None:
    kinds = int if isinstance(least, int) else (int, float)
    is_number = isinstance(value, kinds) and not isinstance(value, bool)
    # Neither nan nor inf is in it, and no whole number is too large to ask.
    if not is_number or not least <= value <= most:  # type: ignore[operator]
        raise ValueError(
            f"{name}={shown(value)}: use a {'whole ' if kinds is int else ''}number "
            f"from {least:g} to {most:g}"
        )
