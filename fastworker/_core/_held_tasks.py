"""Tasks of names that no subworker knows so far, until one does or they are refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from fastworker._core._deadlines import Deadlines
from fastworker._core._task_states import TaskRecord, TaskState

# A task of a name that nobody knows yet is held this long: at start-up the
# clients may be faster than the subworkers.
UNKNOWN_NAME_SECONDS: Final = 5.0


class HeldTasks:
    """Records in state HELD, by the name of their function."""

    def __init__(self) -> None:
        self._by_name: dict[str, list[TaskRecord]] = {}
        self._ends: Deadlines[str] = Deadlines()  # by name, when the first one's time is over

    def __len__(self) -> int:
        return sum(map(len, self._by_name.values()))

    def __iter__(self) -> Iterator[TaskRecord]:
        for records in self._by_name.values():
            yield from records

    def next_deadline(self) -> float:
        """When :meth:`take_overdue` returns something, ``inf`` for never."""
        return self._ends.next()

    def add(self, record: TaskRecord, now: float) -> None:
        """Hold a record from now on."""
        record.held_until = now + UNKNOWN_NAME_SECONDS
        records = self._by_name.setdefault(record.spec.name, [])
        records.append(record)
        if len(records) == 1:
            self._ends.set(record.spec.name, record.held_until)

    def remove(self, record: TaskRecord) -> None:
        """Let one go."""
        name = record.spec.name
        records = self._by_name[name]
        records.remove(record)
        if not records:
            del self._by_name[name]
            self._ends.clear(name)

    def take(self, name: str) -> list[TaskRecord]:
        """Let all go of a name that is known now."""
        self._ends.clear(name)
        return self._by_name.pop(name, [])

    def take_overdue(self, now: float) -> list[TaskRecord]:
        """Let those go that were held long enough."""
        overdue: list[TaskRecord] = []
        for name in self._ends.pop_due(now):
            records = self._by_name.pop(name)
            rest = [record for record in records if record.held_until > now]
            overdue += [record for record in records if record.held_until <= now]
            if rest:
                self._by_name[name] = rest
                self._ends.set(name, rest[0].held_until)
        return overdue

    def check(self) -> None:
        """Assert every invariant."""
        for name, records in self._by_name.items():
            assert records, f"nothing is held of {name}"
            for record in records:
                assert record.state is TaskState.HELD
                assert record.spec.name == name
        assert len(self._ends) == len(self._by_name)
