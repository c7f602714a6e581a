"""A Trio loop whose time, order, threads and sleep come from a seed and not from the machine.

The clock jumps to the next deadline as soon as nothing can run before it. Which
of several tasks runs first is drawn. What a program hands to a thread runs in
the loop, after a drawn while of virtual time. Processes that are held, as by
SIGSTOP, keep all that is theirs, and none of their Trio tasks runs.

Three of Trio's inner parts are needed for that. Where they do not look as
expected, a run does not start.
"""

from __future__ import annotations

import contextvars
import gc
import logging
import math
import os
import random
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any, Final, TypeVar

import trio
from trio._core import _run as trio_run

from fastworker._errors import ConfigurationError
from fastworker._lanes._context import current_attempt

T = TypeVar("T")

# Seconds since 1970 at the beginning of every run.
WALL_AT_START: Final = 1_700_000_000.0
# A loop that does so much without any time going by will go on for ever.
_MAX_STEPS_AT_ONCE: Final = 20_000


class Held:
    """What can be held: the Trio tasks of one process that are ready to run.

    Attributes:
      is_held: whether they are kept from running now.
      tasks: those that have become ready meanwhile.
    """

    def __init__(self) -> None:
        self.is_held = False
        self.tasks: list[trio.lowlevel.Task] = []


current_process: Final[contextvars.ContextVar[Any]] = contextvars.ContextVar(
    "fastworker.testing.process", default=None
)


class VirtualClock(trio.abc.Clock):
    """Stands still while anything can run, and else jumps to what comes next."""

    def __init__(self) -> None:
        self._now = 0.0
        self._runner: Any = None

    def start_clock(self) -> None:
        """Start at 0, in the run that begins."""
        self._runner = trio_run.GLOBAL_RUN_CONTEXT.runner

    def current_time(self) -> float:
        """Seconds of virtual time."""
        return self._now

    def skip(self, seconds: float) -> None:
        """Let time go by although there is something to run."""
        self._now += seconds

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Jump there, as Trio asks for this only when nothing can run."""
        entries = self._runner.entry_queue
        if entries.queue or entries.idempotent_queue:
            return 0.0
        if self._runner.waiting_for_idle:
            return math.inf
        if deadline > self._now and deadline < math.inf:
            self._now = deadline
        return 0.0


_append = deque.append


class RunQueue(deque[trio.lowlevel.Task]):
    """Trio's queue of tasks that can run, without those of processes that are held."""

    def __init__(self, tasks: Iterable[trio.lowlevel.Task], clock: VirtualClock) -> None:
        super().__init__(tasks)
        self._clock = clock
        self._at = 0.0
        self._steps = 0
        self._is_to_filter = False
        self._is_told = False
        # Told once, with the names of who runs, when no time goes by any more.
        self.on_stuck: Callable[[str], None] = _raise

    def append(self, task: trio.lowlevel.Task) -> None:
        """Take a task, or keep it aside if its process is held."""
        process = task.context.get(current_process)
        if process is not None and process.is_held:
            process.tasks.append(task)
        else:
            _append(self, task)

    def __iter__(self) -> Iterator[trio.lowlevel.Task]:
        # The loop does this once each round, to find who runs in it.
        self._count()
        if self._is_to_filter:
            self._is_to_filter = False
            ready = list(super().__iter__())
            self.clear()
            for task in ready:
                self.append(task)
        return super().__iter__()

    def hold(self, process: Held) -> None:
        """Let no task of this process run from the next round on."""
        process.is_held = True
        self._is_to_filter = True

    def release(self, process: Held) -> None:
        """Let what has become ready meanwhile run."""
        process.is_held = False
        tasks, process.tasks = process.tasks, []
        for task in tasks:
            self.append(task)

    def _count(self) -> None:
        if self._clock._now > self._at:
            self._at = self._clock._now
            self._steps = 0
        self._steps += 1
        if self._steps > _MAX_STEPS_AT_ONCE:
            self._steps = 0
            if self._is_told:
                # What ends now may have to wait for a time limit, which has to come.
                self._clock.skip(1.0)
                return
            self._is_told = True
            names = sorted({task.name for task in super().__iter__()})
            self.on_stuck(f"it goes round and round, and no time goes by: {', '.join(names)}")


def _raise(what: str) -> None:
    raise AssertionError(what)


