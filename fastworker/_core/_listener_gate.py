"""Lets pipes in at a listening end, once whoever is behind them has proved a role.

Strangers are kept few, small and short: so many at once, no frame above 64 KiB,
five seconds each. Wrong tokens are slowed down by where they come from: after
one, proofs from there are looked at only a while later. So a guess costs time,
and nobody who has the right token is ever locked out.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from fastworker._core._deadlines import Deadlines
from fastworker._core._handshake import (
    NONCE_BYTES,
    ListenerHandshake,
    Seals,
    Step,
    is_handshake,
    step_of,
)
from fastworker._core._keys import RoleKeys
from fastworker._core._open_peers import refusal_for
from fastworker._core._pipes import DeadlinePassed, PipeClosed, PipeOpened, Route
from fastworker._core._roles import Authority, PeerRole

HANDSHAKE_SECONDS: Final = 5.0
MAX_STRANGER_BYTES: Final = 64 * 1024
MAX_STRANGERS: Final = 256
# When there are too many: one that has been here for so long makes way. A proof
# takes milliseconds, so who is new may be about to give one.
YOUNG_SECONDS: Final = 1.0
# What a stranger may say beside its handshake, before its pipe is closed.
MAX_OTHER_MESSAGES: Final = 16

FIRST_PENALTY: Final = 0.125
LONGEST_PENALTY: Final = 1.0
# A place from which no wrong token has come for so long is as any other.
PENALTY_MEMORY: Final = 60.0
MAX_PLACES: Final = 1024


class MessageArrived(msgspec.Struct, frozen=True, gc=False):
    """A stranger has said this, or somebody known a message of a handshake."""

    route: Route
    message: bytes


GateEvent = PipeOpened | PipeClosed | MessageArrived | DeadlinePassed


class SendMessage(msgspec.Struct, frozen=True, gc=False):
    """Send this as it is."""

    route: Route
    message: bytes


class Expel(msgspec.Struct, frozen=True, gc=False):
    """Close this pipe."""

    pipe: int


class Admit(msgspec.Struct, frozen=True):
    """Whoever is behind this pipe has proved itself; what follows is sealed."""

    pipe: int
    authority: Authority
    remote: str
    seals: Seals


class Warn(msgspec.Struct, frozen=True, gc=False):
    """Somebody ought to know this."""

    text: str


GateCommand = SendMessage | Expel | Admit | Warn


class GateStatistics(msgspec.Struct, frozen=True):
    """A snapshot, of one listener or several.

    ``strangers`` are pipes whose peers have not proved themselves yet, ``refused``
    those that were closed because of that. ``refused_messages`` came from peers
    that had, and were not theirs: changed, repeated, late or sent back.
    """

    strangers: int = 0
    admitted: int = 0
    refused: int = 0
    wrong_tokens: int = 0
    refused_messages: int = 0


def added_up(parts: Sequence[GateStatistics]) -> GateStatistics:
    """One snapshot of several."""
    names = GateStatistics.__struct_fields__
    return GateStatistics(*(sum(getattr(part, name) for part in parts) for name in names))


class _Stranger:
    __slots__ = ("authority", "handshake", "is_over", "others", "proof", "remote", "since")

    def __init__(self, handshake: ListenerHandshake, since: float) -> None:
        self.handshake = handshake
        self.since = since
        self.remote = ""
        self.authority: Authority = frozenset(PeerRole)
        self.proof: MessageArrived | None = None  # not looked at yet
        self.others = 0
        self.is_over = False  # it was told no; only to be closed


class _Place:
    __slots__ = ("at", "failures", "until")

    def __init__(self) -> None:
        self.failures = 0
        self.until = -math.inf
        self.at = -math.inf


class ListenerGate:
    """The machine.

    Args:
      keys: of each role that has a token.
      epoch: asked for the control plane's start counter.
      random_bytes: as ``os.urandom``.
    """

    def __init__(
        self,
        keys: Mapping[PeerRole, RoleKeys],
        *,
        epoch: Callable[[], int],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._keys = keys
        self._epoch = epoch
        self._random_bytes = random_bytes
        self._strangers: OrderedDict[int, _Stranger] = OrderedDict()  # the oldest first
        # Those who may have missed that they were let in.
        self._known: dict[int, ListenerHandshake] = {}
        self._places: OrderedDict[str, _Place] = OrderedDict()
        self._deadlines: Deadlines[int] = Deadlines()  # when a stranger has to be gone
        self._proofs: Deadlines[int] = Deadlines()  # when its proof is looked at
        self._counts: Counter[str] = Counter()
        self._out: list[GateCommand] = []

    @property
    def has_strangers(self) -> bool:
        """Whether anybody is proving itself."""
        return bool(self._strangers)

    def handle(self, event: GateEvent, *, now: float) -> list[GateCommand]:
        """Apply an event and return what has to be done."""
        match event:
            case MessageArrived(route=route):
                handshake = self._known.get(route.pipe)
                if handshake is None:
                    self._on_message(event, now)
                else:
                    self._send(route, handshake.receive(event.message).reply)
            case PipeOpened(pipe=pipe):
                stranger = self._stranger(pipe, now)
                if stranger is not None:
                    stranger.remote, stranger.authority = event.remote, event.authority
            case PipeClosed(pipe=pipe):
                self._forget(pipe)
                self._known.pop(pipe, None)
            case DeadlinePassed():
                # All that have waited, whatever becomes of the first of them: else
                # who guesses all the time would keep everybody else waiting.
                for pipe in self._proofs.pop_due(now):
                    self._look_at_proof(self._strangers[pipe], now)
                for pipe in self._deadlines.pop_due(now):
                    self._expel(pipe)
        out, self._out = self._out, []
        return out

    def next_deadline(self) -> float:
        """When DeadlinePassed is wanted, ``inf`` for never."""
        return min(self._deadlines.next(), self._proofs.next())

    def statistics(self) -> GateStatistics:
        """Return a snapshot."""
        return GateStatistics(
            strangers=len(self._strangers),
            admitted=self._counts["admitted"],
            refused=self._counts["refused"],
            wrong_tokens=self._counts["wrong"],
        )

    def check(self) -> None:
        """Assert every invariant."""
        assert len(self._strangers) <= MAX_STRANGERS
        assert len(self._places) <= MAX_PLACES
        assert len(self._deadlines) == len(self._strangers)
        waiting = [each for each in self._strangers.values() if each.proof is not None]
        assert len(self._proofs) == len(waiting)
        assert not self._strangers.keys() & self._known.keys()
        assert all(handshake.is_over for handshake in self._known.values())

    # --- strangers ---

    def _stranger(self, pipe: int, now: float) -> _Stranger | None:
        """The one behind this pipe, a new one if need be; None if there is no room."""
        stranger = self._strangers.get(pipe)
        if stranger is not None:
            return stranger
        if len(self._strangers) >= MAX_STRANGERS:
            oldest = next(iter(self._strangers))
            if now - self._strangers[oldest].since < YOUNG_SECONDS:
                self._counts["refused"] += 1
                self._out.append(Expel(pipe))
                return None
            self._expel(oldest)
        nonce = self._random_bytes(NONCE_BYTES)
        handshake = ListenerHandshake(self._keys, epoch=self._epoch(), nonce=nonce)
        stranger = self._strangers[pipe] = _Stranger(handshake, now)
        self._deadlines.set(pipe, now + HANDSHAKE_SECONDS)
        return stranger

    def _on_message(self, arrived: MessageArrived, now: float) -> None:
        route, message = arrived.route, arrived.message
        stranger = self._stranger(route.pipe, now)
        if stranger is None:
            return
        if len(message) > MAX_STRANGER_BYTES:
            self._expel(route.pipe)
        elif stranger.is_over or stranger.proof is not None:
            self._count_other(route.pipe, stranger)
        elif not is_handshake(message):
            refusal = refusal_for(message)
            if refusal is None:
                self._expel(route.pipe)
            else:
                # Closed later, so that the answer arrives; it explains what is wrong.
                stranger.is_over = True
                self._out.append(SendMessage(route, refusal))
        elif step_of(message) is Step.PROOF:
            stranger.proof = arrived
            place = self._places.get(stranger.remote)
            if place is not None and now < place.until:
                self._proofs.set(route.pipe, place.until)
            else:
                self._look_at_proof(stranger, now)
        else:
            self._take(route, stranger, message, now)

    def _count_other(self, pipe: int, stranger: _Stranger) -> None:
        stranger.others += 1
        if stranger.others > MAX_OTHER_MESSAGES:
            self._expel(pipe)

    def _look_at_proof(self, stranger: _Stranger, now: float) -> None:
        assert stranger.proof is not None
        arrived, stranger.proof = stranger.proof, None
        self._take(arrived.route, stranger, arrived.message, now)

    def _take(self, route: Route, stranger: _Stranger, message: bytes, now: float) -> None:
        pipe = route.pipe
        answer = stranger.handshake.receive(message)
        self._send(route, answer.reply)
        if answer.problem:
            # It has to hear of it before its pipe is closed.
            stranger.is_over = True
            if step_of(message) in (Step.PROOF, Step.OFFER):
                self._punish(stranger, answer.problem, now)
        elif answer.seals is not None:
            role = stranger.handshake.role
            assert role is not None
            self._counts["admitted"] += 1
            self._known[pipe] = stranger.handshake
            authority = stranger.authority & {role}
            self._forget(pipe)
            self._out.append(Admit(pipe, authority, stranger.remote, answer.seals))

    def _punish(self, stranger: _Stranger, problem: str, now: float) -> None:
        self._counts["wrong"] += 1
        place = self._places.pop(stranger.remote, None) or _Place()
        if now - place.at > PENALTY_MEMORY:
            place.failures = 0
        place.failures += 1
        place.at = now
        penalty = FIRST_PENALTY * 2.0 ** min(place.failures - 1, 10)
        place.until = now + min(penalty, LONGEST_PENALTY)
        self._places[stranger.remote] = place
        if len(self._places) > MAX_PLACES:
            self._places.popitem(last=False)
        if place.failures & (place.failures - 1) == 0:  # 1, 2, 4, 8: a log must not flood
            where = stranger.remote or "an unknown place"
            times = f"; {place.failures} such from there" if place.failures > 1 else ""
            self._out.append(Warn(f"a peer from {where} was refused: {problem}{times}"))

    def _expel(self, pipe: int) -> None:
        self._counts["refused"] += 1
        self._forget(pipe)
        self._out.append(Expel(pipe))

    def _forget(self, pipe: int) -> None:
        if self._strangers.pop(pipe, None) is not None:
            self._deadlines.clear(pipe)
            self._proofs.clear(pipe)

    def _send(self, route: Route, message: bytes | None) -> None:
        if message is not None:
            self._out.append(SendMessage(route, message))
