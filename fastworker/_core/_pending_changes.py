"""What has changed since the last transaction was handed to the store.

A task that changes five times while a transaction is under way is written once.
What could not be written is pending again.
"""

from __future__ import annotations

from fastworker._core._stored import (
    NEW_LIFE,
    STATE_OF_STATUS,
    CallbackStage,
    Changes,
    StoredKey,
    StoredLife,
    StoredState,
    StoredTask,
)
from fastworker._core._task_states import TaskRecord, TaskState

_STATE_OF = {
    TaskState.READY: StoredState.QUEUED,
    TaskState.LEASED: StoredState.LEASED,
    TaskState.AWAY: StoredState.LEASED,
    TaskState.STARTED: StoredState.STARTED,
    TaskState.RETRYING: StoredState.RETRYING,
}


class PendingChanges:
    """See the module's first lines.

    Args:
      wall_offset: what turns the machine's time into wall time.
    """

    def __init__(self, wall_offset: float) -> None:
        self._wall_offset = wall_offset
        self._records: dict[str, TaskRecord] = {}
        self._called_back: dict[str, None] = {}
        self._keys: dict[str, StoredKey] = {}
        # By task: of those that are held, and have no row yet.
        self._held_keys: dict[str, StoredKey] = {}
        self._dropped_keys: dict[str, None] = {}
        self._purged: dict[str, None] = {}
        # What the transaction under way has: records that have no row yet, and it.
        self._created: list[TaskRecord] = []
        self._updated: list[TaskRecord] = []
        self._under_way: Changes | None = None
        self._records_under_way: dict[str, TaskRecord] = {}

    def __len__(self) -> int:
        return (
            len(self._records)
            + len(self._called_back)
            + len(self._keys)
            + len(self._dropped_keys)
            + len(self._purged)
        )

    # --- what happens ---

    def mark(self, record: TaskRecord) -> None:
        """Note that this record is not any more what the store has."""
        self._records[record.spec.id] = record
        if self._held_keys and record.spec.id in self._held_keys:
            key = self._held_keys.pop(record.spec.id)
            self._keys[key.key] = key

    def forget(self, record: TaskRecord) -> None:
        """The task was withdrawn before it had a row."""
        if self._records.get(record.spec.id) is record:
            del self._records[record.spec.id]

    def mark_called_back(self, task_id: str) -> None:
        """Everybody has been told of the end of this task."""
        self._called_back[task_id] = None

    def mark_key(self, key: StoredKey) -> None:
        """From now on this key stands for a task: in the store, together with its row.

        Without that it would stand for a task that has ended, and is not kept.
        """
        self._dropped_keys.pop(key.key, None)
        self._held_keys[key.task_id] = key

    def drop_key(self, key: str) -> None:
        """This key stands for nothing any more."""
        self._keys.pop(key, None)
        self._held_keys.pop(key, None)
        self._dropped_keys[key] = None

    def mark_purged(self, task_id: str) -> None:
        """This task, which has ended, is to be forgotten."""
        self._purged[task_id] = None

    def has(self, task_id: str) -> bool:
        """Whether the row of this task is not durable as it is now."""
        return task_id in self._records or task_id in self._records_under_way

    def ids(self) -> set[str]:
        """The tasks whose rows in the store are not what they will be."""
        ids = {*self._records, *self._purged}
        if self._under_way is not None:
            ids.update(record.spec.id for record in self._created)
            ids.update(record.spec.id for record in self._updated)
            ids.update(self._under_way.purged)
        return ids

    # --- transactions ---

    @property
    def is_under_way(self) -> bool:
        """Whether a transaction was taken, and its fate is not known yet."""
        return self._under_way is not None

    def take(self, now: float) -> Changes:
        """Make a transaction of all that is pending."""
        assert self._under_way is None
        created: list[StoredTask] = []
        updated: list[StoredTask] = []
        self._created, self._updated = [], []
        for record in self._records.values():
            row = self._row(record, now)
            if record.has_row:
                updated.append(row)
                self._updated.append(record)
            else:
                created.append(row)
                self._created.append(record)
                record.has_row = True
        self._records_under_way = self._records
        self._under_way = Changes(
            created,
            updated,
            list(self._called_back),
            list(self._keys.values()),
            list(self._dropped_keys),
            list(self._purged),
        )
        self._records = {}
        for pending in (self._called_back, self._keys, self._dropped_keys, self._purged):
            pending.clear()
        return self._under_way

    def note_durable(self) -> Changes:
        """The transaction under way, which this returns, is durable."""
        changes = self._under_way
        assert changes is not None
        for record in self._created:
            record.is_durable = True
        self._created, self._updated, self._under_way = [], [], None
        self._records_under_way = {}
        return changes

    def put_back(self) -> list[TaskRecord]:
        """The transaction under way has failed; return the records that have no row."""
        changes = self._under_way
        assert changes is not None
        newer, self._records = self._records, {}
        for record in self._created:
            record.has_row = False
            self._records[record.spec.id] = record
        for record in self._updated:
            self._records[record.spec.id] = record
        self._records.update(newer)
        for task_id in changes.called_back:
            self._called_back.setdefault(task_id)
        for key in changes.keys:
            if key.key not in self._dropped_keys:
                self._keys.setdefault(key.key, key)
        for name in changes.dropped_keys:
            if name not in self._keys:
                self._dropped_keys.setdefault(name)
        for task_id in changes.purged:
            self._purged.setdefault(task_id)
        self._created, self._updated, self._under_way = [], [], None
        self._records_under_way = {}
        return [record for record in self._records.values() if not record.has_row]

    def check(self) -> None:
        """Assert every invariant."""
        assert not self._keys.keys() & self._dropped_keys.keys()
        for task_id, record in self._records.items():
            assert record.spec.id == task_id
            assert record.state not in (TaskState.HELD, TaskState.REFUSED)

    # --- rows ---

    def _row(self, record: TaskRecord, now: float) -> StoredTask:
        outcome = record.outcome
        wall = now + self._wall_offset
        if outcome is None:
            state = _STATE_OF[record.state]
            stage = CallbackStage.NONE
            content = 0
        else:
            state = STATE_OF_STATUS[outcome.status]
            stage = CallbackStage.NONE if record.spec.callback is None else CallbackStage.DUE
            content = record.content
        return StoredTask(
            record.sequence,
            record.spec,
            state,
            self._life(record),
            wall,
            outcome,
            content,
            stage,
        )

    def _life(self, record: TaskRecord) -> StoredLife:
        worker = record.worker
        if worker is None and record.is_as_new:
            return NEW_LIFE
        offset = self._wall_offset
        holder, label, is_careful = record.holder, record.holder_label, record.is_careful
        if worker is not None:
            holder, label = worker.holder, worker.label
        return StoredLife(
            record.fence,
            record.fence_epoch,
            record.uncounted,
            record.failures,
            holder,
            label,
            record.started,
            record.expires_at + offset,
            record.deadline_at + offset,
            record.retry_at + offset,
            record.errors,
            record.losses,
            record.last_ending,
            record.loss,
            record.is_solo,
            record.is_wary,
            record.is_cancel_requested,
            is_careful,
            # After a restart those who come back first must not decide for all.
            record.is_kept or bool(record.joint),
            record.span,
        )


def restore_life(record: TaskRecord, life: StoredLife, wall_offset: float) -> None:
    """Give a record back what its row says of its life so far."""
    record.fence = life.fence
    record.fence_epoch = life.fence_epoch
    record.uncounted = life.uncounted
    record.failures = life.failures
    record.started = life.started
    record.expires_at = life.expires_at - wall_offset
    record.deadline_at = life.deadline_at - wall_offset
    record.retry_at = life.retry_at - wall_offset
    record.errors = life.errors
    record.losses = life.losses
    record.last_ending = life.last_ending
    record.loss = life.loss
    record.is_solo = life.is_solo
    record.is_wary = life.is_wary
    record.is_cancel_requested = life.is_cancel_requested
    record.is_careful = life.is_careful
    record.span = life.span
    # Whoever had it kept without waiting for it may have gone in the meantime.
    record.is_kept = record.is_shared and (life.is_kept or not record.spec.attached)
