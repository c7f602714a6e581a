"""One peer's session at the control plane: its slots, its pipe, what it is owed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

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
    StreamCredit,
    StreamValue,
    TaskEvent,
)

# Of a task, or of a value of its stream.
_Key: TypeAlias = str | tuple[str, int]

# What a client has not fetched yet may weigh this much; beyond it outcomes
# arrive without their values and tracebacks. At twice as much the session is
# closed: should the client live, it asks again for what it still wants to know.
OUTBOX_BYTES: Final = 64 * 1024 * 1024


class Outbox:
    """What a client is still to be told: the latest news of each task, and values.

    The values of a stream are told one by one and in their order; who has made
    them sends no more than their reader has room for.
    """

    def __init__(self, max_bytes: int = OUTBOX_BYTES) -> None:
        self._max_bytes = max_bytes
        # Each with its number and about how many bytes it weighs.
        self._entries: OrderedDict[_Key, tuple[int, TaskEvent | StreamValue, int]] = (
            OrderedDict()
        )
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
        if event.task_id in self._entries:
            self._drop(event.task_id)
        self._add(event.task_id, event)

    def put_value(self, value: StreamValue) -> None:
        """Add the next value of a stream."""
        self._add((value.task_id, value.index), value)

    def forget_read(self, task_id: str, count: int) -> None:
        """Forget the first values of a stream: its reader says that it has them."""
        while count and (task_id, count - 1) in self._entries:
            count -= 1
            self._drop((task_id, count))

    def _add(self, key: _Key, item: TaskEvent | StreamValue) -> None:
        size = item.size
        if self._bytes + size > self._max_bytes:
            was_a_value = bool(item.payload) or item.value_dropped
            item = msgspec.structs.replace(item, payload=b"", value_dropped=was_a_value)
            if isinstance(item, TaskEvent):
                item = msgspec.structs.replace(item, traceback="")
            size = item.size
        self._cursor += 1
        self._entries[key] = (self._cursor, item, size)
        self._bytes += size

    def acknowledge(self, cursor: int) -> None:
        """Forget everything up to ``cursor``: the client has it."""
        entries = self._entries
        while entries:
            key = next(iter(entries))
            if entries[key][0] > cursor:
                return
            self._drop(key)

    def take(self, cursor: int) -> PollReply:
        """Make a reply of what comes first, as much as fits into a batch."""
        events: list[TaskEvent] = []
        values: list[StreamValue] = []
        size = 0
        for count, (number, item, weight) in enumerate(self._entries.values()):
            if count and (size + weight > BATCH_BYTES or count == MAX_BATCH_ITEMS):
                break
            if isinstance(item, StreamValue):
                values.append(item)
            else:
                events.append(item)
            size += weight
            cursor = number
        return PollReply(cursor, events, values)

    def check(self) -> None:
        """Assert every invariant."""
        size = last = 0
        for number, item, weight in self._entries.values():
            assert number > last, "news are out of order"
            assert weight == item.size
            last = number
            size += weight
        assert self._bytes == size

    def _drop(self, key: _Key) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= entry[2]


class Handout:
    """What a subworker was given and has not said it got.

    It has to be kept: an answer may be lost, or may reach a request that the
    subworker no longer waits for (a late copy of an earlier LEASE).
    """

    def __init__(self) -> None:
        self._number = 0
        self._items: list[tuple[int, Assignment | StopOrder]] = []
        # The latest of each stream says it all.
        self._credits: dict[str, tuple[int, StreamCredit]] = {}
        # Whether it is to take no more work, and has not said that it does not.
        self.wants_drain = False

    def __len__(self) -> int:
        return len(self._items) + len(self._credits) + self.wants_drain

    @property
    def has_orders(self) -> bool:
        """Whether it has more than credit."""
        return bool(self._items)

    def put_credit(self, credit: StreamCredit) -> None:
        """Add how far a stream was read."""
        self._number += 1
        self._credits[credit.task_id] = (self._number, credit)

    def put(self, items: Sequence[Assignment | StopOrder]) -> None:
        """Add what is to be given."""
        number = self._number + 1
        self._number += len(items)
        self._items += zip(range(number, self._number + 1), items, strict=True)

    def acknowledge(self, cursor: int) -> None:
        """Forget everything up to ``cursor``: the subworker has it."""
        if self._items:
            self._items = [entry for entry in self._items if entry[0] > cursor]
        if self._credits:
            self._keep_credits(lambda number, _: number > cursor)

    def _keep_credits(self, is_kept: Callable[[int, StreamCredit], bool]) -> None:
        self._credits = {
            task_id: entry for task_id, entry in self._credits.items() if is_kept(*entry)
        }

    def keep(self, is_alive: Callable[[Assignment | StreamCredit], bool]) -> None:
        """Forget assignments, and credit for such, whose lease has ended in the meantime."""
        if self._credits:
            self._keep_credits(lambda _, credit: is_alive(credit))
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
            [credit for _, credit in self._credits.values()],
            self.wants_drain,
        )


class Session:
    """A session and what hangs on it. ``pipe`` is None while the peer is away."""

    __slots__ = (
        "address",
        "beats",
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
        "remote",
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
        self.remote = ""  # the host that its pipe comes from, as far as is known
        self.opened_on = 0  # the pipe that its first HELLO came by
        self.seen_at = now
        self.parked: Ticket | None = None  # the POLL or LEASE that waits
        # answers that nobody waits for: they go with the next frame, or soon
        self.receipts: list[SendTo] = []
        # the same for beats, by slot: the answer to the latest says it all
        self.beats: dict[int, SendTo] = {}
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
