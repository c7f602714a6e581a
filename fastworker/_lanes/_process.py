"""The lane for functions that must be stoppable: each attempt in a process.

One thread supervises all processes by a selector and never waits for any of
them. A process is started, never forked, when there is work for it, and kept
for the next attempt for as long as the last one has left it as it was.
"""

from __future__ import annotations

import logging
import math
import os
import selectors
import sys
import threading
import time
from collections import deque
from functools import partial
from typing import Final

import msgspec

from fastworker import _instruments, _logs
from fastworker._core._held_attempts import MAX_LENT_SLOTS
from fastworker._errors import ConfigurationError, LocalProtocolError
from fastworker._lanes._abc import (
    OUTCOME_FAILURE,
    Attempt,
    AttemptEnded,
    AttemptKey,
    AttemptStarted,
    InProcess,
    LaneSink,
)
from fastworker._lanes._execution import Execution, Settings
from fastworker._lanes._handover import Handover
from fastworker._lanes._process_child import ChildProcess
from fastworker._lanes._process_ends import Death, describe_exit, end_by_death
from fastworker._lanes._process_loading import describe_main, refuse_while_loading
from fastworker._lanes._process_messages import (
    BrokenFrame,
    Credit,
    Ended,
    FromProcess,
    Paused,
    Progressed,
    Ready,
    Started,
    Telemetry,
    Welcome,
    Yielded,
)
from fastworker._models import DEFAULT_GRACE, SerializationFormat

_logger = logging.getLogger("fastworker.lanes")

# An interpreter and this package are there in a tenth of a second, mostly.
START_SECONDS: Final = 30.0
# After so many processes that died before they could run anything, what waits fails.
MAX_FAILED_STARTS: Final = 3
RESTART_DELAY: Final = 0.2
# How long functions may take to stop when the lane is closed.
CLOSE_GRACE: Final = 1.0
# Between the end of the pipe and the end of the process, when it dies.
DYING_SECONDS: Final = 0.5

_clock = time.monotonic


