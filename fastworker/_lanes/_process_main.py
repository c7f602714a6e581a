"""The program of a task process: runs the attempts that its lane sends, one by one.

It imports no sockets of ours, and an event loop only for a task that needs
one. It ends by ``os._exit`` or a signal, never by the interpreter's end,
where threads and exit handlers of user code might wait for ever.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import queue
import resource
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextvars import Context
from typing import Final, NoReturn

import msgspec

from fastworker import _logs
from fastworker._errors import RegistrationError, TaskCancelled
from fastworker._lanes import _process_loops
from fastworker._lanes._abc import Attempt, AttemptEnded, LaneEvent
from fastworker._lanes._execution import Execution, Settings
from fastworker._lanes._failure_text import error_line
from fastworker._lanes._process_leftovers import Surroundings
from fastworker._lanes._process_loading import Loader
from fastworker._lanes._process_messages import (
    LOST_PIPE,
    BrokenFrame,
    Credit,
    Ended,
    Frames,
    FromProcess,
    Ready,
    Run,
    Stop,
    Telemetry,
    Welcome,
    decode_for_process,
    encode,
    wrapped,
)
from fastworker._lanes._process_stopper import Stopper
from fastworker._models import SerializationFormat

_CHUNK: Final = 256 * 1024
# Tasks close descriptors by their low numbers; ours are out of the way.
_HIGH_DESCRIPTOR: Final = 900


def main(connection: int, lifeline: int, parent: int) -> NoReturn:
    """Serve the lane until it, or its process, is gone.

    Args:
      connection: a stream socket to the lane.
      lifeline: the reading end of a pipe that nobody writes to.
      parent: the process id of the worker.
    """
    _tie(_moved_up(lifeline))
    _be_killed_first()
    process = TaskProcessServer(socket.socket(fileno=_moved_up(connection)))
    threading.Thread(
        target=process.read, args=(parent,), name="fastworker-reader", daemon=True
    ).start()
    process.serve()


def _moved_up(descriptor: int) -> int:
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    high = max(descriptor, min(_HIGH_DESCRIPTOR, soft - 20))
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, high)
    os.close(descriptor)
    return moved


def _tie(lifeline: int) -> None:
    """Have the kernel kill this process group once the other end is closed.

    It needs nothing of the interpreter, which a task may hold in C code.
    """
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
    flags = fcntl.fcntl(lifeline, fcntl.F_GETFL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, flags | os.O_ASYNC)


def _be_killed_first() -> None:
    """Tell the kernel that, when memory ends, a task is less of a loss than its worker."""
    path = "/proc/self/oom_score_adj"
    with contextlib.suppress(OSError, ValueError), open(path, "r+") as file:
        score = int(file.read())
        file.seek(0)
        file.write(str(min(1000, score + 300)))


class TaskProcessServer:
    """Reads in one thread and runs attempts in the main one. It is their sink, too."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self._is_copy = False
        self._stopper = Stopper()
        self._welcomes: queue.SimpleQueue[Welcome] = queue.SimpleQueue()
        self._runs: queue.SimpleQueue[Run] = queue.SimpleQueue()
        self._memory_before: int | None = None
        self._flush_telemetry: Callable[[], None] = lambda: None
        os.register_at_fork(after_in_child=self._on_forked)

    # --- the main thread ---

    def serve(self) -> NoReturn:
        """Run attempts, for ever."""
        welcome = self._welcomes.get()
        sys.argv = welcome.argv
        self._formats = frozenset(map(SerializationFormat, welcome.formats))
        if welcome.log_level:
            _logs.set_up(welcome.log_level, welcome.log_format)
        self._join_telemetry(welcome.telemetry)
        self._loader = Loader(welcome)
        self._surroundings = Surroundings.now()
        self._send(Ready())
        while True:
            self._serve_one(self._runs.get())

    def _serve_one(self, run: Run) -> None:
        ended, loop_leftovers = self._run(run)
        if self._is_copy:
            os._exit(0)  # the task has forked, and its copy of us has come to the end
        gc.enable()
        leftovers = loop_leftovers or self._surroundings.leftovers()
        if run.memory is not None and ended.error.startswith("MemoryError"):
            leftovers = leftovers or "it ran out of memory"
            hint = f" (its process may use {run.memory:,} bytes more than when it was loaded)"
            ended = msgspec.structs.replace(ended, error=ended.error + hint)
        for stream in (sys.stdout, sys.stderr):
            # Whatever a task has put there; None, if it was closed from the start.
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        self._flush_telemetry()
        self._send(Ended(ended, leftovers))

    def _join_telemetry(self, telemetry: Telemetry) -> None:
        if telemetry is Telemetry.OFF:
            return
        from fastworker.telemetry._task_process import join_worker

        self._flush_telemetry = join_worker(
            is_from_environment=telemetry is Telemetry.FROM_ENVIRONMENT
        )

    def _run(self, run: Run) -> tuple[AttemptEnded, str]:
        execution = Execution(_attempt(run), self._settings(run.loop))
        with self._stopper.watching(execution):
            # An empty context: what a function leaves in context variables
            # must not be seen by the next.
            return Context().run(self._run_in_context, run, execution)

    def _run_in_context(self, run: Run, execution: Execution) -> tuple[AttemptEnded, str]:
        ended: AttemptEnded | None = None
        try:
            with self._stopper.raising():
                ended = self._load(run, execution)
                if ended is None and not run.loop:
                    with self._limited(run.memory):
                        ended = execution.run()
        except TaskCancelled:
            ended = ended or execution.cancelled_running()
        if ended is not None:
            return ended, ""
        with self._limited(run.memory):
            return self._run_in_loop(run.loop, execution)

    def _run_in_loop(self, loop: str, execution: Execution) -> tuple[AttemptEnded, str]:
        found: list[AttemptEnded] = []
        try:
            if loop == "trio":
                _process_loops.run_in_trio(execution, self._stopper, found.append)
                return found[0], ""
            return _process_loops.run_in_asyncio(execution, self._stopper)
        except BaseException as error:  # noqa: BLE001 - user code can break a loop by anything
            if found:
                return found[0], "it broke its event loop"
            reason = f"LaneBroken: other code broke the {loop} loop: {error_line(error)}"
            return execution.lost(reason), "it broke its event loop"

    def _load(self, run: Run, execution: Execution) -> AttemptEnded | None:
        """Give the execution its function; if that fails, return its end."""
        found = self._loader.get(run.name)
        if found is None:
            if execution.must_not_start:
                return execution.unstarted()
            execution.begin()  # importing runs user code
            try:
                found = self._loader.load(run.name, run.module)
            except BaseException as error:  # noqa: BLE001 - so it may raise anything
                return execution.end_with(error)
            self._surroundings = Surroundings.now()
            self._memory_before = None
        execution.attempt = msgspec.structs.replace(
            execution.attempt,
            function=found.function,
            is_retryable=found.options.is_retryable,
        )
        return None

    def _settings(self, loop: str) -> Settings:
        return Settings(
            self,
            self._formats,
            loop or "thread",
            cancelled_types=_process_loops.cancelled_types(loop),
            make_bell=_process_loops.bell_maker(loop),
            is_elsewhere=True,
        )

    @contextlib.contextmanager
    def _limited(self, memory: int | None) -> Iterator[None]:
        """Bound the address space in the block, counted from when all was loaded."""
        if memory is None:
            yield
            return
        if self._memory_before is None:
            self._memory_before = _address_space()
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        limit = self._memory_before + memory
        if hard != resource.RLIM_INFINITY:
            limit = min(limit, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))

    # --- any thread ---

    def post(self, event: LaneEvent) -> None:
        """Tell the lane what user code does."""
        self._send(wrapped(event))

    def _send(self, message: FromProcess) -> None:
        if self._is_copy:
            return
        data = encode(message)
        with self._stopper.held(), self._sending:
            try:
                self._connection.sendall(data)
            except OSError:
                os._exit(LOST_PIPE)

    def _on_forked(self) -> None:
        # In a copy that a task has made. What it says is nobody's business.
        self._is_copy = True
        self._connection.close()

    # --- the reading thread ---

    def read(self, parent: int) -> NoReturn:
        """Take messages, and end the process once the lane is gone."""
        try:
            worker = os.pidfd_open(parent)
        except ProcessLookupError:
            _end_all()
        if os.getppid() != parent:
            _end_all()
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        poll.register(worker, select.POLLIN)
        frames = Frames()
        while True:
            if any(descriptor == worker for descriptor, _ in poll.poll()):
                _end_all()
            try:
                data = self._connection.recv(_CHUNK)
            except OSError:
                os._exit(LOST_PIPE)
            if not data:
                _end_all()
            try:
                for body in frames.feed(data):
                    self._take(body)
            except BrokenFrame:
                os._exit(LOST_PIPE)

    def _take(self, body: bytes) -> None:
        match decode_for_process(body):
            case Welcome() as welcome:
                self._welcomes.put(welcome)
            case Run() as run:
                self._runs.put(run)
            case Stop():
                self._stopper.request()
            case Credit(key=key, count=count):
                self._stopper.credit(key, count)


def _end_all() -> NoReturn:
    """End this process and what its tasks have started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(LOST_PIPE)


def _address_space() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def _never_called() -> None:
    raise AssertionError("an attempt was run before its function was loaded")


def _is_worth_loading_again(error: BaseException) -> bool:
    return not isinstance(error, RegistrationError)


def _attempt(run: Run) -> Attempt:
    return Attempt(
        key=run.key,
        name=run.name,
        function=_never_called,
        payload=run.payload,
        format=run.format,
        is_retryable=_is_worth_loading_again,
        number=run.number,
        priority=run.priority,
        time_left=run.time_left,
        worker_id=run.worker_id,
        created=run.created,
        stream=run.stream,
        trace=run.trace,
    )
