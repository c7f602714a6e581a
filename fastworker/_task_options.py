"""What ``@task`` may be told: where and how a function runs, and when again.

Checked at registration, so that a mistake shows in the traceback of the
import that made it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Callable
from typing import Final, Literal, TypeAlias, get_args

from fastworker._errors import RegistrationError, TaskTimedOut
from fastworker._models import DEFAULT_GRACE, LONGEST_DELAY, MAX_RETRIES, shown

Backend = Literal["trio", "asyncio"]
OnLost = Literal["retry", "fail"]
Isolation = Literal["process"]
RetryOn: TypeAlias = (
    type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], bool]
)

_UNITS: Final = {"": 1, "K": 1000, "M": 1000**2, "G": 1000**3}
_BINARY_UNITS: Final = {"KI": 1024, "MI": 1024**2, "GI": 1024**3}
_SIZE: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMG]I?)?B?\s*", re.IGNORECASE)
# Less than this and no interpreter starts.
_LEAST_MEMORY: Final = 32 * 1024 * 1024


@dataclasses.dataclass(frozen=True, slots=True)
class TaskOptions:
    """What the decorator was told. Times are in seconds, ``memory`` is bytes.

    ``backend`` None leaves the choice to the worker's default.
    ``on_lost="fail"`` makes the task run at most once. ``timeout`` bounds one
    attempt, and ``grace`` is what an attempt gets to end once it is asked to.
    ``isolation="process"`` runs it in a process that can be killed, for which
    ``memory`` is a limit, and which ends after ``recycle_after`` attempts.
    """

    backend: Backend | None = None
    on_lost: OnLost = "retry"
    timeout: float | None = None
    grace: float = DEFAULT_GRACE
    max_retries: int = 0
    retry_delay: float = 1.0
    backoff: float = 2.0
    max_delay: float = 60.0
    jitter: float = 0.1
    retry_on: RetryOn = Exception
    isolation: Isolation | None = None
    memory: int | str | None = None
    recycle_after: int | None = None

    def __post_init__(self) -> None:
        _check_choice("backend", self.backend, (None, *get_args(Backend)))
        _check_choice("on_lost", self.on_lost, get_args(OnLost))
        _check_choice("isolation", self.isolation, (None, *get_args(Isolation)))
        if self.timeout is not None:
            _check_number("timeout", self.timeout, above=0)
        _check_number("grace", self.grace)
        _check_whole("max_retries", self.max_retries, 0, MAX_RETRIES)
        _check_number("retry_delay", self.retry_delay)
        _check_number("backoff", self.backoff, least=1, most=1000)
        _check_number("max_delay", self.max_delay)
        _check_number("jitter", self.jitter, most=1)
        _check_retry_on(self.retry_on)
        if self.max_retries and self.on_lost == "fail":
            raise RegistrationError(
                f"@task(on_lost='fail', max_retries={self.max_retries}): the one says that it "
                f"runs at most once, the other that it runs again; leave one of them out"
            )
        if self.memory is not None:
            object.__setattr__(self, "memory", _bytes_of(self.memory))
        if self.recycle_after is not None:
            _check_whole("recycle_after", self.recycle_after, 1, MAX_RETRIES)
        for option in ("memory", "recycle_after"):
            value = getattr(self, option)
            if value is not None and self.isolation != "process":
                raise RegistrationError(
                    f"@task({option}={shown(value)}): only a process can be limited; "
                    f"add isolation='process'"
                )

    @property
    def memory_bytes(self) -> int | None:
        """How much memory the task's process may use, None for any amount."""
        return self.memory if isinstance(self.memory, int) else None

    def is_retryable(self, error: BaseException) -> bool:
        """Whether ``retry_on`` names this error.

        Raises:
          whatever ``retry_on`` raises, if it is a function.
        """
        retry_on = self.retry_on
        if isinstance(retry_on, type | tuple):
            return isinstance(error, retry_on)
        return bool(retry_on(error))

    def retries_timeouts(self) -> bool:
        """Whether ``retry_on`` names the error of an attempt that ran too long.

        A function is asked. If it raises, which those do that look for something
        in their own errors only, it has not said so.
        """
        with contextlib.suppress(Exception):  # it is user code
            return self.is_retryable(TaskTimedOut("it ran longer than its timeout"))
        return False


def _check_choice(option: str, value: object, choices: tuple[object, ...]) -> None:
    if value not in choices:
        raise RegistrationError(
            f"@task({option}={shown(value)}): use one of {', '.join(map(repr, choices))}"
        )


def _check_number(
    option: str,
    value: object,
    *,
    above: float | None = None,
    least: float = 0,
    most: float = LONGEST_DELAY,
) -> None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        is_above = above is None or value > above
        # Neither nan nor inf is in it, and no whole number is too large to ask.
        if least <= value <= most and is_above:
            return
    bound = f"more than {above:g}" if above is not None else f"at least {least:g}"
    raise RegistrationError(
        f"@task({option}={shown(value)}): use a number, {bound} and at most {most:g}"
    )


def _check_whole(option: str, value: object, least: int, most: int) -> None:
    if type(value) is not int or not least <= value <= most:
        raise RegistrationError(
            f"@task({option}={shown(value)}): use a whole number from {least} to {most}"
        )


def _check_retry_on(value: object) -> None:
    kinds = value if isinstance(value, tuple) else (value,)
    if all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
        return
    if isinstance(value, type | tuple) or not callable(value):
        raise RegistrationError(
            f"@task(retry_on={shown(value)}): use an exception class, a tuple of them, or a "
            f"function that takes the exception and says whether to run again"
        )


def _bytes_of(value: object) -> int:
    size: float | None = None
    if type(value) is int:
        size = value
    elif isinstance(value, str) and (match := _SIZE.fullmatch(value)):
        unit = (match[2] or "").upper()
        size = float(match[1]) * (_BINARY_UNITS.get(unit) or _UNITS[unit])
    if size is None or size < _LEAST_MEMORY:
        raise RegistrationError(
            f"@task(memory={shown(value)}): use a number of bytes or a text such as '512MiB', "
            f"at least 32MiB"
        )
    return int(size)
