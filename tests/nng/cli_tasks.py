"""Task functions for commands as typed; they run in the folder of a test's shell.

They say by files what they do, and wait for files.
"""

import datetime
import os
import time
from pathlib import Path

import trio

from fastworker import check_cancelled, task
from fastworker._lanes._context import current_attempt


@task
def add(x: int, y: int) -> int:
    """Add two numbers."""
    return x + y


@task(name="mail.echo")
def echo(*values, **named):
    return [list(values), named]


@task
def fail():
    raise ValueError("of no use")


@task
def today():
    return datetime.date(2024, 2, 29)


@task
async def wait_for_ever(name):
    """Say who it is when it begins, and whether it was cancelled."""
    attempt = current_attempt.get()
    assert attempt is not None
    Path(f"new-{name}").write_text(attempt.key.task_id)
    Path(f"new-{name}").rename(f"begun-{name}")
    try:
        await trio.sleep_forever()
    except trio.Cancelled:
        Path(f"cancelled-{name}").touch()
        raise


@task
def wait_until_told(name):
    Path(f"begun-{name}").touch()
    while not os.path.exists(f"release-{name}"):
        time.sleep(0.01)
    return name


@task
def wait_in_vain(name):
    """Never look whether it is cancelled."""
    Path(f"begun-{name}").touch()
    time.sleep(60)


@task
def look_around(name):
    Path(f"begun-{name}").touch()
    while True:
        check_cancelled()
        time.sleep(0.01)
