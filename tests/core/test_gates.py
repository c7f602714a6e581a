"""The gates at both ends: who is kept out, for how long, and what strangers may cost."""

from __future__ import annotations

import math
import random

import pytest

from fastworker._core._bundle import join, split
from fastworker._core._codec import decode_frame, encode
from fastworker._core._dialer_gate import (
    LONGEST_PAUSE,
    AnswerArrived,
    DialerGate,
    DialerGateCommand,
    DialerGateEvent,
    Drop,
    Enter,
    Refuse,
    Say,
)
from fastworker._core._handshake import MAGIC, Step, step_of
from fastworker._core._keys import RoleKeys, keys_of
from fastworker._core._listener_gate import (
    HANDSHAKE_SECONDS,
    LONGEST_PENALTY,
    MAX_OTHER_MESSAGES,
    MAX_PLACES,
    MAX_STRANGER_BYTES,
    MAX_STRANGERS,
    YOUNG_SECONDS,
    Admit,
    Expel,
    GateCommand,
    GateEvent,
    ListenerGate,
    MessageArrived,
    SendMessage,
    Warn,
)
from fastworker._core._messages import PROTOCOL_VERSION, Hello, Kind, Refused, Request, Role
from fastworker._core._pipes import DeadlinePassed, PipeClosed, PipeOpened, Route
from fastworker._core._roles import EVERYTHING, Authority, PeerRole

KEYS = keys_of({role: f"the token of {role.value}s".encode() for role in PeerRole})
WRONG = RoleKeys(b"a token of nobody", PeerRole.CLIENT)


class Porch:
    """A listener's gate, and what it wants."""

    def __init__(self) -> None:
        self.now = 100.0
        chance = random.Random(1)
        self.gate = ListenerGate(KEYS, epoch=lambda: 7, random_bytes=chance.randbytes)
        self.told: list[GateCommand] = []
        self._chance = chance

    def handle(self, event: GateEvent) -> list[GateCommand]:
        commands = self.gate.handle(event, now=self.now)
        self.gate.check()
        self.told += commands
        return commands

    def wait(self, seconds: float) -> list[GateCommand]:
        """Let time pass; the gate is called whenever it wants to be."""
        told: list[GateCommand] = []
        end = self.now + seconds
        while (due := self.gate.next_deadline()) <= end:
            self.now = max(self.now, due)
            told += self.handle(DeadlinePassed())
        self.now = end
        return told

    def say(self, pipe: int, message: bytes) -> list[GateCommand]:
        return self.handle(MessageArrived(Route(pipe, b"r"), message))

    def knock(
        self,
        pipe: int,
        keys: RoleKeys,
        remote: str = "10.0.0.1",
        authority: Authority = EVERYTHING,
    ) -> list[GateCommand]:
        """Open a pipe and go through the handshake; what came of the proof."""
        self.handle(PipeOpened(pipe, authority, remote))
        dialer = DialerGate(
            keys, PeerRole.CLIENT, protocol=4, random_bytes=self._chance.randbytes
        )
        (offer,) = dialer.handle(PipeOpened(1), now=self.now)
        assert isinstance(offer, Say)
        (challenge,) = self.say(pipe, offer.message)
        assert isinstance(challenge, SendMessage)
        (proof,) = dialer.handle(AnswerArrived(challenge.message), now=self.now)
        assert isinstance(proof, Say)
        return self.say(pipe, proof.message)


@pytest.fixture
def porch() -> Porch:
    return Porch()


def admitted(commands: list[GateCommand]) -> bool:
    return any(isinstance(command, Admit) for command in commands)


def expelled(commands: list[GateCommand]) -> list[int]:
    return [command.pipe for command in commands if isinstance(command, Expel)]


def test_whoever_proves_a_role_is_let_in_as_that_and_no_more(porch: Porch) -> None:
    commands = porch.knock(1, KEYS[PeerRole.CLIENT])
    assert [type(command) for command in commands] == [SendMessage, Admit]
    admit = commands[1]
    assert isinstance(admit, Admit)
    assert admit.authority == {PeerRole.CLIENT}
    assert admit.remote == "10.0.0.1"
    assert porch.wait(1000.0) == []


def test_what_the_transport_below_has_not_proved_is_not_added(porch: Porch) -> None:
    """Such as the role in a certificate: both have to be proved."""
    commands = porch.knock(
        1, KEYS[PeerRole.CLIENT], authority=frozenset({PeerRole.WORKER, PeerRole.OPERATOR})
    )
    admit = commands[1]
    assert isinstance(admit, Admit)
    assert admit.authority == frozenset()


