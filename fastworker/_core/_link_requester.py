"""The dialing half of the session link: requests that take effect exactly once.

After NFSv4.1 sessions (RFC 8881 section 2.10.6). A session has SLOT_COUNT slots; a
request carries (epoch, session, slot, sequence), and the slot is not used
again until the answer has come. So the other side needs to remember one
request for each slot to know every repeat for what it is, and a network that
drops, doubles, delays and reorders frames can not make a request take effect
twice, nor lose one.

Two rules look odd until one is broken:

* A caller that is cancelled never frees its slot. The request may be under
  way; using the same sequence for another one would make the control plane
  answer the new request with the old reply. The caller only stops listening.
* A session lost within one epoch is followed by one with a *new* id. Under
  the old id, frames of its former life that are still under way would be
  taken for new requests.

Time is a float in seconds on a clock that never goes back.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from typing import Final

import msgspec

from fastworker._core._codec import digest, encode
from fastworker._core._messages import (
    BEAT_DELAY,
    LONG_KINDS,
    PROTOCOL_VERSION,
    SLOT_COUNT,
    URGENT_SLOT,
    Closed,
    Frame,
    FunctionInfo,
    HeldAttempt,
    Hello,
    Kind,
    Redirect,
    Refused,
    Rehello,
    Reply,
    Request,
    Role,
    Welcome,
    Working,
)
from fastworker._core._pipes import DeadlinePassed, PipeClosed, PipeOpened
from fastworker._errors import LocalProtocolError, RemoteProtocolError

# A healthy pipe loses nothing, so repeats are rare; together with the one
# request that is always parked they are also the heartbeat. It is timed by
# the answer to the last beat, which the control plane may have kept for
# BEAT_DELAY: whoever was answered together beats together.
REPEAT_INTERVAL: Final = 5.0
# HELLO is repeated faster: nothing else can happen before it is answered, and
# one that is lost must not cost the leases (the grace is 0.75 s).
HELLO_INTERVAL: Final = 0.25
# Three beats without an answer: the peer or the way to it is gone although
# TCP has not noticed (H19).
SILENCE_LIMIT: Final = 15.0


# --- events -----------------------------------------------------------------


class FrameReceived(msgspec.Struct, frozen=True, gc=False):
    """The control plane sent this frame."""

    frame: Frame


class CallIssued(msgspec.Struct, frozen=True, gc=False):
    """Send a request. Needs a free slot.

    ``reissue``: when the session is lost, ask again in the next one (the
    request is idempotent by its own key). Otherwise it is dropped then.
    """

    call_id: int
    kind: Kind
    body: bytes
    reissue: bool = True


class CallerLeft(msgspec.Struct, frozen=True, gc=False):
    """Nobody waits for this call any more. It stays in its slot."""

    call_id: int


class SessionAbandoned(msgspec.Struct, frozen=True, gc=False):
    """Have nothing more to do with this session: open one under a new id."""


class LinkEnded(msgspec.Struct, frozen=True, gc=False):
    """Send no more; the shell says BYE and closes."""


LinkEvent = (
    FrameReceived
    | CallIssued
    | CallerLeft
    | PipeOpened
    | PipeClosed
    | DeadlinePassed
    | SessionAbandoned
    | LinkEnded
)

# --- commands ---------------------------------------------------------------


class SendFrame(msgspec.Struct, frozen=True, gc=False):
    """Send these bytes on the current pipe."""

    data: bytes


class CallAnswered(msgspec.Struct, frozen=True, gc=False):
    """The answer to a call whose caller still listens."""

    call_id: int
    kind: Kind
    body: bytes


class CallDropped(msgspec.Struct, frozen=True, gc=False):
    """The session of this call is gone, and the call with it."""

    call_id: int
    kind: Kind


class SessionOpened(msgspec.Struct, frozen=True, gc=False):
    """A session is open; ``resumed`` is False if the other side knew nothing of us.

    ``kept`` are attempts whose leases hold all the same, ``durable`` says that the
    other side keeps what it acknowledges, ``operator`` that it lets us see and change
    what is not our own.
    """

    epoch: int
    resumed: bool
    lease: float
    worker_id: str
    kept: list[HeldAttempt] = []
    durable: bool = False
    operator: bool = True


class Redirected(msgspec.Struct, frozen=True, gc=False):
    """The control plane wants this peer on another port of the same host."""

    port: int


class SessionRefused(msgspec.Struct, frozen=True, gc=False):
    """The control plane will not open a session."""

    reason: str


class DropPipe(msgspec.Struct, frozen=True, gc=False):
    """The pipe is up but silent: close it, so that it is dialed anew."""


LinkCommand = (
    SendFrame
    | CallAnswered
    | CallDropped
    | SessionOpened
    | Redirected
    | SessionRefused
    | DropPipe
)


class LinkState(enum.Enum):
    """How far the link has got."""

    DOWN = "down"  # no pipe
    GREETING = "greeting"  # HELLO is under way
    OPEN = "open"
    ENDED = "ended"


class _Outstanding:
    """A request whose answer has not come."""

    __slots__ = ("call", "copy", "digest", "is_heard", "repeat_at", "sent_at")

    def __init__(self, call: CallIssued) -> None:
        self.call = call
        self.digest = digest(call.kind, call.body)
        self.copy = 0
        self.sent_at = -math.inf
        self.repeat_at = -math.inf
        self.is_heard = True  # somebody waits for the answer


class LinkStatistics(msgspec.Struct, frozen=True):
    """A snapshot of a link."""

    state: LinkState
    epoch: int
    outstanding: int
    kept_bytes: int
    sessions_opened: int


class RequesterLink:
    """The machine: slots, repeats, and the life of the session.

    Args:
      role: what this peer says it is.
      worker_id: a label, shown to people; never trusted.
      new_session_id: draws 16 random bytes; the id is the session's secret.
      functions: what a subworker can run.
      address: a label for the status.
      held: what a subworker holds and may keep, should the control plane be
        another one when the session is continued.
    """

    def __init__(
        self,
        *,
        role: Role,
        worker_id: str,
        new_session_id: Callable[[], bytes],
        functions: list[FunctionInfo] | None = None,
        address: str = "",
        held: Callable[[], list[HeldAttempt]] | None = None,
    ) -> None:
        self._held = held
        self._role = role
        self._worker_id = worker_id
        self._address = address
        self._functions = functions or []
        self._new_session_id = new_session_id
        self._session = new_session_id()
        self._epoch = 0  # the epoch this session was opened in; 0 if it never was
        self._nonce = 0
        self._state = LinkState.DOWN
        self._pipe: int | None = None
        self._sequences = [0] * SLOT_COUNT
        self._slots: list[_Outstanding | None] = [None] * SLOT_COUNT
        self._hello_at = math.inf
        self._is_dropping = False  # DropPipe was said, PipeClosed has not come
        self._heard_at = -math.inf
        self._confirmed_at = -math.inf
        self._sessions_opened = 0

    # --- reading ---

    @property
    def state(self) -> LinkState:
        """How far the link has got."""
        return self._state

    @property
    def session(self) -> bytes:
        """The current session's id: a secret."""
        return self._session

    @property
    def epoch(self) -> int:
        """The epoch of the session, 0 while there is none."""
        return self._epoch

    @property
    def confirmed_at(self) -> float:
        """When the latest frame was sent that the other side is known to have got.

        A lease that frames renew is valid for at least its length after this.
        """
        return self._confirmed_at

    @property
    def free_slots(self) -> int:
        """How many ordinary requests may be issued now."""
        return self._slots[:URGENT_SLOT].count(None)

    @property
    def can_issue_urgent(self) -> bool:
        """Whether the slot for CANCEL and BYE is free."""
        return self._slots[URGENT_SLOT] is None

    # --- the one mutator ---

    def handle(self, event: LinkEvent, *, now: float) -> list[LinkCommand]:
        """Apply an event and return what has to be done."""
        if self._state is LinkState.ENDED:
            return []
        match event:
            case FrameReceived(frame=frame):
                return self._on_frame(frame, now)
            case CallIssued():
                return self._on_call(event, now)
            case CallerLeft(call_id=call_id):
                for outstanding in self._slots:
                    if outstanding is not None and outstanding.call.call_id == call_id:
                        outstanding.is_heard = False
                return []
            case PipeOpened(pipe=pipe):
                self._pipe = pipe
                self._is_dropping = False
                self._heard_at = now
                return [self._greet(now)]
            case PipeClosed(pipe=pipe):
                if pipe == self._pipe:
                    self._pipe = None
                    self._state = LinkState.DOWN
                    self._hello_at = math.inf
                return []
            case DeadlinePassed():
                return self._on_deadline(now)
            case SessionAbandoned():
                return self._lose_session(now)
            case LinkEnded():
                self._state = LinkState.ENDED
                return []

    def next_deadline(self) -> float:
        """When DeadlinePassed is wanted, ``inf`` for never."""
        if self._is_dropping and self._pipe is not None:
            return self._heard_at + SILENCE_LIMIT
        if self._state is LinkState.GREETING:
            return min(self._hello_at, self._heard_at + SILENCE_LIMIT)
        if self._state is not LinkState.OPEN:
            return math.inf
        deadline = math.inf
        for outstanding in self._slots:
            if outstanding is not None:
                deadline = min(deadline, outstanding.repeat_at)
        if deadline < math.inf:
            deadline = min(deadline, self._heard_at + SILENCE_LIMIT)
        return deadline

    def statistics(self) -> LinkStatistics:
        """Return a snapshot."""
        held = [slot for slot in self._slots if slot is not None]
        return LinkStatistics(
            state=self._state,
            epoch=self._epoch,
            outstanding=len(held),
            kept_bytes=sum(len(outstanding.call.body) for outstanding in held),
            sessions_opened=self._sessions_opened,
        )

    def check(self) -> None:
        """Assert every invariant."""
        for number, outstanding in enumerate(self._slots):
            assert outstanding is None or self._sequences[number] >= 1
        long_calls = [s.call.kind for s in self._slots if s and s.call.kind in LONG_KINDS]
        assert len(long_calls) <= SLOT_COUNT - 4, "long requests crowd out short ones"
        if self._state is not LinkState.ENDED:
            assert (self._pipe is None) == (self._state is LinkState.DOWN)
        if self._state is LinkState.OPEN:
            assert self._epoch > 0

    # --- events ---

    def _on_call(self, call: CallIssued, now: float) -> list[LinkCommand]:
        if call.kind in (Kind.CANCEL, Kind.BYE):
            slot = URGENT_SLOT if self._slots[URGENT_SLOT] is None else -1
        else:
            slot = next((n for n in range(URGENT_SLOT) if self._slots[n] is None), -1)
        if slot < 0:
            raise LocalProtocolError(f"no free slot for {call.kind.name}; look at free_slots")
        self._sequences[slot] += 1
        self._slots[slot] = _Outstanding(call)
        if self._state is LinkState.OPEN:
            return [self._send(slot, now)]
        return []

    def _on_frame(self, frame: Frame, now: float) -> list[LinkCommand]:
        if self._pipe is None:
            return []  # a frame of a pipe that we know is gone; nothing hangs on it
        self._heard_at = now
        match frame:
            case Reply():
                return self._on_reply(frame)
            case Working():
                self._on_working(frame, now)
                return []
            case Welcome():
                return self._on_welcome(frame, now)
            case Rehello():
                return self._on_rehello(frame, now)
            case Redirect(nonce=nonce, port=port):
                return [Redirected(port)] if nonce == self._nonce else []
            case Refused(nonce=nonce, reason=reason):
                return [SessionRefused(reason)] if nonce == self._nonce else []
            case Closed(session=session):
                if session == self._session:
                    self._pause_after_closing(now)
                return []
            case _:
                raise RemoteProtocolError(f"a control plane never sends {type(frame).__name__}")

    def _on_reply(self, reply: Reply) -> list[LinkCommand]:
        if reply.session != self._session or reply.epoch != self._epoch:
            return []
        outstanding = self._slots[reply.slot]
        if outstanding is None or reply.sequence != self._sequences[reply.slot]:
            return []  # the answer came twice
        self._slots[reply.slot] = None
        if outstanding.copy == 1:
            self._confirmed_at = max(self._confirmed_at, outstanding.sent_at)
        if not outstanding.is_heard:
            return []
        return [CallAnswered(outstanding.call.call_id, outstanding.call.kind, reply.body)]

    def _on_working(self, working: Working, now: float) -> None:
        if working.session != self._session or working.epoch != self._epoch:
            return
        outstanding = self._slots[working.slot]
        if (
            outstanding is not None
            and working.sequence == self._sequences[working.slot]
            and working.copy == outstanding.copy
        ):
            self._confirmed_at = max(self._confirmed_at, outstanding.sent_at)
            outstanding.repeat_at = now + REPEAT_INTERVAL - BEAT_DELAY

    def _on_welcome(self, welcome: Welcome, now: float) -> list[LinkCommand]:
        if (
            self._state is not LinkState.GREETING
            or welcome.session != self._session
            or welcome.nonce != self._nonce
        ):
            return []
        self._state = LinkState.OPEN
        self._confirmed_at = max(self._confirmed_at, self._hello_at - HELLO_INTERVAL)
        self._hello_at = math.inf
        # The other side may know this session from a HELLO whose answer was
        # lost; for this side it is new all the same, and nothing was asked in it.
        is_resumed = welcome.resumed and welcome.epoch == self._epoch
        commands: list[LinkCommand] = []
        if not is_resumed:
            self._sessions_opened += 1
            for slot, outstanding in enumerate(self._slots):
                self._sequences[slot] = 0
                if outstanding is None:
                    continue
                if outstanding.call.reissue and outstanding.is_heard:
                    self._sequences[slot] = 1
                    outstanding.copy = 0
                else:
                    self._slots[slot] = None
                    commands.append(
                        CallDropped(outstanding.call.call_id, outstanding.call.kind)
                    )
        self._epoch = welcome.epoch
        commands.append(
            SessionOpened(
                welcome.epoch,
                is_resumed,
                welcome.lease,
                welcome.worker_id,
                welcome.kept,
                welcome.durable,
                welcome.operator,
            )
        )
        commands += [
            self._send(n, now) for n, slot in enumerate(self._slots) if slot is not None
        ]
        return commands

    def _on_rehello(self, rehello: Rehello, now: float) -> list[LinkCommand]:
        if rehello.session != self._session or self._epoch == 0:
            return []
        if rehello.epoch == self._epoch:
            return self._lose_session(now)
        if self._state is LinkState.GREETING:
            return []  # an answer to a request of before; our HELLO is on its way
        return [self._greet(now)]

    def _lose_session(self, now: float) -> list[LinkCommand]:
        """This session is over within its epoch: open one under a new id."""
        self._session = self._new_session_id()
        self._epoch = 0
        return [self._greet(now)] if self._pipe is not None else []

    def _pause_after_closing(self, now: float) -> None:
        """Open a session under a new id, but not at once.

        We broke a rule of the other side's, and most likely will again: two
        ends that do not understand each other must not keep both busy.
        """
        self._session = self._new_session_id()
        self._epoch = 0
        self._nonce += 1  # nothing that still comes is an answer to the next HELLO
        self._state = LinkState.GREETING
        self._hello_at = now + HELLO_INTERVAL

    def _on_deadline(self, now: float) -> list[LinkCommand]:
        if self._pipe is None or self.next_deadline() > now:
            return []
        if now >= self._heard_at + SILENCE_LIMIT:
            # The shell's PipeClosed follows; until then nothing is due.
            self._heard_at = now
            self._is_dropping = True
            return [DropPipe()]
        if self._state is LinkState.GREETING:
            return [self._greet(now)]
        return [
            self._send(n, now)
            for n, outstanding in enumerate(self._slots)
            if outstanding is not None and outstanding.repeat_at <= now
        ]

    # --- frames ---

    def _greet(self, now: float) -> SendFrame:
        self._state = LinkState.GREETING
        self._hello_at = now + HELLO_INTERVAL
        self._nonce += 1
        hello = Hello(
            protocol=PROTOCOL_VERSION,
            nonce=self._nonce,
            session=self._session,
            role=self._role,
            epoch=self._epoch,
            worker_id=self._worker_id,
            address=self._address,
            functions=self._functions,
            held=self._held() if self._held is not None and self._epoch else [],
        )
        return SendFrame(encode(hello))

    def _send(self, slot: int, now: float) -> SendFrame:
        outstanding = self._slots[slot]
        assert outstanding is not None
        outstanding.copy += 1
        outstanding.sent_at = now
        outstanding.repeat_at = now + REPEAT_INTERVAL
        request = Request(
            session=self._session,
            epoch=self._epoch,
            slot=slot,
            sequence=self._sequences[slot],
            copy=outstanding.copy,
            digest=outstanding.digest,
            kind=outstanding.call.kind,
            body=outstanding.call.body,
        )
        return SendFrame(encode(request))
