"""One peer's session at the control plane: its slots, its pipe, what it is owed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from fastworker._core._link_responder import ResponderLink, SendTo, Ticket
from fastworker._core._messages import (
    BATCH_BYTES,
    MAX_BATCH_ITEMS,
    Assignment,
    LeaseReply,
    PollReply,
    Role,
    StopOrder,
    TaskEvent,
)

# What a client has not fetched yet may weigh this much; beyond it outcomes
# arrive without their values and tracebacks. At twice as much the session is
# closed: should the client live, it asks again for what it still wants to know.
OUTBOX_BYTES: Final = 64 * 1024 * 1024


class Outbox:
    """What a client is still to be told, the latest news of each task only."""

    def __init__(self, max_bytes: int = OUTBOX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[str, tuple[int, TaskEvent]] = OrderedDict()
        self._cursor = 0
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def bytes(self) -> int:
        """About how much the entries weigh."""
        return self._bytes

    @property
    def is_overfull(self) -> bool:
        """Whether even the bare outcomes are too many to be kept."""
        return self._bytes > 2 * self._max_bytes

    def put(self, event: TaskEvent) -> None:
        """Add news of a task; older news of the same task is dropped."""
        self._drop(event.task_id)
        if self._bytes + event.size > self._max_bytes:
            was_a_value = bool(event.payload) or event.value_dropped
            event = msgspec.structs.replace(
                event, payload=b"", traceback="", value_dropped=was_a_value
            )
        self._cursor += 1
        self._entries[event.task_id] = (self._cursor, event)
        self._bytes += event.size

    def acknowledge(self, cursor: int) -> None:
        """Forget everything up to ``cursor``: the client has it."""
        while self._entries:
            task_id, (number, _) = next(iter(self._entries.items()))
            if number > cursor:
                return
            self._drop(task_id)

    def take(self, cursor: int) -> PollReply:
        """Make a reply of what comes first, as much as fits into a batch."""
        events: list[TaskEvent] = []
        size = 0
        for number, event in self._entries.values():
            if events and (size + event.size > BATCH_BYTES or len(events) == MAX_BATCH_ITEMS):
                break
            events.append(event)
            size += event.size
            cursor = number
        return PollReply(cursor, events)

    def check(self) -> None:
        """Assert every invariant."""
        numbers = [number for number, _ in self._entries.values()]
        assert numbers == sorted(numbers)
        assert self._bytes == sum(event.size for _, event in self._entries.values())

    def _drop(self, task_id: str) -> None:
        entry = self._entries.pop(task_id, None)
        if entry is not None:
            self._bytes -= entry[1].size


class Handout:
    """What a subworker was given and has not said it got.

    It has to be kept: an answer may be lost, or may reach a request that the
    subworker no longer waits for (a late copy of an earlier LEASE).
    """

    def __init__(self) -> None:
        self._number = 0
        self._items: list[tuple[int, Assignment | StopOrder]] = []

    def __len__(self) -> int:
        return len(self._items)

    def put(self, items: Sequence[Assignment | StopOrder]) -> None:
        """Add what is to be given."""
        for item in items:
            self._number += 1
            self._items.append((self._number, item))

    def acknowledge(self, cursor: int) -> None:
        """Forget everything up to ``cursor``: the subworker has it."""
        self._items = [entry for entry in self._items if entry[0] > cursor]

    def keep(self, is_alive: Callable[[Assignment], bool]) -> None:
        """Forget assignments whose lease has ended in the meantime."""
        self._items = [
            entry
            for entry in self._items
            if not isinstance(entry[1], Assignment) or is_alive(entry[1])
        ]

    def take(self) -> LeaseReply:
        """Make a reply of everything not acknowledged."""
        return LeaseReply(
            self._number,
            [item for _, item in self._items if isinstance(item, Assignment)],
            [item for _, item in self._items if isinstance(item, StopOrder)],
            [number for number, item in self._items if isinstance(item, Assignment)],
        )


class Session:
    """A session and what hangs on it. ``pipe`` is None while the peer is away."""

    __slots__ = (
        "address",
        "cursor",
        "handout",
        "key",
        "label",
        "link",
        "opened_on",
        "outbox",
        "parked",
        "pipe",
        "receipts",
        "role",
        "seen_at",
    )

    def __init__(
        self, key: bytes, role: Role, label: str, address: str, epoch: int, now: float
    ) -> None:
        self.key = key
        self.role = role
        self.label = label
        self.address = address
        self.link = ResponderLink(key, epoch)
        self.pipe: int | None = None
        self.opened_on = 0  # the pipe that its first HELLO came by
        self.seen_at = now
        self.parked: Ticket | None = None  # the POLL or LEASE that waits
        # answers that nobody waits for: they go with the next frame, or soon
        self.receipts: list[SendTo] = []
        # a client's:
        self.outbox = Outbox()
        self.cursor = 0
        # a subworker's:
        self.handout = Handout()

    def __repr__(self) -> str:
        # The key is a secret and stays out of logs and tracebacks.
        return f"<Session {self.role.name.lower()} {self.label!r} pipe={self.pipe}>"

    def check(self) -> None:
        """Assert every invariant."""
        self.link.check()
        self.outbox.check()
        assert self.parked is None or self.link.waits(self.parked)
