"""Task functions of the real processes that the tests start.

Some write down when and where they run, so that a test can count and time the
attempts: CLOCK_MONOTONIC is the same in all processes of a machine.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import trio

from fastworker import task


@task
def add(a: int, b: int) -> int:
    return a + b


@task
def echo(value: Any) -> Any:
    return value


@task
def inflate(size: int) -> str:
    return "x" * size


@task
def hold(path: str, name: str, seconds: float) -> str:
    """Block a thread, and write down start and end."""
    _note(path, name, "start")
    time.sleep(seconds)
    _note(path, name, "end")
    return name


@task
async def nap(path: str, name: str, seconds: float) -> str:
    """Block the loop of its lane for half of the time, as no task should."""
    _note(path, name, "start")
    time.sleep(seconds / 2)  # noqa: ASYNC251 - that is the point
    await trio.sleep(seconds / 2)
    _note(path, name, "end")
    return name


@task
def count(path: str, name: str, end: int) -> Iterator[int]:
    """Yield numbers, and write down start and end."""
    _note(path, name, "start")
    try:
        yield from range(end)
    finally:
        _note(path, name, "end")


@task
def poison(path: str) -> None:
    _note(path, "poison", "start")
    os._exit(13)


@task(isolation="process")
def crash(path: str) -> None:
    """Take the process down that it runs in."""
    _note(path, "crash", "start")
    ctypes.string_at(0)


@task(isolation="process", grace=0.2)
def refuse(path: str) -> None:
    """Never stop, whoever asks."""
    _note(path, "refuse", "start")
    while True:
        try:
            time.sleep(100)
        except BaseException:  # noqa: BLE001 - that is the point
            pass


@task(isolation="process")
def hold_apart(path: str, name: str, seconds: float) -> str:
    """Block a process of its own, and write down start and end."""
    return hold(path, name, seconds)


@task
def die_once(path: str, how: str) -> str:
    """End the process the first time, by whatever means."""
    is_first = not Path(path).exists() or "die_once" not in Path(path).read_text()
    _note(path, "die_once", "start")
    if is_first:
        match how:
            case "segmentation fault":
                ctypes.string_at(0)
            case "abort":
                os.abort()
            case "exit":
                os._exit(0)
            case _:
                os.kill(os.getpid(), signal.Signals[how])
                time.sleep(60)
    return how


def _note(path: str, name: str, what: str) -> None:
    # One write of one line, so that lines of several processes do not mix.
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{name} {what} {os.getpid()} {time.monotonic()}\n".encode())
    os.close(descriptor)


class Notes:
    """What the tasks wrote down."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "notes")

    def lines(self) -> list[tuple[str, str, int, float]]:
        """``(name, "start" or "end", process id, time)`` of everything so far."""
        if not Path(self.path).exists():
            return []
        lines = [line.split() for line in Path(self.path).read_text().splitlines()]
        return [(name, what, int(pid), float(at)) for name, what, pid, at in lines]

    def starts(self, name: str) -> list[tuple[int, float]]:
        """Process id and time of each attempt at this one."""
        return [
            (pid, at) for who, what, pid, at in self.lines() if (who, what) == (name, "start")
        ]

    def running_in(self, pid: int) -> list[str]:
        """What was started in this process and has not ended."""
        running: list[str] = []
        for name, what, where, _ in self.lines():
            if where == pid:
                running.append(name) if what == "start" else running.remove(name)
        return running
