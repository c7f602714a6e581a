"""One attempt: decode the arguments, call the function, encode the result.

Here, and nowhere else in a worker, is everything caught that user code
raises, SystemExit and its like included: whatever a task does, its lane goes
on. What comes out is data. The sync and the async form differ only in the
middle.
"""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any, Final, TypeAlias

import msgspec

from fastworker import _instruments
from fastworker._core._messages import MAX_ITEM_BYTES
from fastworker._errors import NotDecodable, NotEncodable, TaskCancelled
from fastworker._lanes._abc import (
    OUTCOME_CANCELLED,
    OUTCOME_EXPIRED,
    OUTCOME_FAILURE,
    OUTCOME_SUCCESS,
    Attempt,
    AttemptEnded,
    AttemptStarted,
    AttemptYielded,
    LaneSink,
)
from fastworker._lanes._context import CurrentAttempt, current_attempt
from fastworker._lanes._failure_text import (
    error_line,
    is_raised_by_the_call,
    one_line,
    traceback_text,
)
from fastworker._lanes._measuring import end_of, facts_of
from fastworker._lanes._outflow import Bell, Outflow
from fastworker._lanes._stream import drive, drive_async, in_a_loop
from fastworker._lanes._wrong_loop import backend_hint
from fastworker._models import SerializationFormat
from fastworker._serialization import FORMATS, decode_arguments, encode_result

_logger = logging.getLogger("fastworker.lanes")

_Call: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]

_NO_CALL: Final[_Call] = ((), {})
_NOTHING: Final = object()

# Where an attempt is. An error means something else at each of these.
_DECODING: Final = 0
_CALLING: Final = 1
_RUNNING: Final = 2
_ENCODING: Final = 3

# No need to look whether a value of these types is a generator or an awaitable.
_PLAIN: Final = frozenset({type(None), bool, int, float, str, bytes, list, tuple, dict, set})

_NOT_CANCELLED_BY_US: Final = " (nobody cancelled this task: its own code raised this)"


class Settings(msgspec.Struct, frozen=True):
    """What the executions of one lane share.

    ``cancelled_types`` are the exceptions that a function ends with when it
    lets itself be cancelled. ``wall`` gives seconds since 1970, ``clock``
    seconds from anywhere. ``pause`` is awaited before an async call, as if it
    were a part of the function: simulations give work a duration by it. ``lend``
    is told when an attempt lends its slot (1), and when it has it back (-1).
    ``make_bell`` is called in the lane's loop, if it has one. ``is_elsewhere``:
    this is a task process, whose worker measures the attempts.
    """

    sink: LaneSink
    accepted_formats: frozenset[SerializationFormat]
    backend: str
    cancelled_types: tuple[type[BaseException], ...] = (TaskCancelled,)
    wall: Callable[[], float] = time.time
    clock: Callable[[], float] = time.perf_counter
    pause: Callable[[Attempt], Awaitable[None]] | None = None
    lend: Callable[[int], None] = lambda change: None
    make_bell: Callable[[], Bell] | None = None
    is_elsewhere: bool = False