def test_a_stranger_is_gone_after_five_seconds(porch: Porch) -> None:
    # X2
    porch.handle(PipeOpened(1))
    assert porch.wait(HANDSHAKE_SECONDS - 0.01) == []
    assert porch.wait(0.02) == [Expel(1)]
    assert not porch.gate.has_strangers


def test_to_go_on_talking_gives_a_stranger_no_more_time(porch: Porch) -> None:
    porch.handle(PipeOpened(1))
    dialer = DialerGate(KEYS[PeerRole.CLIENT], PeerRole.CLIENT, protocol=4, random_bytes=bytes)
    (offer,) = dialer.handle(PipeOpened(1), now=0.0)
    assert isinstance(offer, Say)
    told: list[GateCommand] = []
    for _ in range(6):
        told += porch.say(1, offer.message)
        told += porch.wait(0.9)
    assert expelled(told) == [1]


def test_a_stranger_s_long_message_closes_its_pipe(porch: Porch) -> None:
    porch.handle(PipeOpened(1))
    assert porch.say(1, MAGIC + bytes(MAX_STRANGER_BYTES)) == [Expel(1)]


def frames() -> list[bytes]:
    session = bytes(16)
    asked = [Request(session, 7, 0, 1, 1, bytes(8), kind, b"\x90") for kind in Kind]
    return [join([encode(request)]) for request in asked] + [
        b"",
        b"\0",
        b"GET / HTTP/1.1\r\n\r\n",
    ]


@pytest.mark.parametrize("message", frames())
def test_what_is_no_handshake_closes_a_stranger_s_pipe(porch: Porch, message: bytes) -> None:
    # X2: no kind of request is heard.
    porch.handle(PipeOpened(1))
    assert porch.say(1, message) == [Expel(1)]


@pytest.mark.parametrize("role", list(Role))
def test_a_hello_without_a_proof_is_answered_with_what_is_needed(
    porch: Porch, role: Role
) -> None:
    porch.handle(PipeOpened(1))
    hello = Hello(PROTOCOL_VERSION, 77, bytes(16), role, 0, "open")
    (sent,) = porch.say(1, join([encode(hello)]))
    assert isinstance(sent, SendMessage)
    refused = decode_frame(split(sent.message)[0])
    assert isinstance(refused, Refused)
    assert refused.nonce == 77
    assert "--auth-token-file" in refused.reason
    assert porch.say(1, join([encode(hello)])) == []  # once is enough
    assert expelled(porch.wait(HANDSHAKE_SECONDS)) == [1]


def test_who_was_refused_and_goes_on_is_closed_before_its_time(porch: Porch) -> None:
    porch.knock(1, WRONG)
    told = [porch.say(1, MAGIC + b"\1") for _ in range(MAX_OTHER_MESSAGES + 1)]
    assert told[-1] == [Expel(1)]
    assert all(not commands for commands in told[:-1])


def test_strangers_are_bounded_and_the_oldest_makes_way(porch: Porch) -> None:
    for pipe in range(MAX_STRANGERS):
        porch.handle(PipeOpened(pipe))
    # All are new and may be about to prove themselves: who comes now has to come again.
    assert porch.handle(PipeOpened(1000)) == [Expel(1000)]
    porch.wait(YOUNG_SECONDS)
    assert porch.handle(PipeOpened(1001)) == [Expel(0)]
    assert admitted(porch.knock(1, KEYS[PeerRole.CLIENT]))  # it was there already
    assert porch.handle(PipeOpened(1002)) == []


def test_a_wrong_token_is_told_at_once_and_in_words_that_grow_no_log(porch: Porch) -> None:
    for pipe in range(1, 41):
        commands = porch.knock(pipe, WRONG) + porch.wait(LONGEST_PENALTY)
        sent = [c.message for c in commands if isinstance(c, SendMessage)]
        assert [step_of(message) for message in sent] == [Step.REJECTED]
        porch.handle(PipeClosed(pipe))
    warnings = [command.text for command in porch.told if isinstance(command, Warn)]
    assert len(warnings) == 6  # 1, 2, 4, 8, 16, 32
    assert warnings[0] == "a peer from 10.0.0.1 was refused: its token for client is wrong"
    assert "32 such from there" in warnings[-1]
    assert porch.gate.statistics().wrong_tokens == 40


