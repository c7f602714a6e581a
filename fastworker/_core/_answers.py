"""Answers on their way to peers, and which of them wait for company.

A message costs far more than a frame. An answer of which only the fact matters, a
receipt, waits a moment for another frame that goes the same way, and so does the
answer to a beat.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Final

from fastworker._core._codec import AnyBody, encode
from fastworker._core._deadlines import Deadlines
from fastworker._core._link_responder import AnswerBeat, Answered, SendTo, Ticket
from fastworker._core._messages import BEAT_DELAY
from fastworker._core._sessions import Session
from fastworker._core._turn import Turn

# How long a receipt waits for company.
RECEIPT_DELAY: Final = 0.005
# As many peers' beats are answered together at most. They will come together from then on,
# and more would be a stall: to take in as many takes 3 ms. Whoever is left over is
# answered so much later, and comes apart from then on; 10,000 peers have their turn in 3.2 s.
MAX_BEATS: Final = 64
BEATS_APART: Final = 0.02


class Answers:
    """See the module's first lines. A session that has ended is answered nothing.

    Args:
      turn: where frames are put.
      sessions: those that live, by key.
    """

    def __init__(self, turn: Turn, sessions: Mapping[bytes, Session]) -> None:
        self._turn = turn
        self._sessions = sessions
        self._receipts: Deadlines[bytes] = Deadlines()  # of sessions that have some
        self._beating: dict[bytes, Session] = {}  # beats of theirs are not answered yet
        self._beats_at = math.inf  # when they are

    def answer(
        self, session: Session, ticket: Ticket, body: AnyBody, *, keep: bool = True
    ) -> None:
        """Answer a request, if it still waits. ``keep`` as in ``Answered``."""
        if self._sessions.get(session.key) is session and session.link.waits(ticket):
            answered = Answered(ticket, encode(body), keep)
            for command in session.link.handle(answered, now=self._turn.now):
                assert isinstance(command, SendTo)
                self.send(session, command)

    def acknowledge(
        self, session: Session, ticket: Ticket, body: AnyBody, *, hurry: bool = False
    ) -> None:
        """Answer a request of which only the fact of the answer matters.

        A message costs far more than a frame, so a receipt waits a moment for
        another frame that goes the same way; never two of them, or the
        peer's window could fill.
        """
        if self._sessions.get(session.key) is not session or not session.link.waits(ticket):
            return
        answered = Answered(ticket, encode(body))
        for command in session.link.handle(answered, now=self._turn.now):
            assert isinstance(command, SendTo)
            if hurry or session.receipts:
                self.send(session, command)
            else:
                session.receipts.append(command)
                self._receipts.set(session.key, self._turn.now + RECEIPT_DELAY)

    def send(self, session: Session, frame: SendTo) -> None:
        """Send a frame, and with it whatever has waited for company."""
        self._turn.commands.append(frame)
        if session.receipts or session.beats:
            self.send_receipts(session)

    def send_receipts(self, session: Session) -> None:
        """Send what has waited for company."""
        if session.receipts:
            self._turn.commands += session.receipts
            session.receipts.clear()
            self._receipts.clear(session.key)
        if session.beats:
            self._turn.commands += session.beats.values()
            session.beats.clear()
            del self._beating[session.key]

    def gather_beat(self, session: Session, beat: AnswerBeat) -> None:
        """Answer a beat together with those of other peers.

        What a beat costs is to wake up for it and to fall asleep again, here and in the
        network library. A thousand idle peers beat two hundred times a second.
        """
        session.beats[beat.slot] = beat.answer
        self._beating[session.key] = session
        if self._beats_at == math.inf:
            self._beats_at = self._turn.now + BEAT_DELAY

    def next_deadline(self) -> float:
        """When ``pass_deadline`` is wanted, ``inf`` for never."""
        return min(self._receipts.next(), self._beats_at)

    def pass_deadline(self) -> None:
        """Send what has waited for company in vain."""
        for key in self._receipts.pop_due(self._turn.now):
            self.send_receipts(self._sessions[key])
        if self._beats_at <= self._turn.now:
            self._answer_beats()

    def _answer_beats(self) -> None:
        for session in list(itertools.islice(self._beating.values(), MAX_BEATS)):
            self.send_receipts(session)
        self._beats_at = self._turn.now + BEATS_APART if self._beating else math.inf

    def check(self) -> None:
        """Assert every invariant."""
        for key, session in self._sessions.items():
            assert bool(session.beats) == (key in self._beating)
        assert self._beating.keys() <= self._sessions.keys()
        assert bool(self._beating) <= (self._beats_at < math.inf), "unanswered for ever"
