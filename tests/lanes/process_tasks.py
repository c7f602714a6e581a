"""Task functions for the process lane, which imports them in another process."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import trio

from fastworker import check_cancelled, current_task, progress, task, time_left
from fastworker._lanes._context import waiting_for_others

variable = ContextVar("variable", default="default")


@contextmanager
def telling(path: str) -> Iterator[None]:
    """Say on the way in and on the way out what is done, in a FIFO or a file."""
    try:
        say(path, "in")  # whoever reads it may stop us at once
        yield
    finally:
        say(path, "out")


def say(path: str, word: str) -> None:
    with open(path, "a") as file:
        file.write(f"{word}\n")


@task(isolation="process")
def process_echo(*values: Any) -> list[Any]:
    return list(values)


@task(isolation="process")
def process_pid() -> int:
    return os.getpid()


@task(isolation="process", max_retries=1, retry_on=KeyError)
def process_fail(kind: str) -> None:
    raise {"key": KeyError("k"), "value": ValueError("v"), "memory": MemoryError()}[kind]


@task(isolation="process")
def process_raise(number: int) -> None:
    """Raise one of what the other lanes are made to raise."""
    from tests.lanes.test_hostile_functions import ZOO

    raise ZOO[number][0]


@task(isolation="process")
def process_hold(address: str) -> str:
    """Wait until a gate opens, see ProcessGate."""
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect("\0" + address)
            connection.recv(1)
        except OSError:
            pass  # open already
    return "held"


@task(isolation="process")
def process_return_much(size: int) -> str:
    return "x" * size


@task(isolation="process")
def process_return_object() -> object:
    return object()


@task(isolation="process")
def process_set_variable() -> str:
    before = variable.get()
    variable.set("set by an attempt")
    return before


@task(isolation="process")
def process_loaded() -> list[str]:
    return sorted(sys.modules)


@task(isolation="process")
def process_describe() -> list[Any]:
    described = current_task()
    assert described is not None
    progress(0.5, "half")
    return [described.id, described.name, described.attempt, described.worker_id, time_left()]


@task(isolation="process")
async def process_trio_name() -> list[Any]:
    await trio.lowlevel.checkpoint()
    return [trio.lowlevel.current_task().name, os.getpid()]


@task(isolation="process", backend="asyncio")
async def process_asyncio_name() -> list[Any]:
    await asyncio.sleep(0)
    return [type(asyncio.get_running_loop()).__name__, os.getpid()]


@task(isolation="process")
def process_pause() -> None:
    with waiting_for_others():
        pass


# --- being stopped ---


@task(isolation="process")
def process_sleep(path: str) -> None:
    with telling(path):
        time.sleep(100)


@task(isolation="process")
def process_loop(path: str) -> None:
    with telling(path):
        while True:
            pass


@task(isolation="process")
async def process_sleep_trio(path: str) -> None:
    with telling(path):
        await trio.sleep(100)


@task(isolation="process", backend="asyncio")
async def process_sleep_asyncio(path: str) -> None:
    with telling(path):
        await asyncio.sleep(100)


@task(isolation="process")
async def process_block_trio(path: str) -> None:
    say(path, "in")
    time.sleep(100)  # noqa: ASYNC251 - that is the point


@task(isolation="process")
def process_swallow(path: str) -> None:
    word = "in"
    while True:
        try:
            say(path, word)
            time.sleep(100)
        except BaseException:  # noqa: BLE001 - that is the point
            word = "swallowed"


@task(isolation="process")
def process_hold_gil(path: str) -> None:
    # It says so from inside of the call: PyDLL keeps hold of the interpreter.
    ctypes.PyDLL(None).system(f"echo in > {path}; sleep 1000".encode())


@task(isolation="process")
def process_ignore_sigterm(path: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    say(path, "in")
    while True:
        time.sleep(0.01)
        check_cancelled()


@task(isolation="process")
def process_default_sigterm(path: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    say(path, "in")
    time.sleep(100)


@task(isolation="process")
def process_return_when_stopped(path: str) -> str:
    try:
        say(path, "in")
        time.sleep(100)
    except BaseException:  # noqa: BLE001 - that is the point
        return "all the same"
    return "never"


@task(isolation="process")
def process_crash_when_stopped(path: str) -> None:
    try:
        say(path, "in")
        time.sleep(100)
    finally:
        ctypes.string_at(0)


@task(isolation="process")
def process_block_with_child(path: str) -> None:
    child = subprocess.Popen(["sleep", "100"])
    say(path, str(child.pid))
    while True:
        try:
            time.sleep(100)
        except BaseException:  # noqa: BLE001 - that is the point
            pass


# --- dying ---


@task(isolation="process")
def process_die(how: str) -> str:
    match how:
        case "SIGSEGV":
            ctypes.string_at(0)
        case "SIGABRT":
            os.abort()
        case "exit code 3":
            os._exit(3)
        case "exit code 0":
            os._exit(0)
        case "pipe":
            os.closerange(3, 65536)
            return "alive"
        case "nonsense":
            for number in range(3, 1024):
                try:
                    os.write(number, b"\0\0\0\4abcd")
                except OSError:
                    pass
        case _:
            os.kill(os.getpid(), signal.Signals[how])
    time.sleep(100)
    return "alive"


@task(isolation="process")
def process_sigterm_self() -> str:
    os.kill(os.getpid(), signal.SIGTERM)
    return "alive"


@task(isolation="process")
def process_exit(code: Any) -> None:
    sys.exit(code)


@task(isolation="process")
def process_fork(copy: str) -> str:
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return "original"
    if copy == "exits":
        sys.exit()
    progress(0.1)
    return "copy"


# --- leaving things behind ---


@task(isolation="process")
def process_leave(what: str) -> int:
    match what:
        case "folder":
            os.chdir("/")
        case "handler":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        case "alarm":
            signal.alarm(1000)
        case "descriptors":
            os.closerange(0, 21)
        case "child":
            subprocess.Popen(["sleep", "1000"])
        case "thread":
            threading.Thread(target=time.sleep, args=(1000,)).start()
        case "gc":
            gc.disable()
        case "short thread":
            threading.Thread(target=lambda: None).start()
    return os.getpid()


@task(isolation="process")
def process_gc_is_enabled() -> bool:
    return gc.isenabled()


@task(isolation="process")
def process_leave_child() -> int:
    return subprocess.Popen(["sleep", "1000"]).pid


@task(isolation="process", backend="asyncio")
async def process_leave_asyncio_task() -> int:
    process_leave_asyncio_task.left = asyncio.create_task(asyncio.sleep(1000))  # type: ignore[attr-defined]
    return os.getpid()


@task(isolation="process", backend="asyncio")
async def process_use_asyncio_thread() -> int:
    return await asyncio.to_thread(os.getpid)


# --- memory ---


@task(isolation="process", memory="64MiB")
def process_take_memory(megabytes: int) -> int:
    return len(bytearray(megabytes * 1024 * 1024))


def not_a_task() -> None:
    """Registered by nobody."""


@task(isolation="process")
def process_count(end: int, left: str = "") -> Iterator[tuple[int, int]]:
    number = 0
    try:
        for number in range(end):
            yield number, os.getpid()
    finally:
        if left:
            Path(left).write_text(str(number))


@task(isolation="process")
async def process_count_async(end: int, left: str = "") -> AsyncIterator[tuple[int, int]]:
    number = 0
    try:
        for number in range(end):
            yield number, os.getpid()
    finally:
        if left:
            Path(left).write_text(str(number))
