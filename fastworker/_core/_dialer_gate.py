"""Proves a role at a dialing end, again on every pipe, and refuses who does not prove itself.

Until both sides are proved nothing else is said: a control plane that runs
without authentication gets no request of a peer that has a token.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import msgspec

from fastworker._core._handshake import (
    CONNECTION_BYTES,
    NONCE_BYTES,
    DialerHandshake,
    Seals,
)
from fastworker._core._keys import RoleKeys
from fastworker._core._listener_gate import HANDSHAKE_SECONDS
from fastworker._core._pipes import DeadlinePassed, PipeClosed, PipeOpened
from fastworker._core._roles import PeerRole

REPEAT_SECONDS: Final = 1.0
# After a refusal the next offer waits, less than the listener waits for it.
FIRST_PAUSE: Final = 0.25
LONGEST_PAUSE: Final = 2.0
# A control plane that is being restarted may close a pipe without an answer.
MANY_CLOSED: Final = 3

_OPEN: Final = (
    "it closes the connection instead of proving that it knows the token: it runs without "
    "authentication, or is of an older version. Start it with the same token, or use no "
    "token here"
)
_SILENT: Final = f"it does not prove within {HANDSHAKE_SECONDS:g} s that it knows the token"


class AnswerArrived(msgspec.Struct, frozen=True, gc=False):
    """The other side has said this, which is no sealed message."""

    message: bytes


DialerGateEvent = PipeOpened | PipeClosed | AnswerArrived | DeadlinePassed


class Say(msgspec.Struct, frozen=True, gc=False):
    """Send this as it is."""

    message: bytes


class Drop(msgspec.Struct, frozen=True, gc=False):
    """Close the pipe, so that it is dialed anew."""


class Enter(msgspec.Struct, frozen=True):
    """Both sides of this pipe are proved; what follows is sealed."""

    pipe: int
    seals: Seals


class Refuse(msgspec.Struct, frozen=True, gc=False):
    """There was no proof. ``is_final``: it will not be otherwise next time."""

    reason: str
    is_final: bool


DialerGateCommand = Say | Drop | Enter | Refuse


class DialerGate:
    """The machine.

    Args:
      keys: of the token for this role.
      role: what is proved.
      protocol: the version of what is spoken afterwards.
      random_bytes: as ``os.urandom``.
    """

    def __init__(
        self,
        keys: RoleKeys,
        role: PeerRole,
        *,
        protocol: int,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._keys = keys
        self._role = role
        self._protocol = protocol
        self._random_bytes = random_bytes
        self._pipe: int | None = None
        self._handshake: DialerHandshake | None = None
        self._has_entered = False
        self._say_at = math.inf
        self._end_at = math.inf
        self._failures = 0  # since the last success
        self._closed = 0  # pipes in a row, without an answer
        self._out: list[DialerGateCommand] = []

    @property
    def is_waiting(self) -> bool:
        """Whether something of the handshake may arrive."""
        return self._handshake is not None and not self._has_entered

    def handle(self, event: DialerGateEvent, *, now: float) -> list[DialerGateCommand]:
        """Apply an event and return what has to be done."""
        match event:
            case PipeOpened(pipe=pipe):
                self._on_opened(pipe, now)
            case PipeClosed():
                self._on_closed()
            case AnswerArrived(message=message):
                self._on_answer(message, now)
            case DeadlinePassed():
                self._on_deadline(now)
        out, self._out = self._out, []
        return out

    def next_deadline(self) -> float:
        """When DeadlinePassed is wanted, ``inf`` for never."""
        return min(self._say_at, self._end_at)

    def check(self) -> None:
        """Assert every invariant."""
        assert (self._handshake is None) <= (not self._has_entered)
        assert (self._end_at < math.inf) == self.is_waiting
        assert self._say_at == math.inf or self.is_waiting

    def _on_opened(self, pipe: int, now: float) -> None:
        self._pipe = pipe
        self._has_entered = False
        self._handshake = DialerHandshake(
            self._keys,
            self._role,
            protocol=self._protocol,
            connection=self._random_bytes(CONNECTION_BYTES),
            nonce=self._random_bytes(NONCE_BYTES),
        )
        pause = 0.0
        if self._failures:
            pause = min(FIRST_PAUSE * 2.0 ** min(self._failures - 1, 10), LONGEST_PAUSE)
        self._end_at = now + HANDSHAKE_SECONDS
        self._say_at = now + pause
        if not pause:
            self._on_deadline(now)

    def _on_closed(self) -> None:
        handshake, was_waiting = self._handshake, self.is_waiting
        self._pipe = self._handshake = None
        self._has_entered = False
        self._say_at = self._end_at = math.inf
        if was_waiting and handshake is not None and not handshake.was_answered:
            self._closed += 1
            self._out.append(Refuse(_OPEN, self._closed >= MANY_CLOSED))

    def _on_answer(self, message: bytes, now: float) -> None:
        if self._handshake is None or self._has_entered:
            return
        answer = self._handshake.receive(message)
        if answer.reply is not None:
            self._closed = 0
            self._out.append(Say(answer.reply))
            self._say_at = now + REPEAT_SECONDS
        elif answer.seals is not None:
            assert self._pipe is not None
            self._has_entered = True
            self._failures = self._closed = 0
            self._say_at = self._end_at = math.inf
            self._out.append(Enter(self._pipe, answer.seals))
        elif answer.problem:
            self._fail(answer.problem, is_final=True)

    def _on_deadline(self, now: float) -> None:
        if now >= self._end_at:
            self._fail(_SILENT, is_final=False)
        elif now >= self._say_at:
            assert self._handshake is not None
            self._out.append(Say(self._handshake.last_sent))
            self._say_at = now + REPEAT_SECONDS

    def _fail(self, reason: str, *, is_final: bool) -> None:
        self._failures += 1
        # What is still said on this pipe counts no more.
        self._handshake = None
        self._say_at = self._end_at = math.inf
        self._out += [Refuse(reason, is_final), Drop()]