class Execution(CurrentAttempt):
    """An attempt inside a lane, from ``submit`` to its AttemptEnded."""

    __slots__ = (
        "_began",
        "_call",
        "_outflow",
        "_running",
        "_seconds",
        "_settings",
        "_stage",
    )

    def __init__(self, attempt: Attempt, settings: Settings) -> None:
        super().__init__(attempt, settings.sink, settings.clock, settings.lend)
        self._settings = settings
        self._stage = _DECODING
        self._began = 0.0
        self._seconds = 0.0
        self._call: _Call = _NO_CALL
        self._outflow = Outflow(attempt.stream) if attempt.stream else None
        self._running: _instruments.Running | None = None

    @property
    def must_not_start(self) -> bool:
        """Whether it was cancelled, or is too late, before it has started."""
        return self.is_cancelled or self.is_expired

    def cancel(self) -> None:
        """Have it stop: for the link loop."""
        super().cancel()
        if self._outflow is not None:
            self._outflow.end()

    def credit(self, count: int) -> None:
        """Say how many of its values have been read: for the link loop."""
        if self._outflow is not None:
            self._outflow.note_read(count)

    def run(self) -> AttemptEnded:
        """Run a ``def`` function, in a context of the caller's making.

        Never raises. Posts AttemptStarted; posting the end is left to the
        lane, which has to forget the attempt first.
        """
        if self.must_not_start:
            return self.unstarted()
        try:
            args, kwargs = self._start()
            value = self.attempt.function(*args, **kwargs)
            self._stage = _RUNNING
            if self._outflow is not None or type(value) not in _PLAIN:
                if self._is_stream(value):
                    self._drive(value)
                    value = None
                _refuse_awaitable(value)
            return self._succeed(value)
        except BaseException as error:  # noqa: BLE001 - user code may raise anything
            return self.end_with(error)

    async def run_async(self, scope: AbstractContextManager[object]) -> AttemptEnded:
        """Run an ``async def`` function inside ``scope``; else like ``run``.

        ``scope`` may swallow the exception that cancelled the function, as
        Trio's do. Errors that come from leaving it are the function's: it has
        left something open inside.
        """
        if self.must_not_start:
            return self.unstarted()
        value: Any = _NOTHING
        try:
            args, kwargs = self._start()
            pause = self._settings.pause
            with scope:
                if pause is not None:
                    await pause(self.attempt)
                called = self.attempt.function(*args, **kwargs)
                self._stage = _RUNNING
                got = await called if inspect.isawaitable(called) else called
                may_be_stream = self._outflow is not None or type(got) not in _PLAIN
                if may_be_stream and self._is_stream(got):
                    await self._drive_async(got)
                    got = None
                value = got
            if value is _NOTHING:
                return self.cancelled_running()
            if type(value) not in _PLAIN:
                _refuse_awaitable(value)
            return self._succeed(value)
        except BaseException as error:  # noqa: BLE001 - user code may raise anything
            return self.end_with(error)

    def _is_stream(self, value: Any) -> bool:
        """Whether the function gave a generator that is to be read.

        Raises:
          _Refused: it is not what its caller has asked for.
        """
        is_generator = inspect.isgenerator(value) or inspect.isasyncgen(value)
        name = self.attempt.name
        if is_generator and self._outflow is None:
            raise _Refused(
                f"TypeError: {name} is a generator, whose values nobody reads; "
                f"call it with client.stream"
            )
        if self._outflow is not None and not is_generator:
            raise _Refused(
                f"TypeError: {name} returned {type(value).__name__}, and only a generator can "
                f"be a stream; call it with client.submit"
            )
        return is_generator

    def _drive(self, generator: Any) -> None:
        assert self._outflow is not None
        if not inspect.isgenerator(generator):
            raise _Refused(
                f"TypeError: {self.attempt.name} returned an async generator from a plain def; "
                f"make the function itself one, with 'async def' and 'yield'"
            )
        drive(generator, self._send, self._outflow, lambda: self.is_cancelled)

    async def _drive_async(self, generator: Any) -> None:
        make_bell = self._settings.make_bell
        assert self._outflow is not None
        assert make_bell is not None
        if inspect.isgenerator(generator):
            generator = in_a_loop(generator)
        await drive_async(
            generator, self._send, self._outflow, lambda: self.is_cancelled, make_bell
        )

    def _send(self, value: Any) -> None:
        """Hand over the next value of a stream."""
        outflow = self._outflow
        assert outflow is not None
        number = self.attempt.format
        payload = encode_result(value, FORMATS[number])
        if len(payload) > MAX_ITEM_BYTES:
            raise _Refused(_too_large("value", len(payload), "yield"))
        index = outflow.count
        outflow.add(len(payload))
        self._settings.sink.post(AttemptYielded(self.key, index, payload, number))

    def unstarted(self) -> AttemptEnded:
        """Give the end of an attempt whose function was never called."""
        if not self.is_cancelled:
            return self._end(OUTCOME_EXPIRED, error="expired: it was not started in time")
        return self._end(OUTCOME_CANCELLED, error="TaskCancelled: cancelled before it started")

    def cancelled_running(self) -> AttemptEnded:
        """Give the end of an attempt whose function let itself be cancelled."""
        self._stop_clock()
        return self._end(OUTCOME_CANCELLED, error="TaskCancelled: cancelled while it ran")

    def lost(self, error: str) -> AttemptEnded:
        """Give the end of an attempt that was swept away together with its loop."""
        self._stop_clock()
        return self._end(OUTCOME_FAILURE, error=one_line(error), is_retryable=True)

    def begin(self) -> None:
        """Say that it starts; ``run`` and ``run_async`` do so unless it was done."""
        current_attempt.set(self)
        if not self.started_wall:
            self.started_wall = self._settings.wall()
            if _instruments.current is not None:
                self._enter(_instruments.current)
            self._settings.sink.post(AttemptStarted(self.key, self.started_wall, self.span))

    def _enter(self, instruments: _instruments.Instruments) -> None:
        """Have user code, which comes next, belong to the attempt's span."""
        if self._settings.is_elsewhere:
            instruments.enter(self.attempt.trace)
        else:
            self.measure(instruments).enter()

    def measure(self, instruments: _instruments.Instruments) -> _instruments.Running:
        """Note that it starts, unless that was done."""
        if self._running is None:
            facts = facts_of(self.attempt, self._settings.backend)
            wall = self.started_wall or self._settings.wall()
            self._running = instruments.starting(facts, wall)
        return self._running

    @property
    def span(self) -> str:
        """The span that it runs in, empty if nobody traces."""
        return "" if self._running is None else self._running.span

    def note_end(self, ended: AttemptEnded) -> None:
        """Note its end for whoever measures."""
        if self._running is not None:
            self._running.end(end_of(ended))

    def _start(self) -> _Call:
        settings = self._settings
        # Before the arguments are decoded: with PICKLE that is user code too.
        self.begin()
        number = self.attempt.format
        format = FORMATS.get(number)
        if format is None or format not in settings.accepted_formats:
            raise _Refused(_refusal(number, settings.accepted_formats))
        self._call = decode_arguments(self.attempt.payload, format)
        self._stage = _CALLING
        self._began = settings.clock()
        return self._call

    def _stop_clock(self) -> None:
        if self._stage in (_CALLING, _RUNNING):
            self._seconds = self._settings.clock() - self._began

    def _succeed(self, value: Any) -> AttemptEnded:
        self._stop_clock()
        self._stage = _ENCODING
        number = self.attempt.format
        payload = encode_result(value, FORMATS[number])
        if len(payload) > MAX_ITEM_BYTES:
            raise _Refused(_too_large("result", len(payload), "return"))
        return self._end(OUTCOME_SUCCESS, payload=payload, format=number)

    def end_with(self, error: BaseException) -> AttemptEnded:
        """Say how it ended, from what came out of the function or from around it."""
        self._stop_clock()
        if self.is_cancelled:
            rest = _without(error, self._settings.cancelled_types)
            if rest is None:
                return self.cancelled_running()
            error = rest
        if isinstance(error, _Refused):
            return self._end(OUTCOME_FAILURE, error=one_line(str(error)))
        if self._stage != _CALLING and isinstance(error, NotDecodable | NotEncodable):
            # The codec's frames say nothing to the user; those of a __reduce__ do.
            cause = error.__cause__
            text = "" if cause is None else traceback_text(cause)
            return self._end(OUTCOME_FAILURE, error=error_line(error), traceback=text)
        if self._stage == _CALLING and is_raised_by_the_call(error):
            wrong = _wrong_arguments(self.attempt.function, *self._call)
            if wrong:
                return self._end(OUTCOME_FAILURE, error=one_line(wrong))
        hint = backend_hint(error, self._settings.backend)
        if isinstance(error, self._settings.cancelled_types):
            hint = _NOT_CANCELLED_BY_US
        return self._end(
            OUTCOME_FAILURE,
            error=error_line(error, hint),
            traceback=traceback_text(error),
            is_retryable=self._is_retryable(error),
        )

    def _is_retryable(self, error: BaseException) -> bool:
        ask = self.attempt.is_retryable
        try:
            return ask is None or ask(error)
        except BaseException:
            _logger.exception(
                "retry_on of task %r raised; it is not retried", self.attempt.name
            )
            return False

    def _end(
        self,
        kind: int,
        *,
        payload: bytes = b"",
        format: int = 0,
        error: str = "",
        traceback: str = "",
        is_retryable: bool = False,
    ) -> AttemptEnded:
        self._call = _NO_CALL  # whoever copied this context would keep the arguments alive
        return AttemptEnded(
            self.key,
            kind,
            self.started_wall,
            self._settings.wall(),
            self._seconds,
            payload,
            format,
            error,
            traceback,
            is_retryable=is_retryable,
        )