class ProcessLane:
    """Runs up to ``slots`` attempts at the same time, each in a process of its own.

    ``cancel`` raises TaskCancelled in a ``def`` and cancels the scope of an
    ``async def``; what has not ended after the grace is killed, with all that
    it has started. A process that dies takes one attempt with it.
    """

    kind = "process"

    def __init__(
        self, slots: int, sink: LaneSink, accepted_formats: frozenset[SerializationFormat]
    ) -> None:
        self.slots = slots
        self._sink = sink
        self._handover = Handover(
            Settings(sink, accepted_formats, self.kind, lend=self._on_lent)
        )
        self._accepted_formats = accepted_formats
        self._cancels: deque[tuple[Execution, float]] = deque()
        self._credits: deque[tuple[AttemptKey, int]] = deque()
        self._thread = threading.Thread(
            target=self._serve, name="fastworker-process", daemon=True
        )
        self._is_started = False
        self._is_woken = False
        self._lock = threading.Lock()  # around the wake-up's descriptor
        self._wakeup: int | None = None
        # From here on only the lane's own thread reads and writes.
        self._lent = 0
        self._children: list[ChildProcess] = []
        # Taken for processes that are starting; first come, first served.
        self._claimed: deque[Execution] = deque()
        self._failed_starts = 0
        self._spawn_at = -math.inf

    def start(self) -> None:
        """Start the thread.

        Raises:
          ConfigurationError: this system has no pidfds, or no interpreter is
              known; or a task process is importing the code that calls this.
        """
        refuse_while_loading()
        if not (hasattr(os, "pidfd_open") and hasattr(os, "eventfd") and sys.executable):
            raise ConfigurationError(
                f"@task(isolation='process') needs Linux and sys.executable; this is "
                f"{sys.platform} with {sys.executable!r}"
            )
        if self._is_started:
            raise LocalProtocolError("a lane was started twice")
        self._is_started = True
        path, name = describe_main()
        formats = [each.value for each in self._accepted_formats]
        self._welcome = Welcome(formats, list(sys.argv), path, name)
        self._wakeup = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread.start()

    def submit(self, attempts: list[Attempt]) -> None:
        """Queue attempts and wake the thread once for all of them."""
        self._handover.submit([_with_process(attempt) for attempt in attempts])
        self._wake()

    @property
    def waiting(self) -> int:
        """How many attempts wait for a slot."""
        return len(self._handover)

    def take_back(self) -> list[AttemptKey]:
        """Remove what has not started and say which they were."""
        return self._handover.take_back()

    def cancel(self, key: AttemptKey, grace: float = DEFAULT_GRACE) -> None:
        """End an unstarted attempt; ask a running one, and kill it after ``grace``."""
        execution = self._handover.cancel(key)
        if execution is not None:
            self._cancels.append((execution, grace))
            self._wake()

    def credit(self, key: AttemptKey, count: int) -> None:
        """Let the generator of a stream go on, as far as it may."""
        self._credits.append((key, count))
        self._wake()

    def close(self) -> None:
        """Ask what runs to stop, kill it a second later, and end all processes."""
        self._handover.close()
        self._wake()

    def join(self, timeout: float) -> bool:
        """Wait until the thread has ended, ``timeout`` seconds at most."""
        if self._is_started:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _wake(self) -> None:
        if self._is_woken:
            return
        self._is_woken = True
        with self._lock:
            if self._wakeup is not None:
                os.eventfd_write(self._wakeup, 1)

    # --- the lane's thread ---

    def _serve(self) -> None:
        assert self._wakeup is not None
        with selectors.DefaultSelector() as self._selector:
            self._selector.register(self._wakeup, selectors.EVENT_READ, self._on_woken)
            while True:
                self._look()
                if self._handover.is_closed and not self._children:
                    break
                for key, mask in self._selector.select(self._timeout()):
                    key.data(mask)
        with self._lock:
            os.close(self._wakeup)
            self._wakeup = None

    def _timeout(self) -> float | None:
        now = _clock()
        moment = min((child.kill_at for child in self._children), default=math.inf)
        if self._spawn_at > now and (self._claimed or self._handover):
            moment = min(moment, self._spawn_at)
        return None if moment == math.inf else max(0.0, moment - now)

    def _on_woken(self, mask: int) -> None:
        assert self._wakeup is not None
        self._is_woken = False
        os.eventfd_read(self._wakeup)

    def _look(self) -> None:
        """Do what the link loop wants done, and what is due."""
        now = _clock()
        while self._cancels:
            self._stop(*self._cancels.popleft(), now)
        while self._credits:
            self._pass_on_credit(*self._credits.popleft())
        if self._handover.is_closed:
            self._close(now)
        for child in self._children:
            if child.kill_at <= now:
                self._kill_late(child)
        if not self._handover.is_closed:
            self._fill_slots(now)

    def _close(self, now: float) -> None:
        while self._claimed:
            execution = self._claimed.popleft()
            self._handover.end(execution, execution.unstarted())
        for child in self._children:
            if child.is_ending:
                pass
            elif child.execution is None:
                child.kill()
            elif child.asked_at is None:
                self._ask_to_stop(child, now, CLOSE_GRACE)

    def _stop(self, execution: Execution, grace: float, now: float) -> None:
        if execution in self._claimed:
            self._claimed.remove(execution)
            self._handover.end(execution, execution.unstarted())
        for child in self._children:
            if child.execution is execution and not child.is_ending:
                self._ask_to_stop(child, now, grace)

    def _pass_on_credit(self, key: AttemptKey, count: int) -> None:
        for child in self._children:
            if child.execution is not None and child.execution.key == key:
                child.send(Credit(key, count))
                self._follow_outbox(child)

    def _ask_to_stop(self, child: ChildProcess, now: float, grace: float) -> None:
        child.ask_to_stop(now, grace)
        self._follow_outbox(child)

    def _kill_late(self, child: ChildProcess) -> None:
        if not child.is_ready:
            child.suspicion = f"it did not start within {START_SECONDS:g} s"
        child.kill(child.suspicion)

    # --- slots ---

    def _on_lent(self, change: int) -> None:
        self._lent += change

    @property
    def _room(self) -> int:
        """How many processes there may be."""
        return self.slots + min(self._lent, MAX_LENT_SLOTS)

    def _fill_slots(self, now: float) -> None:
        for child in self._children:
            if child.is_idle:
                execution = self._next()
                if execution is None:
                    return
                child.run(execution)
                self._follow_outbox(child)
        starting = sum(child.is_starting for child in self._children)
        while (
            len(self._children) < self._room
            and starting < len(self._claimed) + len(self._handover)
            and self._spawn_at <= now
        ):
            if not self._spawn(now):
                break
            starting += 1
        # Not given back once a process is being started for it, or it might
        # be taken back and come again for ever.
        while len(self._claimed) < starting and (taken := self._handover.take()):
            self._claimed.append(taken)

    def _next(self) -> Execution | None:
        """Take the first that may start; end those that may not."""
        while True:
            execution = self._claimed.popleft() if self._claimed else self._handover.take()
            if execution is None or not execution.must_not_start:
                return execution
            self._handover.end(execution, execution.unstarted())

    def _spawn(self, now: float) -> bool:
        try:
            child = ChildProcess(self._welcome_now(), kill_at=now + START_SECONDS)
        except OSError as error:
            self._on_failed_start(f"{type(error).__name__}: {error}")
            return False
        self._children.append(child)
        on_socket = partial(self._on_socket, child)
        self._selector.register(child.connection, selectors.EVENT_READ, on_socket)
        on_death = partial(self._on_death, child)
        self._selector.register(child.pidfd, selectors.EVENT_READ, on_death)
        self._follow_outbox(child)
        return True

    def _welcome_now(self) -> Welcome:
        # Not when the lane starts: a program may set these up later.
        level, format = _logs.chosen or ("", "")
        instruments, telemetry = _instruments.current, Telemetry.OFF
        if instruments is not None:
            is_from_environment = instruments.is_from_environment
            telemetry = Telemetry.FROM_ENVIRONMENT if is_from_environment else Telemetry.ON
        return msgspec.structs.replace(
            self._welcome, log_level=level, log_format=format, telemetry=telemetry
        )

    def _on_failed_start(self, reason: str) -> None:
        self._failed_starts += 1
        self._spawn_at = _clock() + RESTART_DELAY * self._failed_starts
        _logger.error("a task process could not be started: %s", reason)
        if self._failed_starts >= MAX_FAILED_STARTS:
            self._failed_starts = 0
            error = f"ProcessDied: no process could be started for it: {reason}"
            # As many as wait now: whoever hears of it may submit more at once.
            for _ in range(len(self._claimed) + len(self._handover)):
                execution = self._next()
                if execution is not None:
                    self._fail_unstarted(execution, error)

    def _fail_unstarted(self, execution: Execution, error: str) -> None:
        now = execution.started_wall = time.time()
        self._sink.post(AttemptStarted(execution.key, now))
        ended = AttemptEnded(execution.key, OUTCOME_FAILURE, now, now, 0.0, error=error)
        self._handover.end(execution, ended)

    # --- what processes say ---

    def _follow_outbox(self, child: ChildProcess) -> None:
        events = selectors.EVENT_READ
        if child.has_more_to_send:
            events |= selectors.EVENT_WRITE
        key = self._selector.get_map().get(child.connection)
        if key is not None and key.events != events:
            self._selector.modify(child.connection, events, key.data)

    def _on_socket(self, child: ChildProcess, mask: int) -> None:
        if child not in self._children:
            return  # its death came in the same batch, and was seen before
        if mask & selectors.EVENT_WRITE:
            child.flush()
            self._follow_outbox(child)
        if mask & selectors.EVENT_READ and not self._read(child):
            self._selector.unregister(child.connection)
            if not child.is_ending:
                # It dies, most likely. If not, the task has closed the pipe.
                child.kill_at = min(child.kill_at, _clock() + DYING_SECONDS)
                child.suspicion = "its process closed the pipe to its worker"

    def _read(self, child: ChildProcess) -> bool:
        """Take what it says; whether it may say more."""
        try:
            messages, is_open = child.receive()
            for message in messages:
                self._take(child, message)
        except BrokenFrame as error:
            child.kill(f"its process wrote into the pipe to its worker ({error})")
            return False
        return is_open

    def _take(self, child: ChildProcess, message: FromProcess) -> None:
        if isinstance(message, Ready):
            child.is_ready = True
            child.kill_at = math.inf
            self._failed_starts = 0
            return
        execution = child.execution
        if execution is None or message.event.key != execution.key:
            return  # from a thread that an earlier attempt has left behind
        match message:
            case Started(event=event):
                if not execution.started_wall:
                    execution.started_wall = event.wall
                    child.started_at = _clock()
                    self._sink.post(AttemptStarted(event.key, event.wall, execution.span))
            case Progressed(event=event):
                execution.post(event)
            case Yielded(event=yielded):
                self._sink.post(yielded)
            case Paused(event=paused):
                if paused.is_waiting != execution.is_waiting:
                    execution.pause(is_waiting=paused.is_waiting)
            case Ended(event=ended, leftovers=leftovers):
                if bool(ended.started_wall) != bool(execution.started_wall):
                    raise BrokenFrame("an end that does not fit its start")
                self._after(child, execution, leftovers)
                self._end(execution, ended)

    def _after(self, child: ChildProcess, execution: Execution, leftovers: str) -> None:
        """Free the process, or end it if it is better not used again."""
        child.execution = None
        process = execution.attempt.process
        limit = None if process is None else process.recycle_after
        if leftovers:
            _logger.info(
                "process %d of task %r ends: %s",
                child.pid,
                execution.attempt.name,
                leftovers,
                extra={
                    "task_id": execution.key.task_id,
                    "attempt": execution.attempt.number,
                    "worker_id": execution.attempt.worker_id,
                },
            )
        if (
            leftovers
            # What was interrupted anywhere may have been left in any state.
            or child.asked_at is not None
            or (limit is not None and child.attempts >= limit)
            or len(self._children) > self._room
        ):
            child.kill()

    def _end(self, execution: Execution, ended: AttemptEnded) -> None:
        if execution.is_waiting:
            execution.pause(is_waiting=False)
        self._handover.end(execution, ended)

    def _on_death(self, child: ChildProcess, mask: int) -> None:
        self._read(child)  # what it has said last
        if child.connection in self._selector.get_map():
            self._selector.unregister(child.connection)
        self._selector.unregister(child.pidfd)
        was_ending = child.is_ending
        returncode = child.bury()
        self._children.remove(child)
        execution, child.execution = child.execution, None
        if execution is None:
            if not child.is_ready and (child.why_killed or not was_ending):
                self._on_failed_start(child.why_killed or describe_exit(returncode))
        elif execution.started_wall:
            self._end_by_death(child, execution, returncode)
        elif execution.must_not_start:
            self._handover.end(execution, execution.unstarted())
        elif child.attempts > 1:
            # It died while it was idle, maybe; no code of the task has run.
            self._claimed.appendleft(execution)
        else:
            reason = child.why_killed or f"its process ended with {describe_exit(returncode)}"
            self._fail_unstarted(execution, f"ProcessDied: {reason}, before it could start")

    def _end_by_death(self, child: ChildProcess, execution: Execution, returncode: int) -> None:
        now = _clock()
        process = execution.attempt.process
        death = Death(
            returncode,
            None if child.asked_at is None else now - child.asked_at,
            child.why_killed,
            None if process is None else process.memory,
        )
        ended = end_by_death(
            execution.key, execution.started_wall, now - child.started_at, death
        )
        self._end(execution, ended)


def _with_process(attempt: Attempt) -> Attempt:
    """Add what a process must know, if it is missing, from the function itself."""
    if attempt.process is not None:
        return attempt
    module = getattr(attempt.function, "__module__", "")
    return msgspec.structs.replace(attempt, process=InProcess(module))
