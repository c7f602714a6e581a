"""Brings back what a store has, before a control plane begins to work.

Reading happens in a thread, list by list; in between the loop gets its turn.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import msgspec
import trio

from fastworker._core._control_plane import ControlPlaneState
from fastworker._core._results import Results
from fastworker._core._stored import StoredTask
from fastworker._store._abc import Store, StoreOpened

log = logging.getLogger("fastworker.store")

T = TypeVar("T")


class Replayed(msgspec.Struct, frozen=True):
    """What came back. ``due`` are ended tasks of which somebody has still to be told."""

    tasks: int = 0
    outcomes: int = 0
    due: list[StoredTask] = []


async def open_for_work(store: Store) -> StoreOpened:
    """Open a store, and say what was found wrong with it.

    Raises:
      StoreError, StoreUnavailable: as :meth:`Store.open` does.

    Cancellation:
      The store may be open; close it.
    """
    opened = await _call(store, store.open)
    for problem in opened.problems:
        log.error("store: %s", problem)
    return opened


async def replay(
    store: Store,
    opened: StoreOpened,
    state: ControlPlaneState,
    results: Results,
    *,
    wall_offset: float,
    max_results: int,
    result_ttl: float,
) -> Replayed:
    """Give a control plane back what its store has.

    Raises:
      StoreUnavailable: the store cannot be read now.
    """
    state.scheduler.restore_sequence(opened.last_sequence)
    if not store.is_durable:
        return Replayed()
    now = trio.current_time()
    count = 0
    with _no_garbage_collection():
        # First: what ends because of the restart ends after all that had ended before.
        since = now + wall_offset - result_ttl
        outcomes = await _call(store, lambda: store.outcomes(limit=max_results, since=since))
        for task in outcomes:
            if task.outcome is not None:
                ended_at = min(now, task.changed - wall_offset)
                results.put(task.outcome, task.content, now=ended_at)
        async for tasks in _lists(store, store.open_tasks):
            state.restore(tasks, now=now)
            count += len(tasks)
        wall = now + wall_offset
        state.scheduler.restore_keys(await _call(store, lambda: store.keys(now=wall)))
        due = [task async for tasks in _lists(store, store.due_callbacks) for task in tasks]
    for problem in store.take_problems():
        log.error("store: %s", problem)
    return Replayed(count, len(outcomes), due)


async def _lists(store: Store, read: Callable[[], Iterator[list[T]]]) -> AsyncIterator[list[T]]:
    iterator = await _call(store, read)
    while True:
        some = await _call(store, lambda: next(iterator, None))
        if some is None:
            return
        yield some


async def _call(store: Store, call: Callable[[], T]) -> T:
    if not store.is_blocking:
        return call()
    return await trio.to_thread.run_sync(call)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Nothing of what comes back is garbage, and there may be millions of objects."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
