"""How two ends of a pipe prove to each other that they know a role's token.

Four messages, none of which shows the token::

    dialer                              listener
    OFFER     protocol, role, connection id, nonce   ->
                                      <-  CHALLENGE  epoch, nonce
    PROOF     mac("dialer", offer, challenge)        ->
                                      <-  ACCEPTED   mac("listener", offer, challenge, proof)

This is mutual authentication in three passes by a keyed check function, as in
ISO/IEC 9798-4, behind an offer; as in SIGMA, both MACs cover all that was said.
Both nonces are in both, so none of it can be said again on another pipe, and
none of it can be sent back: each side's MAC has a label of its own. From the
same transcript come the keys that seal what follows (``_seal.py``), by HKDF.

The dialer proves itself first. A listener that did so would give anybody who
can connect something to try tokens on; so only whom one dials gets that.

A pipe of a lossy network may drop and repeat messages: the dialer repeats its
last one until it has an answer, and the listener answers the same to the same.
"""

from __future__ import annotations

import enum
import hmac
from collections.abc import Mapping
from typing import Final, NamedTuple

from fastworker._core._keys import KEY_BYTES, RoleKeys, hkdf_expand, mac
from fastworker._core._roles import PeerRole
from fastworker._core._seal import Opener, Sealer

# No sealed message and no bundle of frames begins like this. The last byte is
# this handshake's version.
MAGIC: Final = b"FWA\x01"
NONCE_BYTES: Final = 32
CONNECTION_BYTES: Final = 16

_ROLES: Final = (PeerRole.CLIENT, PeerRole.WORKER, PeerRole.OPERATOR)


class Step(enum.IntEnum):
    """The messages, by the byte behind the magic."""

    OFFER = 1
    CHALLENGE = 2
    PROOF = 3
    ACCEPTED = 4
    REJECTED = 5


class Rejection(enum.IntEnum):
    """Why a listener does not go on. It may be a lie, so it only explains."""

    ROLE = 1
    TOKEN = 2


_SIZES: Final = {
    Step.OFFER: 2 + 1 + CONNECTION_BYTES + NONCE_BYTES,
    Step.CHALLENGE: 8 + NONCE_BYTES,
    Step.PROOF: KEY_BYTES,
    Step.ACCEPTED: KEY_BYTES,
    Step.REJECTED: 1,
}


class Seals(NamedTuple):
    """What one end of an authenticated pipe seals and opens with."""

    sealer: Sealer
    opener: Opener


class Answer(NamedTuple):
    """What came of a message: something to send, and how far it has got.

    ``seals`` once both sides are proved, ``problem`` if they never will be.
    """

    reply: bytes | None = None
    seals: Seals | None = None
    problem: str = ""


_NOTHING: Final = Answer()


def is_handshake(message: bytes) -> bool:
    """Whether this claims to be a message of a handshake."""
    return message.startswith(MAGIC)


def step_of(message: bytes) -> Step | None:
    """Which message this is, by its first bytes and its size; None if it is none."""
    try:
        step = Step(message[len(MAGIC)])
    except (IndexError, ValueError):
        return None
    sound = is_handshake(message) and len(message) == len(MAGIC) + 1 + _SIZES[step]
    return step if sound else None


class DialerHandshake:
    """The dialing end of one pipe.

    Args:
      keys: of the token for this role.
      role: what this end proves to be.
      protocol: the version of what will be spoken afterwards.
      connection: random bytes that name this connection.
      nonce: random bytes.
    """

    def __init__(
        self, keys: RoleKeys, role: PeerRole, *, protocol: int, connection: bytes, nonce: bytes
    ) -> None:
        assert len(connection) == CONNECTION_BYTES
        assert len(nonce) == NONCE_BYTES
        self._keys = keys
        self._role = role
        number = bytes([_ROLES.index(role) + 1])
        body = protocol.to_bytes(2, "big") + number + connection + nonce
        self._offer = _message(Step.OFFER, body)
        self._challenge = b""
        self._proof = b""
        self._is_over = False

    @property
    def last_sent(self) -> bytes:
        """What to send, and to send again while there is no answer."""
        return self._proof or self._offer

    @property
    def was_answered(self) -> bool:
        """Whether the other side speaks this handshake at all."""
        return bool(self._challenge)

    def receive(self, message: bytes) -> Answer:
        """Take a message of the other side; what is none changes nothing."""
        step = step_of(message)
        if self._is_over:
            return _NOTHING
        if step is Step.CHALLENGE and not self._challenge:
            self._challenge = message
            self._proof = _message(Step.PROOF, self._mac(_DIALER, self._transcript))
            return Answer(reply=self._proof)
        if step is Step.ACCEPTED and self._proof:
            self._is_over = True
            wanted = self._mac(_LISTENER, self._transcript + self._proof)
            if not hmac.compare_digest(wanted, _body(message)):
                return Answer(problem=_NOT_PROVED)
            to_listener, to_dialer = _session_keys(self._keys, self._transcript + self._proof)
            return Answer(seals=Seals(Sealer(to_listener), Opener(to_dialer)))
        if step is Step.REJECTED:
            self._is_over = True
            return Answer(problem=_explain(message, self._role))
        return _NOTHING

    @property
    def _transcript(self) -> bytes:
        return self._offer + self._challenge

    def _mac(self, label: bytes, text: bytes) -> bytes:
        return mac(self._keys.proof, label, text)


