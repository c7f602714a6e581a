"""Exit codes, and errors in one line.

A shell script sees only the exit code, a person only the last line; both must
say what happened. Tracebacks are for ``--log-level DEBUG``, and for bugs.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import NoReturn

import click

from fastworker import _errors


class Exit(enum.IntEnum):
    """What the exit codes mean; from 64 on as in BSD's sysexits."""

    OK = 0
    TASK_FAILED = 1
    USAGE = 2
    UNKNOWN = 3
    TIMED_OUT = 4
    CANCELLED = 5
    NO_CONTROL_PLANE = 69
    TRY_AGAIN = 75
    NOT_PERMITTED = 77
    BAD_CONFIGURATION = 78
    INTERRUPTED = 130
    TERMINATED = 143


# The first that fits counts.
_EXITS: tuple[tuple[type[BaseException], Exit], ...] = (
    (_errors.UnknownTask, Exit.UNKNOWN),
    (_errors.TaskNotFound, Exit.UNKNOWN),
    (_errors.ResultExpired, Exit.UNKNOWN),
    (_errors.NotEncodable, Exit.USAGE),
    (_errors.PayloadTooLarge, Exit.USAGE),
    (_errors.SubmitError, Exit.TRY_AGAIN),
    (_errors.AuthenticationError, Exit.NOT_PERMITTED),
    (_errors.NotPermitted, Exit.NOT_PERMITTED),
    (_errors.LinkError, Exit.NO_CONTROL_PLANE),
    (_errors.ClientBroken, Exit.NO_CONTROL_PLANE),
    (_errors.ConfigurationError, Exit.BAD_CONFIGURATION),
    (_errors.RegistrationError, Exit.BAD_CONFIGURATION),
    (_errors.NotDecodable, Exit.BAD_CONFIGURATION),
    (_errors.FastWorkerError, Exit.TASK_FAILED),
    (KeyboardInterrupt, Exit.INTERRUPTED),
)


# Set by --log-format json: then all that is said on stderr is said in JSON.
say_in_json: Callable[[str, int, BaseException | None], None] | None = None


# What atexit does, if the interpreter's end is not waited for.
before_leaving: list[Callable[[], None]] = []


def say(message: str, *, level: int = logging.INFO) -> None:
    """Tell the user something: one line on stderr."""
    if say_in_json is not None:
        say_in_json(message, level, None)
    else:
        click.echo(f"fastworker: {message}", err=True)


def show_traceback(text: str) -> None:
    """Show the traceback of a task."""
    if say_in_json is not None:
        say_in_json(text, logging.ERROR, None)
    else:
        click.echo(text, err=True)


def count(number: int) -> str:
    """ "1 task", "2 tasks": for messages."""
    return f"{number} task" if number == 1 else f"{number} tasks"


def exit_of(error: BaseException) -> Exit | None:
    """The exit code of an expected error, None for any other."""
    return next((code for kind, code in _EXITS if isinstance(error, kind)), None)


@contextlib.contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Turn an expected error into a line on stderr and an exit code.

    Any other error is a bug and goes on, with its traceback.
    """
    try:
        yield
    except (_errors.FastWorkerError, KeyboardInterrupt, BaseExceptionGroup) as error:
        single = _single(error)
        code = exit_of(single)
        if isinstance(single, BrokenPipeError):
            raise single from None  # click ends quietly, if it is not in a group
        if code is None:
            raise
        shows_traceback = logging.getLogger("fastworker").isEnabledFor(logging.DEBUG)
        said = str(single) or "interrupted"
        if say_in_json is not None:
            say_in_json(said, logging.ERROR, error if shows_traceback else None)
        else:
            if shows_traceback:
                traceback.print_exception(error)
            say(said)
        sys.exit(code)


def leave_now(code: int) -> NoReturn:
    """End the process without waiting for anything: somebody has insisted twice."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _single(error: BaseException) -> BaseException:
    """What a nursery has wrapped, if it is one error only."""
    if isinstance(error, BaseExceptionGroup):
        interrupts, others = error.split(KeyboardInterrupt)
        if interrupts is not None and others is None:
            return KeyboardInterrupt()
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def leave(code: int) -> NoReturn:
    """End the process of a worker, even if a thread that a task has made goes on."""
    if code == Exit.OK or not has_other_threads():
        sys.exit(code)
    # Somebody insists; sys.exit would wait for those threads, for ever if need be.
    for call in before_leaving:
        call()
    logging.shutdown()
    leave_now(code)


def has_other_threads() -> bool:
    """Whether the interpreter would wait for a thread before it ends."""
    main = threading.main_thread()
    return any(
        thread is not main and not thread.daemon and thread.is_alive()
        for thread in threading.enumerate()
    )