class RarePolls:
    """Trio's poll of the system, in one round of sixteen only.

    It costs a system call, and there is nothing to hear of: who runs here neither waits
    for sockets nor sleeps. What a task of the user's may wait for is found a bit later.
    """

    def __init__(self, io_manager: Any) -> None:
        self._io_manager = io_manager
        self._round = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._io_manager, name)

    def get_events(self, timeout: float) -> Any:
        """What has happened; nothing in most rounds."""
        self._round += 1
        return [] if self._round % 16 else self._io_manager.get_events(timeout)


def install_run_queue(clock: VirtualClock) -> RunQueue:
    """Put our queue into the run that this is called in."""
    runner: Any = trio_run.GLOBAL_RUN_CONTEXT.runner
    if sys.platform != "win32":  # where what has happened is a number, not a list
        runner.io_manager = RarePolls(runner.io_manager)
    queue = RunQueue(runner.runq, clock)
    runner.runq = queue
    return queue


def run_in_virtual_time(
    main: Callable[[VirtualClock], Awaitable[T]], *, seed: str, thread_seconds: float = 0.002
) -> T:
    """Run ``main`` in a Trio loop of its own, the same way for the same seed.

    Args:
      main: gets the clock.
      seed: decides about everything that Trio leaves to chance, and about how long
        threads take. The global ``random`` is seeded with it as well.
      thread_seconds: how long a call in a thread takes on the average.

    Raises:
      ConfigurationError: this version of Trio has other inner parts.
    """
    _check_trio()
    clock = VirtualClock()
    with _nothing_else(seed, thread_seconds):
        return trio.run(main, clock, clock=clock)


def _check_trio() -> None:
    names = ("_ALLOW_DETERMINISTIC_SCHEDULING", "_r", "GLOBAL_RUN_CONTEXT", "Runner")
    missing = [name for name in names if not hasattr(trio_run, name)]
    fields = {field.name for field in getattr(trio_run.Runner, "__attrs_attrs__", ())}
    missing += [
        name
        for name in ("runq", "entry_queue", "waiting_for_idle", "io_manager")
        if name not in fields
    ]
    if missing:
        raise ConfigurationError(
            f"trio {trio.__version__} cannot be simulated: it has no {', '.join(missing)}; "
            f"use a version that fastworker.testing knows, such as 0.31"
        )


@contextmanager
def _nothing_else(seed: str, thread_seconds: float) -> Iterator[None]:
    """Keep everything else out that differs from one run to the next."""
    chance: Any = trio_run._r
    before = chance.getstate(), random.getstate(), trio_run._ALLOW_DETERMINISTIC_SCHEDULING
    sleep, to_thread = time.sleep, trio.to_thread.run_sync
    validates = os.environ.get("FASTWORKER_VALIDATE")
    logger = logging.getLogger("fastworker")
    level = logger.level
    collects = gc.isenabled()
    threads = Random(f"{seed}/threads")  # noqa: S311

    async def run_sync(call: Callable[..., T], *args: Any, **options: Any) -> T:
        async with options.get("limiter") or trio.CapacityLimiter(1):
            seconds = threads.expovariate(1 / thread_seconds)
            first = threads.random() * seconds
            with trio.CancelScope(shield=not options.get("abandon_on_cancel")):
                await trio.sleep(first)
            result = call(*args)
            with trio.CancelScope(shield=not options.get("abandon_on_cancel")):
                await trio.sleep(seconds - first)
            return result

    try:
        chance.seed(f"{seed}/trio")
        random.seed(f"{seed}/random")
        trio_run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
        trio.to_thread.run_sync = run_sync  # type: ignore[assignment]
        time.sleep = _sleep_in_an_attempt(sleep)
        os.environ["FASTWORKER_VALIDATE"] = "1"
        logger.setLevel(logging.CRITICAL + 1)
        gc.disable()
        yield
    finally:
        time.sleep, trio.to_thread.run_sync = sleep, to_thread
        chance.setstate(before[0])
        random.setstate(before[1])
        trio_run._ALLOW_DETERMINISTIC_SCHEDULING = before[2]  # type: ignore[misc]
        logger.setLevel(level)
        if validates is None:
            del os.environ["FASTWORKER_VALIDATE"]
        else:
            os.environ["FASTWORKER_VALIDATE"] = validates
        if collects:
            gc.enable()


slept: Final[contextvars.ContextVar[list[float] | None]] = contextvars.ContextVar(
    "fastworker.testing.slept", default=None
)


def _sleep_in_an_attempt(sleep: Callable[[float], None]) -> Any:
    """``time.sleep`` of a task: it takes its slot for so long, and the loop goes on."""

    def virtual_sleep(seconds: float) -> None:
        total = slept.get()
        if current_attempt.get() is None or total is None:
            sleep(seconds)
        else:
            total[0] += seconds

    return virtual_sleep