class ListenerHandshake:
    """The listening end of one pipe.

    Args:
      keys: of each role that has a token.
      epoch: the control plane's start counter.
      nonce: random bytes.
    """

    def __init__(self, keys: Mapping[PeerRole, RoleKeys], *, epoch: int, nonce: bytes) -> None:
        assert len(nonce) == NONCE_BYTES
        self._keys = keys
        self._challenge = _message(Step.CHALLENGE, epoch.to_bytes(8, "big") + nonce)
        self._offer = b""
        self._proof = b""  # the one that was right
        self._accepted = b""
        self.role: PeerRole | None = None  # what the other side says it is

    @property
    def is_over(self) -> bool:
        """Whether the other side has proved itself."""
        return bool(self._accepted)

    def receive(self, message: bytes) -> Answer:
        """Take a message of the other side."""
        step = step_of(message)
        if self.is_over:
            # A repeat, because the answer was lost.
            return Answer(reply=self._accepted) if message == self._proof else _NOTHING
        if step is Step.OFFER:
            return self._on_offer(message)
        if step is Step.PROOF:
            # Without an offer it was meant for an earlier pipe.
            return self._on_proof(message) if self._offer else _NOTHING
        return Answer(problem="what it sends is no handshake")

    def _on_offer(self, offer: bytes) -> Answer:
        # One that was meant for an earlier pipe may have come by this one; the latest
        # counts. What is proved is about one offer and this challenge, whose nonce is
        # this pipe's alone.
        number = _body(offer)[2]
        role = _ROLES[number - 1] if 1 <= number <= len(_ROLES) else None
        if role is None or role not in self._keys:
            said = "an unknown role" if role is None else role.value
            reply = _message(Step.REJECTED, bytes([Rejection.ROLE]))
            return Answer(reply, problem=f"it wants to be {said}, for which there is no token")
        self._offer, self.role = offer, role
        return Answer(reply=self._challenge)

    def _on_proof(self, proof: bytes) -> Answer:
        assert self.role is not None
        keys = self._keys[self.role]
        transcript = self._offer + self._challenge
        if not hmac.compare_digest(mac(keys.proof, _DIALER, transcript), _body(proof)):
            reply = _message(Step.REJECTED, bytes([Rejection.TOKEN]))
            return Answer(reply, problem=f"its token for {self.role.value} is wrong")
        self._proof = proof
        transcript += proof
        self._accepted = _message(Step.ACCEPTED, mac(keys.proof, _LISTENER, transcript))
        to_listener, to_dialer = _session_keys(keys, transcript)
        return Answer(self._accepted, Seals(Sealer(to_dialer), Opener(to_listener)))


_DIALER: Final = b"fastworker v1 dialer\0"
_LISTENER: Final = b"fastworker v1 listener\0"
_KEYS: Final = b"fastworker v1 keys\0"
_TO_LISTENER: Final = b"fastworker v1 to listener"
_TO_DIALER: Final = b"fastworker v1 to dialer"

_NOT_PROVED: Final = "it did not prove that it knows the token, and may be somebody else"


def _session_keys(keys: RoleKeys, transcript: bytes) -> tuple[bytes, bytes]:
    """One key for each direction, of this pipe only."""
    even = mac(keys.session, _KEYS, transcript)
    return hkdf_expand(even, _TO_LISTENER), hkdf_expand(even, _TO_DIALER)


def _message(step: Step, body: bytes) -> bytes:
    return MAGIC + bytes([step]) + body


def _body(message: bytes) -> bytes:
    return message[len(MAGIC) + 1 :]


def _explain(message: bytes, role: PeerRole) -> str:
    if _body(message)[0] == Rejection.ROLE:
        return f"it has no token for the role {role.value}"
    return f"it does not accept this token for the role {role.value}"