def test_guesses_from_one_place_take_longer_and_longer(porch: Porch) -> None:
    began = porch.now
    for pipe in range(1, 11):
        if not porch.knock(pipe, WRONG):
            while step_of_last(porch) is not Step.REJECTED:
                porch.wait(0.01)
        porch.told.clear()
        porch.handle(PipeClosed(pipe))
    assert porch.now - began > 0.125 + 0.25 + 0.5 + 5 * LONGEST_PENALTY


def step_of_last(porch: Porch) -> Step | None:
    sent = [c.message for c in porch.told if isinstance(c, SendMessage)]
    return step_of(sent[-1]) if sent else None


def test_who_has_the_right_token_is_never_locked_out(porch: Porch) -> None:
    """Not even by guesses that come all the time from the same place."""
    for pipe in range(1, 30):
        porch.knock(pipe, WRONG)
    began = porch.now
    waiting = porch.knock(1000, KEYS[PeerRole.CLIENT])
    for pipe in range(100, 130):
        porch.knock(pipe, WRONG)
    assert not admitted(waiting)
    assert admitted(porch.wait(LONGEST_PENALTY))
    assert porch.now - began <= LONGEST_PENALTY


def test_another_place_does_not_wait_for_wrong_tokens_of_this_one(porch: Porch) -> None:
    for pipe in range(1, 10):
        porch.knock(pipe, WRONG, "10.0.0.66")
    assert admitted(porch.knock(1000, KEYS[PeerRole.CLIENT], "10.0.0.1"))


def test_places_are_forgotten_in_time_and_never_too_many(porch: Porch) -> None:
    for number in range(MAX_PLACES + 50):
        porch.knock(number, WRONG, f"place-{number}")
        porch.handle(PipeClosed(number))
    assert len(porch.gate._places) == MAX_PLACES
    porch.wait(61.0)
    porch.knock(5000, WRONG, f"place-{MAX_PLACES}")
    assert porch.gate._places[f"place-{MAX_PLACES}"].failures == 1


def test_a_proof_that_was_meant_for_an_earlier_pipe_is_no_wrong_token(porch: Porch) -> None:
    porch.handle(PipeOpened(1))
    late = MAGIC + bytes([Step.PROOF]) + bytes(32)
    assert porch.say(1, late) == []
    assert porch.gate.statistics().wrong_tokens == 0
    assert admitted(porch.knock(1, KEYS[PeerRole.CLIENT]))


def test_a_pipe_that_closes_leaves_nothing(porch: Porch) -> None:
    porch.knock(1, KEYS[PeerRole.CLIENT])
    porch.knock(2, WRONG)
    porch.knock(3, WRONG)  # waits for its penalty
    for pipe in (1, 2, 3):
        porch.handle(PipeClosed(pipe))
    assert not porch.gate._known
    assert not porch.gate.has_strangers
    assert porch.gate.next_deadline() == math.inf


def test_a_message_may_come_before_the_news_of_its_pipe(porch: Porch) -> None:
    dialer = DialerGate(KEYS[PeerRole.CLIENT], PeerRole.CLIENT, protocol=4, random_bytes=bytes)
    (offer,) = dialer.handle(PipeOpened(1), now=0.0)
    assert isinstance(offer, Say)
    (challenge,) = porch.say(1, offer.message)
    porch.handle(PipeOpened(1, remote="10.0.0.1"))
    assert isinstance(challenge, SendMessage)
    (proof,) = dialer.handle(AnswerArrived(challenge.message), now=0.0)
    assert isinstance(proof, Say)
    assert admitted(porch.say(1, proof.message))


def test_a_lost_acceptance_is_said_again(porch: Porch) -> None:
    porch.knock(1, KEYS[PeerRole.CLIENT])
    known = porch.gate._known[1]
    (sent,) = porch.say(1, known._proof)
    assert isinstance(sent, SendMessage)
    assert step_of(sent.message) is Step.ACCEPTED


# --- the dialing end ---


class Doorstep:
    """A dialer's gate, and what it wants."""

    def __init__(self, keys: RoleKeys = KEYS[PeerRole.CLIENT]) -> None:
        self.now = 100.0
        chance = random.Random(2)
        self.gate = DialerGate(keys, PeerRole.CLIENT, protocol=4, random_bytes=chance.randbytes)

    def handle(self, event: DialerGateEvent) -> list[DialerGateCommand]:
        commands = self.gate.handle(event, now=self.now)
        self.gate.check()
        return commands

    def wait(self, seconds: float) -> list[DialerGateCommand]:
        told: list[DialerGateCommand] = []
        end = self.now + seconds
        while (due := self.gate.next_deadline()) <= end:
            self.now = max(self.now, due)
            told += self.handle(DeadlinePassed())
        self.now = end
        return told


