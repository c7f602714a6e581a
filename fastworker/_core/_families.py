"""Which tasks were submitted by which others, from inside.

Whoever ends otherwise than by itself takes its family along: those that it has
submitted, and theirs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from fastworker._core._messages import Ending
from fastworker._core._task_states import TaskRecord


class Families:
    """Of tasks that have not ended; who has submitted them may have."""

    def __init__(self) -> None:
        # By the id of the task that has submitted them.
        self.children: dict[str, dict[str, TaskRecord]] = {}
        # To be cancelled by the end of this step: families may be deeper than the stack.
        self.doomed: deque[TaskRecord] = deque()

    def join(self, record: TaskRecord, parent_id: str, parent: TaskRecord | None) -> None:
        """Note who has submitted a task; ``parent`` is None if that one has ended."""
        self.children.setdefault(parent_id, {})[record.spec.id] = record
        # Whoever submits itself as its own parent waits for nobody.
        if parent is not None and parent is not record:
            record.parent = parent
            if parent.children is None:
                parent.children = {}
            parent.children[record.spec.id] = record
            parent.has_family = record.has_family = True

    def leave(self, record: TaskRecord, parent_id: str) -> None:
        """A task that has joined is no more."""
        family = self.children.get(parent_id)
        if family is not None:
            family.pop(record.spec.id, None)
            if not family:
                del self.children[parent_id]
        if record.parent is not None and record.parent.children is not None:
            del record.parent.children[record.spec.id]

    def note_end(self, task_id: str, ending: Ending) -> None:
        """A task has ended that has submitted some."""
        children = self.children.pop(task_id).values()
        for child in children:
            child.parent = None  # no chain of tasks that have ended is kept
        if ending is not Ending.COMPLETED:
            self.doomed.extend(children)

    def doom(self, task_id: str) -> None:
        """A task is to stop: so are those that it has submitted."""
        self.doomed.extend(self.children.get(task_id, {}).values())

    def check(self, open_tasks: Mapping[str, TaskRecord]) -> None:
        """Assert every invariant."""
        for parent_id, children in self.children.items():
            assert children, f"{parent_id} has an empty family"
            for task_id, record in children.items():
                assert open_tasks.get(task_id) is record
