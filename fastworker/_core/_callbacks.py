"""The callbacks' machine: who is told what, when, and what if nobody listens.

Each address has a queue of its own and at most one delivery under way, so that
one that does not answer delays nothing else. A delivery takes what waits, up to
a batch; after a failure the first one goes alone until something arrives, so
that one bad callback does not use up the tries of those behind it.

Whatever cannot be told is *parked*: kept for operators to see, within bounds.
"""

from __future__ import annotations

import enum
import random
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Final, assert_never

import msgspec

from fastworker._core._callback_events import (
    CallbackCommand,
    CallbackDue,
    CallbackEvent,
    Deliver,
    DeliveryEnded,
    Disconnect,
    Settled,
)
from fastworker._core._callback_payload import encode_payload
from fastworker._core._deadlines import Deadlines
from fastworker._core._messages import (
    BATCH_BYTES,
    Callback,
    CallbackPhase,
    CallbacksAsked,
    CallbacksReply,
    CallbackView,
    TaskEvent,
)
from fastworker._core._pipes import DeadlinePassed

FIRST_BACKOFF: Final = 0.5
MAX_BACKOFF: Final = 60.0
MAX_TRIES: Final = 10
# Of an error's text: it goes over the wire, where a line has a limit.
MAX_ERROR: Final = 1_000
# A connection without work stays this long: a Pair0 listener has one peer at a
# time, so others could not reach it meanwhile.
IDLE_SECONDS: Final = 10.0


class CallbackLimits(msgspec.Struct, frozen=True):
    """Bounds. A queue that is empty takes one callback of any size.

    Each connection costs half a dozen descriptors; with more addresses than
    ``connections`` they take turns.
    """

    connections: int = 64
    batch: int = 256
    batch_bytes: int = 1024 * 1024
    address_queue: int = 10_000
    address_bytes: int = 32 * 1024 * 1024
    queue: int = 100_000
    queue_bytes: int = 128 * 1024 * 1024
    parked: int = 1_000
    parked_bytes: int = 16 * 1024 * 1024


class ParkedCallback(msgspec.Struct, frozen=True):
    """A callback that is not tried any more. ``error`` is the last one."""

    task_id: str
    event_id: str
    address: str
    tries: int
    error: str

    @property
    def size(self) -> int:
        """About how many bytes this holds."""
        texts = (self.task_id, self.event_id, self.address, self.error)
        return 200 + sum(map(len, texts))


class CallbackStatistics(msgspec.Struct, frozen=True):
    """A snapshot. due = queued + delivered + parked + dropped.

    ``dropped`` were parked, and had to make room for later ones;
    ``failed_deliveries`` are tries, not callbacks.
    """

    due: int = 0
    queued: int = 0
    delivered: int = 0
    parked: int = 0
    dropped: int = 0
    failed_deliveries: int = 0
    connections: int = 0
    parked_callbacks: list[ParkedCallback] = []


class _Phase(enum.Enum):
    TURN = 1  # it has work, and waits for a connection
    UNDER_WAY = 2
    BACKOFF = 3  # it has work, and waits until its deadline
    IDLE = 4  # it has a connection and no work, until its deadline


class _Entry:
    __slots__ = ("callback", "event", "sendings", "size", "tries")

    def __init__(self, callback: Callback, event: TaskEvent) -> None:
        self.callback = callback
        self.event = event
        self.size = event.size + callback.size
        self.sendings = 0
        self.tries = 0  # that failed with this one being first


