"""The tasks of the chaos runs: each execution writes down its start and its end.

The names begin with ``chaos_``, since all tests share one registry. What a
task returns names the execution that made it and the arguments it got.
"""

from __future__ import annotations

import functools
import hashlib
import os
import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from fastworker import task
from fastworker._lanes._context import current_attempt
from fastworker.testing._history import Journal, Kind
from fastworker.testing._rules import Expected

FOLDER = "CHAOS_FOLDER"

# What the checker has to know of them.
EXPECTED = {
    "chaos_nap": Expected(is_endable=True),
    "chaos_apart": Expected(is_endable=True),
    "chaos_once": Expected(is_endable=True, runs_once=True),
    "chaos_flaky": Expected(retries=2),
    "chaos_broken": Expected(fails_with="ValueError: chaos_broken"),
    "chaos_poison": Expected(is_poison=True),
}

Answer = dict[str, str]


@functools.cache
def _journal(pid: int) -> Journal:
    return Journal(os.environ[FOLDER], f"tasks-{pid}")


def digest_of(load: str, seconds: float) -> str:
    """What the checker compares: arguments as submitted, and as they arrived."""
    return hashlib.blake2b(f"{load} {seconds!r}".encode(), digest_size=8).hexdigest()


@contextmanager
def execution(load: str, seconds: float) -> Iterator[Answer]:
    """Write down that this execution starts, and how it ends."""
    current = current_attempt.get()
    assert current is not None
    key = current.attempt.key
    run = uuid.uuid4().hex[:12]
    journal = _journal(os.getpid())
    digest = digest_of(load, seconds)
    journal.write(
        Kind.START,
        task=key.task_id,
        name=current.attempt.name,
        run=run,
        epoch=key.epoch,
        attempt=key.attempt,
        pid=os.getpid(),
        process=current.attempt.worker_id,
        digest=digest,
    )
    how = "raise"
    try:
        yield {"run": run, "digest": digest}
        how = "return"
    finally:
        journal.write(Kind.END, task=key.task_id, run=run, pid=os.getpid(), what=how)


@task
async def chaos_nap(load: str, seconds: float) -> Answer:
    with execution(load, seconds) as answer:
        await trio.sleep(seconds)
    return answer


@task
def chaos_work(load: str, seconds: float) -> Answer:
    with execution(load, seconds) as answer:
        time.sleep(seconds)
    return answer


@task
def chaos_quick(load: str, seconds: float) -> Answer:
    """Take no time, so that many are leased ahead."""
    with execution(load, seconds) as answer:
        return answer


@task(isolation="process")
def chaos_apart(load: str, seconds: float) -> Answer:
    with execution(load, seconds) as answer:
        time.sleep(seconds)
    return answer


@task(on_lost="fail")
async def chaos_once(load: str, seconds: float) -> Answer:
    with execution(load, seconds) as answer:
        await trio.sleep(seconds)
    return answer


@task(max_retries=2, retry_delay=0.2, backoff=1.0, jitter=0.0)
def chaos_flaky(load: str, seconds: float) -> Answer:
    """Fail twice, then succeed."""
    current = current_attempt.get()
    assert current is not None
    with execution(load, seconds) as answer:
        if current.attempt.number <= 2:
            raise ValueError(f"attempt {current.attempt.number}")
    return answer


@task
def chaos_broken(load: str, seconds: float) -> Answer:
    """Fail always."""
    with execution(load, seconds):
        raise ValueError("chaos_broken")


@task
def chaos_poison(load: str, seconds: float) -> Answer:
    """Kill the process that runs it, every time."""
    with execution(load, seconds) as answer:
        os.kill(os.getpid(), signal.SIGKILL)
    return answer
