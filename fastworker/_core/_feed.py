"""Tells of changes of tasks whoever wants to hear of them.

What is told is in the store already. It is lossy by design: nothing waits for a
listener, and of what one does not fetch in time only the latest is kept. A fast
load costs few frames all the same: a listener says how long an answer is to
gather at least.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, TypeAlias

from fastworker._core._deadlines import Deadlines
from fastworker._core._event_messages import EventsAsked, EventsReply
from fastworker._core._link_responder import Ticket
from fastworker._core._messages import BATCH_BYTES
from fastworker._core._stored import StoredTask, TaskRow, row_of

# Of what a subscription keeps, besides its ``max_kept``.
SUBSCRIPTION_BYTES: Final = 2 * 1024 * 1024
MAX_SUBSCRIPTIONS: Final = 128
# Each has a request that waits, and the session has sixteen slots.
MAX_SUBSCRIPTIONS_OF_A_SESSION: Final = 4
# What a row weighs at most, but for its texts.
_ROW_BYTES: Final = 128
# Arguments and results that are no reason to make a row.
_LIGHT_BYTES: Final = 256


class Told(NamedTuple):
    """The answer to this request of this session."""

    session: bytes
    ticket: Ticket
    reply: EventsReply


class Subscription:
    """What one listener wants to hear, and what it has not fetched."""

    def __init__(self, session: bytes, asked: EventsAsked, generation: int) -> None:
        wanted = asked.filter
        self.session = session
        self.generation = generation
        self.asked = asked
        self.ticket: Ticket | None = None  # the request that waits
        self.cursor = 0  # of that request
        self.told_at = float("-inf")
        self.published = 0  # also the number of the last row
        self.bytes = 0
        self._rows: deque[tuple[_News, int]] = deque()
        self._states = frozenset(wanted.states)
        self._names = frozenset(wanted.names)
        self._ids = frozenset(wanted.task_ids)
        self._priorities = frozenset(wanted.priorities)
        self._worker = wanted.worker
        self._max_kept = asked.max_kept
        self.is_open = not (wanted.states or wanted.names or wanted.task_ids) and not (
            wanted.priorities
        )

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def key(self) -> tuple[bytes, int]:
        """What tells it from all others."""
        return self.session, self.asked.number

    @property
    def first(self) -> int:
        """The number of the first row that is kept, or would be."""
        return self.published - len(self._rows) + 1

    @property
    def due_at(self) -> float:
        """Before this it is told nothing."""
        return self.told_at + self.asked.interval / 1000

    def is_same(self, asked: EventsAsked) -> bool:
        """Whether this is the subscription that is meant."""
        mine = self.asked
        return (mine.filter, mine.max_kept, mine.interval) == (
            asked.filter,
            asked.max_kept,
            asked.interval,
        )

    def wants(self, task: StoredTask) -> bool:
        """Whether it is about this task, as far as that is known without its row."""
        spec = task.spec
        return (
            (not self._states or task.state in self._states)
            and (not self._names or spec.name in self._names)
            and (not self._ids or spec.id in self._ids)
            and (not self._priorities or spec.priority in self._priorities)
        )

    def put(self, news: _News, size: int) -> bool:
        """Add a change if it is wanted; the oldest are dropped if there is no room."""
        if self._worker:
            news = _row(news)
            if news.worker != self._worker:
                return False
        rows = self._rows
        self.published += 1
        self.bytes += size
        rows.append((news, size))
        # This is what a fast load pays for each change; so nothing is called here.
        while len(rows) > self._max_kept or self.bytes > SUBSCRIPTION_BYTES:
            self.bytes -= rows.popleft()[1]
        return True

    def acknowledge(self, cursor: int) -> None:
        """Forget everything up to ``cursor``: the listener has it."""
        while self._rows and self.first <= cursor:
            self._drop_first()

    @property
    def has_news(self) -> bool:
        """Whether there is something to answer the request that waits."""
        return self.published > self.cursor

    def take(self) -> EventsReply:
        """Make an answer of what comes first, as much as fits into a frame."""
        rows: list[TaskRow] = []
        size = 0
        for news, weight in self._rows:
            size += weight
            if rows and size > BATCH_BYTES:
                break
            rows.append(_row(news))
        dropped = self.first - 1 - self.cursor
        return EventsReply(self.cursor + dropped + len(rows), rows, dropped, self.generation)

    def nothing(self, cursor: int = 0) -> EventsReply:
        """Make an answer that tells nothing new."""
        return EventsReply(cursor, generation=self.generation)

    def check(self) -> None:
        """Assert every invariant."""
        assert len(self._rows) <= self.asked.max_kept
        assert self.bytes == sum(size for _, size in self._rows) <= SUBSCRIPTION_BYTES
        assert self.first >= 1
        if self.ticket is not None:
            assert self.cursor < self.first

    def _drop_first(self) -> None:
        _, size = self._rows.popleft()
        self.bytes -= size


class Feed:
    """All subscriptions. See the module's first lines.

    Args:
      epoch: the control plane's.
    """

    def __init__(self, epoch: int) -> None:
        # No two beginnings are called the same, those of an earlier control plane included.
        self._generation = epoch % 2**30 << 32
        self._by_session: dict[bytes, dict[int, Subscription]] = {}
        self._all: dict[tuple[bytes, int], Subscription] = {}
        self._deadlines: Deadlines[tuple[bytes, int]] = Deadlines()

    def __len__(self) -> int:
        return len(self._all)

    def next_deadline(self) -> float:
        """When ``pass_deadline`` is wanted, ``inf`` for never."""
        return self._deadlines.next()

    # --- what listeners ask ---

    def ask(
        self, session: bytes, ticket: Ticket, asked: EventsAsked, *, now: float
    ) -> list[Told]:
        """Take a request; it is answered now or later. May be the repeat of one."""
        known = self._all.get((session, asked.number))
        told: list[Told] = []
        if known is not None and (asked.ends or not known.is_same(asked)):
            told += self._end(known)
            known = None
        if asked.ends:
            return [*told, Told(session, ticket, EventsReply(asked.cursor))]
        if known is None:
            return [*told, self._begin(session, ticket, asked)]
        if asked.generation != known.generation:
            # The answer that named it was lost, or nobody waited for it any more.
            return [Told(session, ticket, known.nothing())]
        if known.ticket is not None and known.ticket != ticket:
            told.append(Told(session, known.ticket, known.nothing(known.cursor)))
        known.ticket = ticket
        known.cursor = min(asked.cursor, known.published)
        known.acknowledge(known.cursor)
        return [*told, *self._tell_in_time([known], now)]

    def _begin(self, session: bytes, ticket: Ticket, asked: EventsAsked) -> Told:
        own = self._by_session.get(session, {})
        for count, limit, whose in (
            (len(own), MAX_SUBSCRIPTIONS_OF_A_SESSION, "of one client"),
            (len(self._all), MAX_SUBSCRIPTIONS, "of all clients"),
        ):
            if count >= limit:
                problem = f"{limit} streams of events {whose} are open, which is the limit"
                return Told(session, ticket, EventsReply(0, problem=problem))
        self._generation += 1
        begun = Subscription(session, asked, self._generation)
        self._by_session.setdefault(session, own)[asked.number] = begun
        self._all[begun.key] = begun
        return Told(session, ticket, begun.nothing())

    def _end(self, subscription: Subscription) -> list[Told]:
        session, number = subscription.key
        del self._all[subscription.key]
        own = self._by_session[session]
        del own[number]
        if not own:
            del self._by_session[session]
        self._deadlines.clear(subscription.key)
        if subscription.ticket is None:
            return []
        return [Told(session, subscription.ticket, subscription.nothing(subscription.cursor))]

    def free_slot(self, session: bytes, slot: int) -> None:
        """This slot is used for another request: one that waited in it waits no more."""
        for subscription in self._by_session.get(session, {}).values():
            if subscription.ticket is not None and subscription.ticket.slot == slot:
                subscription.ticket = None

    def end_session(self, session: bytes) -> None:
        """Forget all subscriptions of a session."""
        for subscription in list(self._by_session.get(session, {}).values()):
            self._end(subscription)

    # --- what happens ---

    def publish(self, tasks: Iterable[StoredTask], *, now: float) -> list[Told]:
        """These tasks have changed, and what they are now is durable."""
        told: dict[tuple[bytes, int], Subscription] = {}
        for task in tasks:
            news: _News | None = None
            size = 0
            for key, subscription in self._all.items():
                if not (subscription.is_open or subscription.wants(task)):
                    continue
                if news is None:
                    news, size = _news_of(task)
                if subscription.put(news, size):
                    told[key] = subscription
        return self._tell_in_time(told.values(), now)

    def pass_deadline(self, *, now: float) -> list[Told]:
        """Answer those whose time has come."""
        return self._tell_in_time([self._all[key] for key in self._deadlines.pop_due(now)], now)

    def _tell_in_time(self, subscriptions: Iterable[Subscription], now: float) -> list[Told]:
        """Answer those that may be answered now, and note when the others may be."""
        told: list[Told] = []
        for subscription in subscriptions:
            ticket = subscription.ticket
            if ticket is None or not subscription.has_news:
                continue
            if now < subscription.due_at:
                self._deadlines.set(subscription.key, subscription.due_at)
                continue
            self._deadlines.clear(subscription.key)
            told.append(Told(subscription.session, ticket, subscription.take()))
            subscription.ticket = None
            subscription.told_at = now
        return told

    # --- reading ---

    def check(self, waits: Callable[[bytes, Ticket], bool]) -> None:
        """Assert every invariant. ``waits`` says whether a request has no answer yet."""
        assert sum(map(len, self._by_session.values())) == len(self._all) <= MAX_SUBSCRIPTIONS
        assert len(self._deadlines) <= len(self._all)
        for session, own in self._by_session.items():
            assert 0 < len(own) <= MAX_SUBSCRIPTIONS_OF_A_SESSION
            for number, subscription in own.items():
                assert self._all[session, number] is subscription
                subscription.check()
                ticket = subscription.ticket
                assert ticket is None or waits(session, ticket)


# Of a fast load most changes are dropped before anybody fetches them: a row is made of
# those only that are told. Until then a task is kept itself, if it is a light one.
_News: TypeAlias = TaskRow | StoredTask


def _row(news: _News) -> TaskRow:
    return news if isinstance(news, TaskRow) else row_of(news)


def _news_of(task: StoredTask) -> tuple[_News, int]:
    """What is kept of a change, and about how many bytes that holds."""
    spec, life, outcome = task.spec, task.life, task.outcome
    size = len(spec.payload)
    is_light = not (life.errors or life.losses or life.loss)
    if outcome is not None:
        size += len(outcome.payload)
        is_light = is_light and not (outcome.error or outcome.traceback or outcome.errors)
    if is_light and size <= _LIGHT_BYTES and spec.id.isascii() and spec.name.isascii():
        return task, size + _ROW_BYTES + len(spec.id) + len(spec.name)
    row = row_of(task)
    return row, _weight(row)


def _weight(row: TaskRow) -> int:
    """About how many bytes it holds, as an object and in a frame."""
    texts = (row.task_id, row.name, row.worker, row.error)
    return _ROW_BYTES + sum(len(t) if t.isascii() else 4 * len(t) for t in texts)
