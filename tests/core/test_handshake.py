"""The handshake: who proves what to whom, and what no change of it achieves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from fastworker._core._handshake import (
    MAGIC,
    Answer,
    DialerHandshake,
    ListenerHandshake,
    Step,
    is_handshake,
    step_of,
)
from fastworker._core._keys import RoleKeys, hkdf_expand, hkdf_extract, keys_of
from fastworker._core._roles import PeerRole
from fastworker._core._seal import OVERHEAD_BYTES, Opener, Sealer

TOKENS = {role: f"the token of {role.value}s".encode() for role in PeerRole}
KEYS = keys_of(TOKENS)
EPOCH = 7


def dialer(
    role: PeerRole = PeerRole.CLIENT, keys: RoleKeys | None = None, *, seed: int = 1
) -> DialerHandshake:
    return DialerHandshake(
        keys or KEYS[role],
        role,
        protocol=4,
        connection=bytes([seed]) * 16,
        nonce=bytes([seed + 1]) * 32,
    )


def listener(
    keys: dict[PeerRole, RoleKeys] = KEYS, *, epoch: int = EPOCH, seed: int = 100
) -> ListenerHandshake:
    return ListenerHandshake(keys, epoch=epoch, nonce=bytes([seed]) * 32)


class Said(NamedTuple):
    """All four messages of a handshake that went well."""

    offer: bytes
    challenge: bytes
    proof: bytes
    accepted: bytes


def reply(answer: Answer) -> bytes:
    assert answer.reply is not None, answer
    return answer.reply


def talk(one: DialerHandshake, other: ListenerHandshake) -> tuple[Said, Answer, Answer]:
    """Let them speak; the messages, and what came of it at each end."""
    offer = one.last_sent
    challenge = reply(other.receive(offer))
    proof = reply(one.receive(challenge))
    at_listener = other.receive(proof)
    accepted = reply(at_listener)
    return Said(offer, challenge, proof, accepted), one.receive(accepted), at_listener


def said(**changes: int) -> Said:
    return talk(dialer(seed=changes.get("dialer", 1)), listener())[0]


def flipped(message: bytes) -> Iterator[bytes]:
    """The message with each of its bits changed, one at a time."""
    for position in range(len(message)):
        for bit in range(8):
            changed = bytearray(message)
            changed[position] ^= 1 << bit
            yield bytes(changed)


@pytest.mark.parametrize("role", list(PeerRole))
def test_who_knows_the_token_of_a_role_is_let_in_as_that(role: PeerRole) -> None:
    other = listener()
    _, at_dialer, at_listener = talk(dialer(role), other)
    assert other.role is role
    assert other.is_over
    assert at_dialer.seals is not None
    assert at_listener.seals is not None
    here, there = at_dialer.seals, at_listener.seals
    assert there.opener.open(here.sealer.seal(b"there")) == b"there"
    assert here.opener.open(there.sealer.seal(b"back")) == b"back"


@pytest.mark.parametrize("role", list(PeerRole))
@pytest.mark.parametrize("token_of", [*PeerRole, None])
def test_no_token_is_good_for_another_role(role: PeerRole, token_of: PeerRole | None) -> None:
    token = b"some other token" if token_of is None else TOKENS[token_of]
    one, other = dialer(role, RoleKeys(token, role)), listener()
    challenge = reply(other.receive(one.last_sent))
    answer = other.receive(reply(one.receive(challenge)))
    assert (answer.seals is not None) == (token_of is role)
    if token_of is not role:
        assert answer.problem == f"its token for {role.value} is wrong"
        heard = one.receive(reply(answer))
        assert heard.seals is None
        assert heard.problem == f"it does not accept this token for the role {role.value}"


def test_a_role_without_a_token_is_refused() -> None:
    other = listener({PeerRole.WORKER: KEYS[PeerRole.WORKER]})
    one = dialer(PeerRole.OPERATOR)
    answer = other.receive(one.last_sent)
    assert answer.problem == "it wants to be operator, for which there is no token"
    assert one.receive(reply(answer)).problem == "it has no token for the role operator"


def test_a_listener_that_does_not_know_the_token_is_refused() -> None:
    """It may accept everybody: whoever dials it wants a proof."""
    one = dialer()
    forger = listener({PeerRole.CLIENT: RoleKeys(b"not the same token", PeerRole.CLIENT)})
    proof = reply(one.receive(reply(forger.receive(one.last_sent))))
    for accepted in (said().accepted, proof[: len(MAGIC)] + bytes([Step.ACCEPTED]) + proof[5:]):
        again = dialer()
        again.receive(listener(seed=9)._challenge)
        answer = again.receive(accepted)
        assert answer.seals is None
        assert "did not prove" in answer.problem


@pytest.mark.parametrize("which", list(Said._fields))
def test_no_bit_of_a_handshake_can_be_changed(which: str) -> None:
    # X8 in docs/faults.md.
    original = getattr(said(), which)
    for changed in flipped(original):
        one, other = dialer(), listener()

        def pass_on(message: bytes | None, name: str, changed: bytes = changed) -> bytes:
            return changed if name == which else message or b""

        challenge = other.receive(pass_on(one.last_sent, "offer")).reply
        proof = one.receive(pass_on(challenge, "challenge")).reply
        accepted = other.receive(pass_on(proof, "proof"))
        assert (accepted.seals is not None) == (which == "accepted")
        assert one.receive(pass_on(accepted.reply, "accepted")).seals is None


def test_what_was_said_on_one_pipe_is_worth_nothing_on_another() -> None:
    """Replay, at once or after a restart: other nonces, and another epoch."""
    old = said()
    for epoch, seed in ((EPOCH, 101), (EPOCH + 1, 101), (EPOCH + 1, 100)):
        other = listener(epoch=epoch, seed=seed)
        other.receive(old.offer)
        assert other.receive(old.proof).problem == "its token for client is wrong"
    one = dialer(seed=50)
    one.receive(old.challenge)
    assert "did not prove" in one.receive(old.accepted).problem


def test_nothing_can_be_sent_back_to_where_it_came_from() -> None:
    one, other = dialer(), listener()
    assert one.receive(one.last_sent) == Answer()
    challenge = reply(other.receive(one.last_sent))
    assert "no handshake" in other.receive(challenge).problem
    other = listener()
    challenge = reply(other.receive(one.last_sent))
    proof = reply(one.receive(challenge))
    assert one.receive(proof) == Answer()
    as_accepted = MAGIC + bytes([Step.ACCEPTED]) + proof[len(MAGIC) + 1 :]
    assert one.receive(as_accepted).seals is None


def test_repeats_are_answered_as_before_and_change_nothing() -> None:
    one, other = dialer(), listener()
    offer = one.last_sent
    challenge = reply(other.receive(offer))
    assert reply(other.receive(offer)) == challenge
    proof = reply(one.receive(challenge))
    assert one.receive(challenge) == Answer()
    assert one.last_sent == proof
    first = other.receive(proof)
    again = other.receive(proof)
    assert again.reply == first.reply
    assert again.seals is None
    assert one.receive(reply(first)).seals is not None
    assert one.receive(reply(first)) == Answer()


def test_of_two_offers_on_one_pipe_the_latest_counts() -> None:
    """One that was meant for an earlier pipe may come by the next one."""
    other, earlier, one = listener(), dialer(PeerRole.OPERATOR), dialer(seed=4)
    challenge = reply(other.receive(earlier.last_sent))
    assert reply(other.receive(one.last_sent)) == challenge
    accepted = other.receive(reply(one.receive(challenge)))
    assert accepted.seals is not None
    assert other.role is PeerRole.CLIENT
    assert one.receive(reply(accepted)).seals is not None
    # And what the other one proves, it proves too late, or of another offer.
    assert other.receive(reply(earlier.receive(challenge))) == Answer()
    other = listener()
    other.receive(earlier.last_sent)
    other.receive(dialer(seed=4).last_sent)
    assert other.receive(earlier.last_sent[:5] + bytes(32)).seals is None


@pytest.mark.parametrize("size", range(60))
def test_messages_of_another_size_are_none(size: int) -> None:
    sizes = {1: 56, 2: 45, 3: 37, 4: 37, 5: 6}
    for step in range(8):
        message = (MAGIC + bytes([step]) + bytes(60))[:size]
        assert (step_of(message) is not None) == (sizes.get(step) == size)
        assert listener().receive(message).seals is None
        assert dialer().receive(message).seals is None


def test_a_sealed_message_is_never_taken_for_a_handshake() -> None:
    sealer = Sealer(bytes(32))
    assert not is_handshake(sealer.seal(MAGIC))
    sealer._counter = 2**62
    assert not is_handshake(sealer.seal(MAGIC))


def test_keys_are_not_shown() -> None:
    assert repr(KEYS[PeerRole.CLIENT]) == "<RoleKeys>"


def test_keys_are_derived_as_rfc_5869_says() -> None:
    # Its test case 1; the first of its blocks.
    even = hkdf_extract(bytes(range(13)), bytes([0x0B]) * 22)
    assert even.hex() == "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5"
    block = hkdf_expand(even, bytes(range(0xF0, 0xFA)))
    assert block.hex() == "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"


# --- what comes after it ---


def test_no_bit_of_a_sealed_message_can_be_changed() -> None:
    # X8 in docs/faults.md.
    sealed = Sealer(b"k" * 32).seal(b"a message, with slot and sequence")
    opener = Opener(b"k" * 32)
    for changed in flipped(sealed):
        assert opener.open(changed) is None
    assert opener.refused == 8 * len(sealed)
    assert opener.open(sealed) == b"a message, with slot and sequence"


def test_a_sealed_message_is_taken_once_and_in_order_and_may_be_lost() -> None:
    sealer, opener = Sealer(b"k" * 32), Opener(b"k" * 32)
    first, second, third, fourth = (sealer.seal(bytes([n])) for n in range(4))
    assert opener.open(first) == b"\x00"
    assert opener.open(first) is None  # again
    assert opener.open(third) == b"\x02"  # the second was lost
    assert opener.open(second) is None  # late
    assert opener.open(fourth) == b"\x03"
    assert opener.refused == 2


def test_what_is_sealed_is_for_one_direction_of_one_pipe() -> None:
    _, here, there = talk(dialer(), listener())
    _, elsewhere, _ = talk(dialer(seed=5), listener(seed=105))
    assert here.seals is not None
    assert there.seals is not None
    assert elsewhere.seals is not None
    sealed = here.seals.sealer.seal(b"x")
    assert here.seals.opener.open(sealed) is None  # reflected
    assert there.seals.opener.open(elsewhere.seals.sealer.seal(b"x")) is None
    assert there.seals.opener.open(sealed) == b"x"


@pytest.mark.parametrize("size", range(OVERHEAD_BYTES + 1))
def test_what_is_too_short_is_no_sealed_message(size: int) -> None:
    assert Opener(b"k" * 32).open(b"\x00" * size) is None


def test_an_empty_message_can_be_sealed() -> None:
    assert Opener(b"k" * 32).open(Sealer(b"k" * 32).seal(b"")) == b""