def rejection() -> AnswerArrived:
    return AnswerArrived(MAGIC + bytes([Step.REJECTED, 2]))


def test_an_offer_is_repeated_and_given_up_after_five_seconds() -> None:
    step = Doorstep()
    (first,) = step.handle(PipeOpened(1))
    told = step.wait(HANDSHAKE_SECONDS)
    assert told[:4] == [first] * 4
    assert isinstance(told[4], Refuse)
    assert not told[4].is_final
    assert told[5:] == [Drop()]


def test_every_pipe_has_an_offer_of_its_own() -> None:
    step = Doorstep()
    offers = []
    for pipe in range(1, 4):
        (offer,) = step.handle(PipeOpened(pipe))
        offers.append(offer)
        step.handle(PipeClosed(pipe))
    assert len(set(map(repr, offers))) == 3


def test_after_a_refusal_the_next_offers_wait_longer_and_longer() -> None:
    step = Doorstep()
    pauses = []
    for pipe in range(1, 8):
        said = step.handle(PipeOpened(pipe))
        began = step.now
        while not said:
            said = step.wait(0.01)
        pauses.append(step.now - began)
        (refuse, drop) = step.handle(rejection())
        assert isinstance(refuse, Refuse)
        assert refuse.is_final
        assert drop == Drop()
        step.handle(PipeClosed(pipe))
    assert pauses == pytest.approx([0, 0.25, 0.5, 1.0, 2.0, 2.0, 2.0], abs=0.02)
    assert LONGEST_PAUSE < HANDSHAKE_SECONDS


def test_a_control_plane_that_only_closes_pipes_runs_without_authentication() -> None:
    step = Doorstep()
    finals = []
    for pipe in range(1, 4):
        step.handle(PipeOpened(pipe))
        (refuse,) = step.handle(PipeClosed(pipe))
        assert isinstance(refuse, Refuse)
        assert "runs without authentication" in refuse.reason
        finals.append(refuse.is_final)
    assert finals == [False, False, True]


def test_once_in_nothing_of_a_handshake_is_listened_to() -> None:
    step, porch = Doorstep(), Porch()
    step.handle(PipeOpened(8))
    step.handle(rejection())  # so the next offer waits
    step.handle(PipeClosed(8))
    step.handle(PipeOpened(9))
    porch.handle(PipeOpened(1))
    (offer,) = step.wait(LONGEST_PAUSE - 1.5)
    assert isinstance(offer, Say)
    (challenge,) = porch.say(1, offer.message)
    assert isinstance(challenge, SendMessage)
    (proof,) = step.handle(AnswerArrived(challenge.message))
    assert isinstance(proof, Say)
    accepted = porch.say(1, proof.message)[0]
    assert isinstance(accepted, SendMessage)
    (enter,) = step.handle(AnswerArrived(accepted.message))
    assert isinstance(enter, Enter)
    assert enter.pipe == 9
    assert step.gate._failures == 0
    for message in (accepted.message, challenge.message, rejection().message):
        assert step.handle(AnswerArrived(message)) == []
    assert step.wait(1000.0) == []
    assert step.handle(PipeClosed(9)) == []


# --- anything at all ---


def test_no_bytes_break_either_gate() -> None:
    """Promise 4, for what is heard before anybody has proved anything."""
    chance = random.Random(3)
    for _ in range(300):
        porch, step = Porch(), Doorstep(WRONG)
        (offer,) = step.handle(PipeOpened(1))
        assert isinstance(offer, Say)
        known = [offer.message, rejection().message, MAGIC, b""]
        for _ in range(30):
            message = bytearray(chance.choice(known) or chance.randbytes(40))
            if message and chance.random() < 0.6:
                message[chance.randrange(len(message))] ^= 1 << chance.randrange(8)
            if chance.random() < 0.2:
                message = message[: chance.randrange(len(message) + 1)]
            if chance.random() < 0.1:
                message = bytearray(chance.randbytes(chance.randrange(100)))
            pipe = chance.randrange(3)
            for command in porch.say(pipe, bytes(message)):
                assert not isinstance(command, Admit)
                if isinstance(command, SendMessage):
                    known.append(command.message)
            for told in step.handle(AnswerArrived(bytes(message))):
                assert not isinstance(told, Enter)
                if isinstance(told, Say):
                    known.append(told.message)
            porch.wait(chance.random())
            step.wait(chance.random())
            if chance.random() < 0.1:
                porch.handle(PipeClosed(pipe))
