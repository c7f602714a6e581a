"""What may happen only once the store has what it rests on.

Changes go to the store in batches, one at a time. Effects wait for the batch with
everything that was decided before them, and come out in the order in which they were
decided. A batch that failed goes into the next one, without what can be refused.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Container
from typing import Final

from fastworker._core._codec import AnyBody
from fastworker._core._control_plane_events import AppendRecords
from fastworker._core._link_responder import Ticket
from fastworker._core._messages import Assignment, Kind, Refusal, RefusalCode, SubmitReply
from fastworker._core._pending_changes import PendingChanges
from fastworker._core._sessions import Session
from fastworker._core._stored import Changes
from fastworker._core._task_questions import Untouched
from fastworker._core._task_states import TaskRecord

# How long what a durable store is to be told waits for company while nobody waits for it:
# most tasks of callers who want the outcome have ended by then, and are written once.
GATHER_SECONDS: Final = 0.002


class Asker:
    """Who asked something whose answer waits for the store. ``ids`` are of a SUBMIT."""

    __slots__ = ("answer", "hurry", "ids", "kind", "session", "ticket", "untouched")

    def __init__(
        self,
        session: Session,
        ticket: Ticket,
        hurry: bool = True,
        ids: list[str] | None = None,
        kind: Kind = Kind.WATCH,
    ) -> None:
        self.kind = kind
        self.session = session
        self.ticket = ticket
        self.hurry = hurry
        self.ids = ids or []
        self.untouched: list[Untouched] = []
        self.answer: AnyBody | None = None


class CarefulLeases:
    """Leases that wait for the store before their subworker is told of them."""

    __slots__ = ("assignments", "key")

    def __init__(self, key: bytes, assignments: list[Assignment]) -> None:
        self.key = key
        self.assignments = assignments


class _Effect:
    """What happens once a batch is durable."""

    __slots__ = ("act", "asker", "batch")

    def __init__(
        self, batch: int, act: Callable[[], None], asker: Asker | CarefulLeases | None
    ) -> None:
        self.batch = batch
        self.act = act
        self.asker = asker


class DurabilityBarrier:
    """See the module's first lines.

    ``store_error``, for reading, is why nothing can be written now; empty if it can.

    Args:
      changes: what the store is still to be told.
      is_durable: whether the store outlives this process.
    """

    def __init__(self, changes: PendingChanges, *, is_durable: bool) -> None:
        self.is_durable: Final = is_durable
        self.store_error = ""
        self._changes = changes
        self._batch = 0
        self._durable = 0
        self._append_at = math.inf  # at the latest, as nobody waits for the store
        self._is_waited_for = False  # somebody does
        self._effects: deque[_Effect] = deque()

    @property
    def has_pending_changes(self) -> bool:
        """Whether the store does not have everything yet, and can be written."""
        is_pending = len(self._changes) > 0 or self._changes.is_under_way
        return is_pending and not self.store_error

    @property
    def can_append(self) -> bool:
        """Whether there is something that the store could be told now."""
        return len(self._changes) > 0 and not (self._changes.is_under_way or self.store_error)

    def when_durable(
        self,
        effect: Callable[[], None],
        asker: Asker | CarefulLeases | None = None,
        *,
        is_waited_for: bool = True,
    ) -> None:
        """Do something once everything decided so far is in the store."""
        needed = self._batch + 1 if len(self._changes) else self._batch
        if needed <= self._durable and not self._effects:
            effect()
        else:
            self._effects.append(_Effect(needed, effect, asker))
            self._is_waited_for = self._is_waited_for or is_waited_for

    # --- batches ---

    def take_batch(self, now: float, *, at_once: bool) -> AppendRecords | None:
        """Return what the store is to be told now, if ``can_append``.

        None while it waits for company, which it does unless ``at_once``.
        """
        if self._is_waited_for or at_once or not self.is_durable:
            self._batch += 1
            self._append_at, self._is_waited_for = math.inf, False
            return AppendRecords(self._batch, self._changes.take(now))
        if self._append_at == math.inf:
            self._append_at = now + GATHER_SECONDS
        return None

    def next_deadline(self) -> float:
        """When ``pass_deadline`` is wanted, ``inf`` for never."""
        return self._append_at

    def pass_deadline(self, now: float) -> None:
        """What waits for company may wait no longer."""
        if self._append_at <= now:
            self._append_at, self._is_waited_for = math.inf, True

    def note_durable(self, batch: int) -> Changes:
        """The store has this batch, which this returns: do what has waited for it."""
        assert batch == self._batch == self._durable + 1
        self._durable = batch
        changes = self._changes.note_durable()
        while self._effects and self._effects[0].batch <= self._durable:
            self._effects.popleft().act()
        return changes

    # --- a store that fails ---

    def note_failed(self, batch: int, reason: str) -> list[TaskRecord]:
        """Nothing of the batch is kept. Return those tasks that can still be refused.

        Whoever calls this withdraws what it can of them, and calls ``refuse``.
        """
        assert batch == self._batch == self._durable + 1
        self.store_error = reason
        self._batch -= 1
        self._is_waited_for = True
        # A task that was held until now can be refused by no answer: it waits for the store.
        askers = [e.asker for e in self._effects if isinstance(e.asker, Asker)]
        asked = {task_id for asker in askers for task_id in asker.ids}
        return [record for record in self._changes.put_back() if record.spec.id in asked]

    def refuse(self, gone: Container[str]) -> list[CarefulLeases]:
        """Refuse these tasks, which were withdrawn; everything else waits on.

        Return the leases that nobody will be told of: they are to be handed back.
        """
        message = f"the store cannot be written: {self.store_error}; try again later"[:4096]
        waiting, self._effects = self._effects, deque()
        back: list[CarefulLeases] = []
        for effect in waiting:
            asker = effect.asker
            if isinstance(asker, CarefulLeases):
                back.append(asker)
                continue
            if asker is not None and isinstance(asker.answer, SubmitReply):
                refused = [n for n, task_id in enumerate(asker.ids) if task_id in gone]
                if refused:
                    asker.answer.refusals.extend(
                        Refusal(index, RefusalCode.STORE, message) for index in refused
                    )
                if len(asker.answer.refusals) == len(asker.ids):
                    effect.act()  # it promises nothing any more
                    continue
            effect.batch = min(effect.batch, self._batch + 1)
            self._effects.append(effect)
        if not len(self._changes):
            while self._effects:
                self._effects.popleft().act()
        return back

    def note_recovered(self) -> None:
        """The store can be written again."""
        self.store_error = ""

    def check(self) -> None:
        """Assert every invariant."""
        assert self._durable <= self._batch <= self._durable + 1
        assert (self._batch > self._durable) == self._changes.is_under_way
        needed = [effect.batch for effect in self._effects]
        assert needed == sorted(needed)
        assert not needed or self._durable < needed[0] <= needed[-1] <= self._batch + 1
        assert not needed or needed[-1] <= self._batch or len(self._changes), "waits for ever"