class _Address:
    """One address; it is forgotten when it has no work and no connection."""

    __slots__ = (
        "bytes",
        "error",
        "is_connected",
        "is_wary",
        "name",
        "phase",
        "queue",
        "under_way",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.phase = _Phase.TURN
        self.queue: deque[_Entry] = deque()
        self.bytes = 0
        self.under_way = 0  # how many of the first are being delivered
        self.is_connected = False
        self.is_wary = False  # nothing has arrived since the last failure
        self.error = ""  # of the last failure, while wary

    def push(self, entry: _Entry) -> None:
        self.queue.append(entry)
        self.bytes += entry.size

    def pop(self) -> _Entry:
        entry = self.queue.popleft()
        self.bytes -= entry.size
        return entry


class CallbackState:
    """The machine.

    Args:
      rng: draws how long a backoff is.
      limits: see there.
    """

    def __init__(self, *, rng: random.Random, limits: CallbackLimits | None = None) -> None:
        self._rng = rng
        self._limits = limits or CallbackLimits()
        self._addresses: dict[str, _Address] = {}
        self._deadlines: Deadlines[str] = Deadlines()
        self._idle: dict[str, _Address] = {}  # the one that is so for longest comes first
        self._turns: deque[_Address] = deque()  # they wait for a connection
        self._connections = 0
        self._bytes = 0
        self._queued = 0
        self._parked: deque[ParkedCallback] = deque()
        self._parked_bytes = 0
        self._due = 0
        self._delivered = 0
        self._dropped = 0
        self._failed_deliveries = 0
        self._out: list[CallbackCommand] = []
        self._now = 0.0

    # --- the one mutator ---

    def handle(self, event: CallbackEvent, *, now: float) -> list[CallbackCommand]:
        """Apply an event and return what has to be done."""
        self._now = now
        match event:
            case CallbackDue():
                self._on_due(event)
            case DeliveryEnded(address=name, delivered=delivered, error=error):
                self._on_ended(self._addresses[name], delivered, error)
            case DeadlinePassed():
                for name in self._deadlines.pop_due(now):
                    self._on_deadline(self._addresses[name])
            case _:
                assert_never(event)
        self._give_turns()
        out, self._out = self._out, []
        return out

    def next_deadline(self) -> float:
        """When DeadlinePassed is wanted, ``inf`` for never."""
        return self._deadlines.next()

    # --- reading ---

    @property
    def is_busy(self) -> bool:
        """Whether any address is being told something, or will be without a pause."""
        return any(a.phase is not _Phase.BACKOFF and a.queue for a in self._addresses.values())

    def statistics(self) -> CallbackStatistics:
        """Return a snapshot."""
        return CallbackStatistics(
            due=self._due,
            queued=self._queued,
            delivered=self._delivered,
            parked=len(self._parked),
            dropped=self._dropped,
            failed_deliveries=self._failed_deliveries,
            connections=self._connections,
            parked_callbacks=list(self._parked),
        )

    def describe(self, asked: CallbacksAsked) -> CallbacksReply:
        """Describe those that have not arrived, as many as fit into a batch."""
        retrying = sum(len(a.queue) for a in self._addresses.values() if a.is_wary)
        views: list[CallbackView] = []
        is_cut = False
        size = 0
        for view in islice(self._views(asked.phases), asked.limit + 1):
            size += view.size
            is_cut = len(views) == asked.limit or (size > BATCH_BYTES and bool(views))
            if is_cut:
                break
            views.append(view)
        return CallbacksReply(
            due=self._due,
            queued=self._queued - retrying,
            retrying=retrying,
            parked=len(self._parked),
            delivered=self._delivered,
            dropped=self._dropped,
            callbacks=views,
            is_cut=is_cut,
        )

    def _views(self, phases: list[CallbackPhase]) -> Iterator[CallbackView]:
        """Those in these phases, or all: what needs somebody most comes first."""
        if not phases or CallbackPhase.PARKED in phases:
            for parked in self._parked:
                yield CallbackView(
                    CallbackPhase.PARKED,
                    parked.address,
                    parked.event_id,
                    parked.task_id,
                    parked.tries,
                    parked.error,
                )
        for phase in (CallbackPhase.RETRYING, CallbackPhase.QUEUED):
            if phases and phase not in phases:
                continue
            for address in self._addresses.values():
                if address.is_wary != (phase is CallbackPhase.RETRYING):
                    continue
                for entry in address.queue:
                    yield CallbackView(
                        phase,
                        address.name,
                        entry.callback.event_id,
                        entry.event.task_id,
                        entry.tries,
                        address.error,
                    )

    def check(self) -> None:
        """Assert every invariant."""
        limits, addresses = self._limits, self._addresses.values()
        assert self._queued == sum(len(a.queue) for a in addresses) <= limits.queue
        assert self._bytes == sum(a.bytes for a in addresses)
        assert self._connections == sum(a.is_connected for a in addresses)
        assert self._connections <= limits.connections
        assert len(self._parked) <= limits.parked
        assert self._parked_bytes == sum(parked.size for parked in self._parked)
        assert self._parked_bytes <= limits.parked_bytes
        snapshot = self.statistics()
        assert snapshot.due == (
            snapshot.queued + snapshot.delivered + snapshot.parked + snapshot.dropped
        ), f"the numbers do not agree: {snapshot}"
        for name, address in self._addresses.items():
            assert name == address.name
            assert address.is_wary or not address.error
            assert address.bytes == sum(entry.size for entry in address.queue)
            assert len(address.queue) <= limits.address_queue
            assert address.under_way <= len(address.queue)
            assert all(entry.tries < MAX_TRIES for entry in address.queue)
            phase = address.phase
            assert (phase is _Phase.TURN) == (address in self._turns)
            assert (phase is _Phase.IDLE) == (name in self._idle)
            assert (phase is _Phase.UNDER_WAY) == (address.under_way > 0)
            assert bool(address.queue) == (phase is not _Phase.IDLE)
            assert address.is_connected == (phase in (_Phase.UNDER_WAY, _Phase.IDLE))
        in_time = sum(a.phase in (_Phase.BACKOFF, _Phase.IDLE) for a in addresses)
        assert len(self._deadlines) == in_time
        assert len(self._turns) == sum(a.phase is _Phase.TURN for a in addresses)
        assert len(self._idle) == sum(a.phase is _Phase.IDLE for a in addresses)
        assert not self._turns or (
            self._connections == limits.connections and not self._idle
        ), "somebody waits for a connection although one is to be had"

    # --- what happens ---

    def _on_due(self, due: CallbackDue) -> None:
        self._due += 1
        entry = _Entry(due.callback, due.event)
        name, limits = due.callback.address, self._limits
        address = self._addresses.get(name)
        waiting, size = (0, 0) if address is None else (len(address.queue), address.bytes)
        if waiting and (
            waiting >= limits.address_queue or size + entry.size > limits.address_bytes
        ):
            self._park(entry, f"{waiting} others wait for this address already")
            return
        if self._queued and (
            self._queued >= limits.queue or self._bytes + entry.size > limits.queue_bytes
        ):
            self._park(entry, f"{self._queued} other callbacks wait already")
            return
        if address is None:
            address = self._addresses[name] = _Address(name)
        address.push(entry)
        self._queued += 1
        self._bytes += entry.size
        if address.phase is _Phase.IDLE:
            self._leave_idle(address)
            self._deliver(address)
        elif waiting == 0:
            self._turns.append(address)  # it is new

    def _on_ended(self, address: _Address, delivered: int, error: str) -> None:
        assert 0 <= delivered <= address.under_way
        assert error or delivered == address.under_way
        address.under_way = 0
        arrived = [self._take(address).event.task_id for _ in range(delivered)]
        if arrived:
            self._out.append(Settled(arrived))
        self._delivered += delivered
        if delivered:
            address.is_wary = False
            address.error = ""
        if error:
            self._failed_deliveries += 1
            self._on_failure(address, error)
        elif not address.queue:
            address.phase = _Phase.IDLE
            self._idle[address.name] = address
            self._deadlines.set(address.name, self._now + IDLE_SECONDS)
        elif self._turns:
            self._disconnect(address)  # others have waited longer
            address.phase = _Phase.TURN
            self._turns.append(address)
        else:
            self._deliver(address)

    def _on_failure(self, address: _Address, error: str) -> None:
        # Nothing may be left in the network that arrives at some later time.
        self._disconnect(address)
        address.is_wary = True
        address.error = error[:MAX_ERROR]
        first = address.queue[0]
        first.tries += 1
        if first.tries == MAX_TRIES:
            self._park(self._take(address), error)
        if address.queue:
            tries = max(1, address.queue[0].tries)
            address.phase = _Phase.BACKOFF
            longest = min(MAX_BACKOFF, FIRST_BACKOFF * 2 ** (tries - 1))
            self._deadlines.set(
                address.name, self._now + longest * (0.5 + 0.5 * self._rng.random())
            )
        else:
            del self._addresses[address.name]

    def _on_deadline(self, address: _Address) -> None:
        if address.phase is _Phase.IDLE:
            self._leave_idle(address)
            self._forget(address)
        else:
            address.phase = _Phase.TURN
            self._turns.append(address)

    # --- what to do ---

    def _give_turns(self) -> None:
        """Let those who wait for a connection have what is free, or idle."""
        while self._turns:
            if self._connections == self._limits.connections:
                if not self._idle:
                    return
                idle = next(iter(self._idle.values()))
                self._leave_idle(idle)
                self._forget(idle)
            address = self._turns.popleft()
            address.is_connected = True
            self._connections += 1
            self._deliver(address)

    def _leave_idle(self, address: _Address) -> None:
        del self._idle[address.name]
        self._deadlines.clear(address.name)

    def _forget(self, address: _Address) -> None:
        self._disconnect(address)
        del self._addresses[address.name]

    def _deliver(self, address: _Address) -> None:
        limits = self._limits
        payloads: list[bytes] = []
        size = 0
        for entry in address.queue:
            size += entry.size
            if payloads and (
                address.is_wary or len(payloads) == limits.batch or size > limits.batch_bytes
            ):
                break
            entry.sendings += 1
            payloads.append(encode_payload(entry.callback, entry.event, entry.sendings))
        address.phase = _Phase.UNDER_WAY
        address.under_way = len(payloads)
        self._out.append(Deliver(address.name, payloads))

    def _disconnect(self, address: _Address) -> None:
        address.is_connected = False
        self._connections -= 1
        self._out.append(Disconnect(address.name))

    def _take(self, address: _Address) -> _Entry:
        """Take the first one off the queue."""
        entry = address.pop()
        self._queued -= 1
        self._bytes -= entry.size
        return entry

    def _park(self, entry: _Entry, error: str) -> None:
        parked = ParkedCallback(
            task_id=entry.event.task_id,
            event_id=entry.callback.event_id,
            address=entry.callback.address,
            tries=entry.tries,
            error=error[:MAX_ERROR],
        )
        self._parked.append(parked)
        self._parked_bytes += parked.size
        while (
            len(self._parked) > self._limits.parked
            or self._parked_bytes > self._limits.parked_bytes
        ):
            dropped = self._parked.popleft()
            self._parked_bytes -= dropped.size
            self._dropped += 1
            self._out.append(Settled([dropped.task_id]))
