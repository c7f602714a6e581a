"""Who has submitted a task, and who else wants to hear of it.

One without a key has one owner; under a key many may have submitted the same one.
"""

from __future__ import annotations

from typing import Final

from fastworker._core._open_tasks import OpenTasks
from fastworker._core._task_states import TaskRecord

# So many may watch a task besides its owner; of more, the first hear nothing.
MAX_WATCHERS: Final = 16
# So many may have submitted one task, under its key.
MAX_OWNERS: Final = 1_000


class Owners:
    """Changes those of the open tasks."""

    def __init__(self, open_tasks: OpenTasks) -> None:
        self._open = open_tasks

    def join(self, record: TaskRecord, key: bytes) -> bool:
        """Note who has submitted a task that is here already; False if they are too many."""
        if record.is_shared and record.owner is not None:
            return self._own_too(record, key)
        self._own(record, key)
        return True

    def join_or_watch(self, record: TaskRecord, key: bytes) -> None:
        """Note somebody who has submitted it, or who at least hears of it."""
        if not self.join(record, key):
            self.watch(record, key)

    def watch(self, record: TaskRecord, key: bytes) -> None:
        """Note somebody who wants to hear of it, and nothing more."""
        if key in (record.owner, *record.joint, *record.watchers):
            return
        if len(record.watchers) == MAX_WATCHERS:
            self.unwatch(record, record.watchers[0])
        record.watchers = (*record.watchers, key)
        self._open.clients.add(key, record)

    def unwatch(self, record: TaskRecord, key: bytes) -> None:
        """One of those who watch it does not any more."""
        record.watchers = tuple(other for other in record.watchers if other != key)
        self._open.clients.remove(key, record.spec.id)

    def leave(self, record: TaskRecord, key: bytes) -> bool:
        """Note that one of the owners does not want a task; say whether others do."""
        self.disown(record, key)
        self.watch(record, key)  # it still wants to know when nothing runs any more
        return bool(record.owners) or record.is_kept

    def disown(self, record: TaskRecord, key: bytes) -> None:
        """One of the owners is none any more."""
        if key not in record.owners:
            return
        others = [other for other in record.owners if other != key]
        record.owner = others[0] if others else None
        record.joint = tuple(others[1:])
        self._open.clients.remove(key, record.spec.id)

    def is_anothers(self, record: TaskRecord, key: bytes | None) -> bool:
        """Whether somebody has this task, and it is not this one; None may be anybody."""
        if key is None or key in record.owners:
            return False
        gone = self._open.clients.gone
        return any(owner not in gone for owner in record.owners)

    def others_want(self, record: TaskRecord) -> bool:
        """Whether somebody may want a shared task besides its owner, or has it kept."""
        return bool(record.joint) or record.is_kept or record.owner in self._open.clients.gone

    def keep(self, record: TaskRecord) -> None:
        """Somebody wants a task who cannot be asked any more."""
        if not record.is_kept:
            record.is_kept = True
            self._open.mark(record)

    def _own(self, record: TaskRecord, key: bytes) -> None:
        if record.owner is not None:
            self._open.clients.remove(record.owner, record.spec.id)
        record.owner = key
        self._note_owner(record, key)

    def _note_owner(self, record: TaskRecord, key: bytes) -> None:
        # An owner hears everything once.
        record.watchers = tuple(other for other in record.watchers if other != key)
        self._open.clients.add(key, record)

    def _own_too(self, record: TaskRecord, key: bytes) -> bool:
        if key not in record.owners:
            if len(record.owners) >= MAX_OWNERS:
                return False
            record.joint = (*record.joint, key)
            self._open.mark(record)
            self._note_owner(record, key)
        return True