class _Refused(Exception):
    """This attempt fails for a reason of ours; the message is the whole error line."""


def _refusal(number: int, accepted: frozenset[SerializationFormat]) -> str:
    format = FORMATS.get(number)
    what = f"format {number}" if format is None else format.name
    names = " and ".join(sorted(each.name for each in accepted))
    return (
        f"SerializationRefused: {what} arguments refused: "
        f"this worker accepts {names}{' only' if len(accepted) == 1 else ''}"
    )


def _too_large(what: str, size: int, give: str) -> str:
    return (
        f"ResultTooLarge: the {what} is {size:,} bytes encoded, the limit "
        f"is {MAX_ITEM_BYTES:,}; {give} a path or a key instead of the data"
    )


def _refuse_awaitable(value: Any) -> None:
    if not inspect.isawaitable(value):
        return
    if inspect.iscoroutine(value):
        value.close()  # else Python warns later, elsewhere, that nobody awaited it
    raise _Refused(
        f"TypeError: the task function returned an awaitable ({type(value).__name__}) that "
        f"nobody awaits; define the function with 'async def' and await it there"
    )


def _wrong_arguments(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> str:
    """Say which argument is wrong, if the call failed because of its arguments.

    Asked only after the call has failed. Asked before, it would cost more than
    the rest of a trivial attempt, and it would refuse good calls: the
    signature that a decorator shows is not always the one that it has.
    """
    try:
        signature = inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):
        return ""  # some builtins have none; Python's own message has to do
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        name = getattr(function, "__name__", type(function).__name__)
        return f"TypeError: {name}() {error}"
    return ""


def _without(
    error: BaseException, cancelled_types: tuple[type[BaseException], ...]
) -> BaseException | None:
    """What is left of ``error`` besides the cancellation; None if nothing is."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(cancelled_types)[1]
    return None if isinstance(error, cancelled_types) else error
