"""What a caller of a client waits for: one acknowledgement, outcome or answer."""

from __future__ import annotations

from fastworker._client_signals import Done
from fastworker._core._client_events import QuestionReply, TaskTimedOut
from fastworker._core._messages import TaskEvent
from fastworker._errors import FastWorkerError


class Call(Done):
    """Happens when its caller has what it waits for."""

    __slots__ = (
        "answer",
        "error",
        "query_id",
        "reply",
        "task_name",
        "timed_out",
        "wants_outcome",
    )

    def __init__(self, task_name: str = "", *, wants_outcome: bool = False) -> None:
        super().__init__()
        self.task_name = task_name
        self.wants_outcome = wants_outcome
        self.answer: TaskEvent | None = None
        self.query_id = 0
        self.reply: QuestionReply | None = None
        self.timed_out: TaskTimedOut | None = None
        self.error: FastWorkerError | None = None

    def fail(self, error: FastWorkerError) -> None:
        """Let the caller raise, unless it has its answer."""
        if not self.is_set():
            self.error = error
            self.set()
