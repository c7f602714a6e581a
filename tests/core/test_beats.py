"""Beats: repeats of a request that is under way, and what the control plane says to them.

What is counted is how often somebody has to wake up: that is what an idle peer costs.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fastworker._core._answers import MAX_BEATS
from fastworker._core._client import ClientState
from fastworker._core._client_events import FrameArrived as ClientFrame
from fastworker._core._link_requester import REPEAT_INTERVAL, SILENCE_LIMIT, DropPipe
from fastworker._core._messages import (
    BEAT_DELAY,
    Kind,
    Poll,
    Reply,
    Request,
    Role,
    TaskIds,
    Working,
)
from fastworker._core._session_table import LEASE_SECONDS
from tests.core.one_peer import OnePeer
from tests.core.test_control_plane_machine import Hall

POLL_SLOT = 3


class IdleHall(Hall):
    """A control plane with so many idle clients, each of which waits for news."""

    def __init__(self, clients: int) -> None:
        super().__init__()
        self.sessions = {pipe: b"%016d" % pipe for pipe in range(1, clients + 1)}
        for pipe, session in self.sessions.items():
            self.hello(pipe, session, Role.CLIENT)
            self.ask(pipe, session, Kind.POLL, Poll(0), slot=POLL_SLOT)
        self.sent.clear()

    def beat(self, pipe: int, copy: int = 2) -> None:
        session = self.sessions[pipe]
        self.ask(pipe, session, Kind.POLL, Poll(0), slot=POLL_SLOT, sequence=1, copy=copy)

    def pass_turn(self) -> list[int]:
        """Wait for what is due next; to whom it was said that they were heard."""
        before = len(self.sent)
        self.pass_time(self.state.next_deadline() - self.now)
        said = self.sent[before:]
        assert all(isinstance(frame, Working) for _, frame in said)
        return [pipe for pipe, _ in said]


def an_idle_client() -> OnePeer:
    state = ClientState(new_session_id=lambda: bytes(16))
    client = OnePeer(state, ClientFrame)
    client.connect()
    return client


def test_beats_that_come_within_a_tenth_of_a_second_are_answered_in_one_go() -> None:
    hall = IdleHall(10)
    began = hall.now
    for pipe in hall.sessions:
        hall.beat(pipe)
        hall.pass_time(BEAT_DELAY / 20)
    assert hall.sent == []
    assert hall.pass_turn() == list(hall.sessions)
    assert hall.now - began <= BEAT_DELAY + 1e-9
    assert hall.state.next_deadline() > hall.now + 1.0, "it wakes up for nothing"


def test_more_beats_than_are_no_stall_are_answered_in_several_turns() -> None:
    """After a restart all peers beat at one moment; from then on they no longer do."""
    hall = IdleHall(2 * MAX_BEATS + 5)
    for pipe in hall.sessions:
        hall.beat(pipe)
    turns = [hall.pass_turn() for _ in range(3)]
    assert [len(turn) for turn in turns] == [MAX_BEATS, MAX_BEATS, 5]
    assert [pipe for turn in turns for pipe in turn] == list(hall.sessions)


def test_who_beats_without_end_keeps_nobody_else_from_being_answered() -> None:
    """Promise 4: it is answered once a turn, and what is kept for it does not grow."""
    hall = IdleHall(3)
    for copy in range(2, 5 * MAX_BEATS):
        hall.beat(1, copy)
    hall.beat(2)
    assert hall.pass_turn() == [1, 2]
    (latest, _) = [frame for _, frame in hall.sent]
    assert isinstance(latest, Working)
    assert latest.copy == 5 * MAX_BEATS - 1


def test_the_answer_to_a_beat_goes_with_whatever_is_sent_to_that_peer_before() -> None:
    hall = IdleHall(2)
    hall.beat(1)
    hall.beat(2)
    frames = hall.ask(1, hall.sessions[1], Kind.QUERY, TaskIds(["x"]), slot=0)
    assert [type(frame) for frame in frames] == [Reply, Working]
    assert hall.pass_turn() == [2]


def test_a_session_that_ends_is_owed_no_answer_to_its_beat() -> None:
    hall = IdleHall(1)
    hall.beat(1)
    hall.ask(1, hall.sessions[1], Kind.POLL, b"\xc1", slot=0)  # breaks a rule
    assert hall.state.statistics().clients == 0
    assert [type(frame) for to, frame in hall.sent].count(Working) <= 1
    hall.pass_time(2 * BEAT_DELAY)  # checks every invariant


def test_a_peer_is_kept_while_it_beats_and_lost_when_it_no_longer_does() -> None:
    hall = IdleHall(1)
    for copy in range(2, 12):
        hall.pass_time(REPEAT_INTERVAL)
        hall.beat(1, copy)
    hall.pass_time(LEASE_SECONDS - 0.01)
    assert hall.state.statistics().clients == 1
    hall.pass_time(0.02)
    assert hall.state.statistics().clients == 0


# --- the other end ----------------------------------------------------------


def heard(client: OnePeer, request: Request) -> None:
    client.frame(
        Working(request.session, request.epoch, request.slot, request.sequence, request.copy)
    )


def next_beat(client: OnePeer) -> tuple[float, Request]:
    """Wait for the next repeat: how long that took, and the repeat."""
    began, known = client.now, len(client.requests)
    while len(client.requests) == known:
        client.pass_time(client.state.next_deadline() - client.now)
    return client.now - began, client.requests[-1]


def test_whoever_was_answered_together_beats_together() -> None:
    clients = [an_idle_client() for _ in range(5)]
    beats: list[float] = []
    for number, client in enumerate(clients):
        client.pass_time(number)  # so far each beats at a time of its own
        _, request = next_beat(client)
        client.now = 200.0
        heard(client, request)
        next_beat(client)
        beats.append(client.now)
    assert beats == [200.0 + REPEAT_INTERVAL - BEAT_DELAY] * 5


@given(st.lists(st.floats(0.0, BEAT_DELAY), min_size=1, max_size=10))
def test_a_peer_beats_every_five_seconds_however_long_its_beats_are_kept(
    delays: list[float],
) -> None:
    client = an_idle_client()
    next_beat(client)
    for delay in delays:
        at = client.now
        client.pass_time(delay)
        heard(client, client.requests[-1])
        next_beat(client)
        assert client.now - at + 1e-6 >= REPEAT_INTERVAL - BEAT_DELAY
        assert client.now - at <= REPEAT_INTERVAL + 1e-6


def test_a_control_plane_that_answers_no_beat_is_given_up_after_three() -> None:
    client = an_idle_client()
    _, request = next_beat(client)
    heard(client, request)
    silent_since, known = client.now, len(client.requests)
    while not client.take(DropPipe):
        client.pass_time(client.state.next_deadline() - client.now)
    assert client.now - silent_since == SILENCE_LIMIT
    assert len(client.requests) - known == 3
