"""What callers of a client ask the control plane, about a task or about itself.

It waits here until the link has slots left for it: tasks go first.
"""

from __future__ import annotations

from collections import deque
from typing import TypeAlias

from fastworker._core._client_events import (
    QUESTIONS,
    ClientCommand,
    QueryAnswered,
    QueryMade,
    QuestionAnswered,
    QuestionAsked,
)
from fastworker._core._codec import decode_body, encode
from fastworker._core._messages import Kind, TaskEvents, TaskIds
from fastworker._errors import RemoteProtocolError

Query: TypeAlias = QueryMade | QuestionAsked


class ClientQueries:
    """Those that were not sent yet, the first at first.

    Args:
      out: answers are appended to it.
    """

    def __init__(self, out: list[ClientCommand]) -> None:
        self._out = out
        self._waiting: deque[Query] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, query: Query) -> None:
        """Somebody asks."""
        self._waiting.append(query)

    def discard(self, query_id: int) -> None:
        """Nobody waits for this answer any more."""
        self._waiting = deque(q for q in self._waiting if q.query_id != query_id)

    def take(self) -> tuple[Query, Kind, bytes]:
        """Take out the next one, and say how it is sent. There must be one."""
        query = self._waiting.popleft()
        if isinstance(query, QueryMade):
            return query, Kind.QUERY, encode(TaskIds([query.task_id]))
        kind, _ = QUESTIONS[type(query.question)]
        return query, kind, encode(query.question)

    def answer(self, query: Query, data: bytes) -> None:
        """Tell what was answered to one that was sent.

        Raises:
          RemoteProtocolError: that is no answer to it.
        """
        if isinstance(query, QueryMade):
            events = decode_body(TaskEvents, data).events
            if not events:
                raise RemoteProtocolError("a QUERY was answered with nothing")
            self._out.append(QueryAnswered(query.query_id, events[0]))
            return
        _, reply_type = QUESTIONS[type(query.question)]
        self._out.append(QuestionAnswered(query.query_id, decode_body(reply_type, data)))
