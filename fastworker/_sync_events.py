"""Changes of tasks, for threads without an event loop."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import trio

from fastworker._client_block import Block

if TYPE_CHECKING:
    from fastworker._models import TaskChange
    from fastworker._task_events import EventStream


class SyncEventStream:
    """Changes of tasks, while they happen. Made by :meth:`SyncClient.events`.

    An iterator of :class:`TaskChange`, for one reader. As :class:`EventStream`.
    """

    def __init__(self, block: Block[EventStream], stream: EventStream) -> None:
        self._block = block
        self._stream = stream

    def __repr__(self) -> str:
        return repr(self._stream).replace("EventStream", "SyncEventStream", 1)

    @property
    def dropped(self) -> int:
        """How many changes were dropped before the one that was read last."""
        return self._stream.dropped

    @property
    def interruptions(self) -> int:
        """How often the control plane knew nothing of this stream any more."""
        return self._stream.interruptions

    def __iter__(self) -> Iterator[TaskChange]:
        return self

    def __next__(self) -> TaskChange:
        """Wait for the next change; never ends by itself.

        Raises:
          as :meth:`read`.
        """
        return self._block.call(self._stream.__anext__)

    def read(self, timeout: float | None = None) -> list[TaskChange]:
        """Wait for what is new, and return all of it.

        Args:
          timeout: seconds after which there is nothing; None waits for ever.

        Returns:
          The changes in their order; none if this is to tell of an interruption, or the
          time is over.

        Raises:
          TaskCancelled: the task that calls was cancelled.
          everything else: as for :meth:`EventStream.read`.
        """
        return self._block.call(lambda: self._read(timeout))

    async def _read(self, seconds: float | None) -> list[TaskChange]:
        with trio.move_on_after(math.inf if seconds is None else seconds):
            return await self._stream.read()
        return []
