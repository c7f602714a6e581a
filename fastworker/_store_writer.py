"""Hands transactions to the store, in a thread, and says when they are durable.

One is under way at a time; what changes meanwhile gathers for the next. So a
slow disk makes transactions larger and not more. What the store cannot take
goes back to the machine, and the store is asked now and then whether it can
again. In between, old rows are trimmed, in steps that nobody notices.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, TypeVar

import trio

from fastworker._core._control_plane_events import (
    AppendRecords,
    RecordsDurable,
    RecordsFailed,
    StoreRecovered,
)
from fastworker._errors import StoreUnavailable
from fastworker._store._abc import Store

log = logging.getLogger("fastworker.store")

T = TypeVar("T")

StoreEvent = RecordsDurable | RecordsFailed | StoreRecovered

FIRST_RECOVERY: Final = 0.1
LAST_RECOVERY: Final = 2.0
TRIM_SECONDS: Final = 5.0
# How long the last transactions may take when the control plane ends.
FAREWELL_SECONDS: Final = 10.0


class StoreWriter:
    """See the module's first lines. All methods belong to one Trio loop.

    Args:
      store: is open.
      tell: takes what becomes of transactions.
      max_ended, max_age: how many ended tasks are kept, and for how many seconds.
      wall_clock: the one that rows are stamped with.
    """

    def __init__(
        self,
        store: Store,
        tell: Callable[[StoreEvent], None],
        *,
        max_ended: int,
        max_age: float,
        wall_clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._tell = tell
        self._max_ended = max_ended
        self._max_age = max_age
        self._wall_clock = wall_clock
        self._next: AppendRecords | None = None
        self._is_busy = False
        self._has_failed = False
        self._recovery_delay = FIRST_RECOVERY
        self._wake = trio.Event()
        self._limiter = trio.CapacityLimiter(1)

    @property
    def is_busy(self) -> bool:
        """Whether a transaction is under way, or waits for its turn."""
        return self._is_busy or self._next is not None

    def append(self, records: AppendRecords) -> None:
        """Take a transaction. If the store does not block, it is done when this returns."""
        assert not self.is_busy, "one at a time"
        if self._store.is_blocking:
            self._next = records
            self._wake.set()
            return
        try:
            self._store.write(records.changes)
        except StoreUnavailable as error:
            self._note_failure(records, error)
        else:
            self._tell(RecordsDurable(records.batch))

    async def run(self) -> None:
        """Work until cancelled."""
        trim_at = trio.current_time()
        while True:
            with trio.move_on_at(trim_at):
                await self._wake.wait()
            self._wake = trio.Event()
            if self._has_failed:
                await self._recover()
            elif self._next is not None:
                await self._write()
            elif trio.current_time() >= trim_at:
                has_more = await self._trim()
                trim_at = trio.current_time() + (0.0 if has_more else TRIM_SECONDS)
            if self._next is not None or self._has_failed:
                self._wake.set()

    async def _write(self) -> None:
        records = self._next
        assert records is not None
        self._next, self._is_busy = None, True
        try:
            await self._in_thread(lambda: self._store.write(records.changes))
        except StoreUnavailable as error:
            self._is_busy = False
            self._note_failure(records, error)
        else:
            self._is_busy = False
            self._recovery_delay = FIRST_RECOVERY
            self._tell(RecordsDurable(records.batch))

    def _note_failure(self, records: AppendRecords, error: StoreUnavailable) -> None:
        log.error("the store cannot be written: %s; new tasks are refused", error)
        self._has_failed = True
        self._wake.set()
        self._tell(RecordsFailed(records.batch, str(error)))

    async def _recover(self) -> None:
        while True:
            await trio.sleep(self._recovery_delay)
            # It grows until a transaction succeeds: on a disk that is nearly full small ones
            # do and large ones do not.
            self._recovery_delay = min(2 * self._recovery_delay, LAST_RECOVERY)
            try:
                await self._in_thread(self._store.recover)
            except StoreUnavailable as error:
                log.debug("the store cannot be written yet: %s", error)
            else:
                break
        self._has_failed = False
        self._note_problems()
        log.warning("the store can be written again")
        self._tell(StoreRecovered())

    async def _trim(self) -> bool:
        """Take one step; return whether there is more to do at once."""
        before = self._wall_clock() - self._max_age
        try:
            return await self._in_thread(
                lambda: self._store.trim(max_ended=self._max_ended, before=before)
            )
        except StoreUnavailable as error:
            log.warning("the store cannot be trimmed: %s", error)
            await self._mend()
            return False
        finally:
            self._note_problems()

    async def _mend(self) -> None:
        """A file that is gone is written again, although nobody has anything to write."""
        try:
            await self._in_thread(self._store.recover)
        except StoreUnavailable as error:
            log.debug("the store cannot be written yet: %s", error)

    def _note_problems(self) -> None:
        for problem in self._store.take_problems():
            log.error("store: %s", problem)

    async def _in_thread(self, call: Callable[[], T]) -> T:
        if not self._store.is_blocking:
            return call()
        return await trio.to_thread.run_sync(call, limiter=self._limiter)
