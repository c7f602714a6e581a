"""The streams that a client reads: what has come, what was read, what it has said of that.

Room for more values is told in portions: a quarter of the buffer, in number or
in weight. The generator goes on while fewer values wait than the buffer takes,
and weigh less than STREAM_BYTES: so what was not told yet never stops it.
"""

from __future__ import annotations

from typing import Final

from fastworker._core._messages import (
    MAX_BATCH_ITEMS,
    STREAM_BYTES,
    Credits,
    ReadUpTo,
    StreamValue,
)

PORTION: Final = 4


class _Reading:
    __slots__ = ("came", "portion", "read", "untold", "untold_bytes")

    def __init__(self, window: int) -> None:
        self.portion = max(1, window // PORTION)
        self.came = 0
        self.read = 0
        self.untold = 0
        self.untold_bytes = 0


class StreamReadings:
    """All of them, by task id, until each has ended."""

    def __init__(self) -> None:
        self._readings: dict[str, _Reading] = {}
        self._to_tell: dict[str, _Reading] = {}

    def __contains__(self, task_id: str) -> bool:
        return task_id in self._readings

    @property
    def has_news(self) -> bool:
        """Whether there is room to tell of."""
        return bool(self._to_tell)

    def open(self, task_id: str, window: int) -> None:
        self._readings[task_id] = _Reading(window)

    def forget(self, task_id: str) -> None:
        self._readings.pop(task_id, None)
        self._to_tell.pop(task_id, None)

    def has_had_nothing(self, task_id: str) -> bool:
        """Whether this is a stream of which no value has come."""
        reading = self._readings.get(task_id)
        return reading is not None and not reading.came

    def is_gap(self, value: StreamValue) -> bool:
        """Whether values before this one have not come, and so never will."""
        reading = self._readings.get(value.task_id)
        return reading is not None and value.index > reading.came

    def take(self, value: StreamValue) -> bool:
        """Note that the next value has come; False if it is none that is wanted."""
        reading = self._readings.get(value.task_id)
        if reading is None or value.index != reading.came:
            return False
        reading.came += 1
        return True

    def note_read(self, task_id: str, size: int) -> bool:
        """Note that one value more was read; say whether to tell that now."""
        reading = self._readings.get(task_id)
        if reading is None:
            return False  # it has ended: nobody waits for room any more
        reading.read += 1
        reading.untold += 1
        reading.untold_bytes += size
        if reading.untold < reading.portion and reading.untold_bytes < STREAM_BYTES // PORTION:
            return False
        self._to_tell[task_id] = reading
        return True

    def tell(self) -> Credits:
        """Take what is to be told."""
        told: list[ReadUpTo] = []
        while self._to_tell and len(told) < MAX_BATCH_ITEMS:
            task_id = next(iter(self._to_tell))
            reading = self._to_tell.pop(task_id)
            reading.untold = reading.untold_bytes = 0
            told.append(ReadUpTo(task_id, reading.read))
        return Credits(told)

    def check(self) -> None:
        """Assert every invariant."""
        for reading in self._readings.values():
            assert 0 <= reading.untold <= reading.read <= reading.came
        for task_id, reading in self._to_tell.items():
            assert self._readings.get(task_id) is reading
            assert reading.untold
