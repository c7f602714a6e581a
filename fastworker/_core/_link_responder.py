"""The listening half of the session link: one request remembered for each slot.

See ``_link_requester.py`` for the scheme. This half decides, for each request
that arrives, whether it is new, a repeat, a late copy of something long
answered, or a broken rule.

Short answers are kept as bytes and sent again to a repeat. An answer longer
than KEPT_REPLY_BYTES is not kept: its request is executed again, and every
request is idempotent by a key of its own (task id, fence, cursor).
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from fastworker._core._codec import encode
from fastworker._core._messages import (
    KEPT_REPLY_BYTES,
    SLOT_COUNT,
    URGENT_SLOT,
    Closed,
    Kind,
    Reply,
    Request,
    Working,
)
from fastworker._core._pipes import Route

URGENT_KINDS: Final = frozenset({Kind.CANCEL, Kind.BYE})


class RequestReceived(msgspec.Struct, frozen=True, gc=False):
    """A request of this session and epoch has come along ``route``."""

    route: Route
    request: Request


class Ticket(NamedTuple):
    """Names one request of the session. A later one may have taken over its slot."""

    slot: int
    sequence: int


class Answered(msgspec.Struct, frozen=True, gc=False):
    """This request has its answer. ``keep`` as in KEPT_REPLY_BYTES."""

    ticket: Ticket
    body: bytes
    keep: bool = True


ResponderEvent = RequestReceived | Answered


class Execute(msgspec.Struct, frozen=True, gc=False):
    """Carry out this request and say Answered, now or later.

    ``repeat``: it was carried out before and its answer may be lost.
    """

    ticket: Ticket
    kind: Kind
    body: bytes
    repeat: bool


class SendTo(msgspec.Struct, frozen=True, gc=False):
    """Send these bytes along this route; if they answer a request, one of this kind."""

    route: Route
    data: bytes
    answers: Kind | None = None


class AnswerBeat(msgspec.Struct, frozen=True, gc=False):
    """The request of this slot was repeated while it is under way: say that it was heard.

    That may wait a moment. ``answer`` is also that to any earlier repeat.
    """

    slot: int
    answer: SendTo


class CloseSession(msgspec.Struct, frozen=True, gc=False):
    """The peer broke a rule; nothing it says in this session counts any more."""

    route: Route
    reason: str


ResponderCommand = Execute | SendTo | AnswerBeat | CloseSession


class _Slot:
    __slots__ = ("digest", "is_answered", "is_repeat", "kept", "kind", "route", "sequence")

    def __init__(self) -> None:
        self.sequence = 0
        self.digest = b""
        self.kind = Kind.BYE
        self.is_answered = True
        self.is_repeat = False  # answered before, and executed again for a repeat
        self.kept: bytes | None = None
        self.route: Route | None = None


class ResponderLink:
    """The machine of one session at the control plane."""

    def __init__(self, session: bytes, epoch: int) -> None:
        self._session = session
        self._epoch = epoch
        self._slots = [_Slot() for _ in range(SLOT_COUNT)]

    def handle(self, event: ResponderEvent, *, now: float) -> list[ResponderCommand]:
        """Apply an event and return what has to be done. Time plays no part here."""
        match event:
            case RequestReceived(route=route, request=request):
                return self._on_request(route, request)
            case Answered(ticket=ticket, body=body, keep=keep):
                return self._on_answer(ticket, body, keep)

    def next_deadline(self) -> float:
        """Never: the session's time limits belong to the control plane."""
        return float("inf")

    def waits(self, ticket: Ticket) -> bool:
        """Whether this request is the latest of its slot and has no answer yet."""
        slot = self._slots[ticket.slot]
        return slot.sequence == ticket.sequence and not slot.is_answered

    @property
    def kept_bytes(self) -> int:
        """How many bytes of answers are kept for repeats."""
        return sum(len(slot.kept or b"") for slot in self._slots)

    def check(self) -> None:
        """Assert every invariant."""
        kept_bytes = 0  # added up here: this is called often, and generators cost
        for slot in self._slots:
            if slot.kept is not None:
                assert slot.is_answered
                kept_bytes += len(slot.kept)
        assert kept_bytes <= SLOT_COUNT * KEPT_REPLY_BYTES

    def _on_request(self, route: Route, request: Request) -> list[ResponderCommand]:
        slot = self._slots[request.slot]
        ticket = Ticket(request.slot, request.sequence)
        if request.sequence < slot.sequence:
            return []  # a late copy of a request whose answer has arrived
        if request.sequence == slot.sequence:
            if request.digest != slot.digest:
                return [self._close(route, "one sequence was used for two requests")]
            slot.route = route
            if not slot.is_answered:
                return [AnswerBeat(request.slot, self._working(route, request))]
            if slot.kept is not None:
                return [self._reply(request.slot, slot, slot.kept)]
            slot.is_answered = False
            slot.is_repeat = True
            return [Execute(ticket, request.kind, request.body, repeat=True)]
        if request.sequence > slot.sequence + 1:
            return [self._close(route, "a sequence was skipped")]
        # A peer that goes on while a repeat is being executed has had the
        # answer: the repeat was a late copy.
        if not slot.is_answered and not slot.is_repeat:
            return [self._close(route, "a slot was used again before its answer")]
        if (request.slot == URGENT_SLOT) != (request.kind in URGENT_KINDS):
            return [self._close(route, f"{request.kind.name} does not go in this slot")]
        slot.sequence = request.sequence
        slot.digest = request.digest
        slot.kind = request.kind
        slot.is_answered = False
        slot.is_repeat = False
        slot.kept = None
        slot.route = route
        execute = Execute(ticket, request.kind, request.body, repeat=False)
        if request.copy == 1:
            return [execute]
        # Its earlier copies were lost. The answer may be long in coming, and who has
        # asked in vain for so long would take the way for broken meanwhile.
        return [self._working(route, request), execute]

    def _on_answer(self, ticket: Ticket, body: bytes, keep: bool) -> list[ResponderCommand]:
        if not self.waits(ticket):
            return []  # the peer has gone on without it
        slot = self._slots[ticket.slot]
        slot.is_answered = True
        slot.kept = body if keep and len(body) <= KEPT_REPLY_BYTES else None
        return [self._reply(ticket.slot, slot, body)]

    def _working(self, route: Route, request: Request) -> SendTo:
        working = Working(
            self._session, self._epoch, request.slot, request.sequence, request.copy
        )
        return SendTo(route, encode(working))

    def _reply(self, number: int, slot: _Slot, body: bytes) -> SendTo:
        assert slot.route is not None
        reply = Reply(self._session, self._epoch, number, slot.sequence, body)
        return SendTo(slot.route, encode(reply), slot.kind)

    def _close(self, route: Route, reason: str) -> CloseSession:
        return CloseSession(route, reason)

    def farewell(self, reason: str) -> bytes:
        """The frame that tells the peer why its session was closed."""
        return encode(Closed(self._session, reason))
