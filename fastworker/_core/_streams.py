"""How far a stream has come at the control plane: what was yielded, what was read.

A stream's values pass through; nobody here looks into them. What is kept of
each stream are two numbers, so that a value counts once, in its order, and no
subworker can send more than its reader has room for.
"""

from __future__ import annotations

from fastworker._core._messages import CallOptions
from fastworker._errors import RemoteProtocolError


class StreamProgress:
    """One stream's numbers, for as long as its task has not ended.

    ``yielded`` values have come from its subworker, ``read`` of them have been
    read by its client, who has room for ``window`` more.
    """

    __slots__ = ("read", "window", "yielded")

    def __init__(self, window: int) -> None:
        self.window = window
        self.yielded = 0
        self.read = 0

    def take(self, index: int) -> bool:
        """Note that value number ``index`` has come; False if it came before.

        Raises:
          RemoteProtocolError: it skips one, or nobody has room for it.
        """
        if index < self.yielded:
            return False
        if index > self.yielded or index >= self.read + self.window:
            raise RemoteProtocolError(
                f"value {index} of a stream came after {self.yielded}, of which {self.read} "
                f"are read, with room for {self.window} more"
            )
        self.yielded += 1
        return True

    def note_read(self, count: int) -> bool:
        """Note that ``count`` values have been read in all; False if that is nothing new."""
        count = min(count, self.yielded)  # nobody has read what has not come
        if count <= self.read:
            return False
        self.read = count
        return True

    def check(self) -> None:
        """Assert every invariant."""
        assert 0 <= self.read <= self.yielded <= self.read + self.window


def progress_of(options: CallOptions | None) -> StreamProgress | None:
    """The numbers of a new task, None if it is no stream."""
    return None if options is None or not options.stream else StreamProgress(options.stream)
