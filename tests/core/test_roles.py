"""What each role may ask: every role, every kind of request, proved and not."""

from __future__ import annotations

import itertools

import pytest

from fastworker._core._messages import Closed, Kind, Nothing, Refused, Rehello, Role, Welcome
from fastworker._core._pipes import PipeClosed, PipeOpened
from fastworker._core._roles import (
    ALLOWED_KINDS,
    EVERYTHING,
    OPENERS,
    Authority,
    PeerRole,
    allowed_kinds,
    may_open,
)
from tests.core.test_control_plane_machine import EVE, EVE_PIPE, Hall

AUTHORITIES = [
    frozenset(some)
    for count in range(len(PeerRole) + 1)
    for some in itertools.combinations(PeerRole, count)
]


def named(value: object) -> str:
    if isinstance(value, frozenset):
        return "+".join(sorted(each.value for each in value)) or "nothing"
    return str(getattr(value, "name", value)).lower()


@pytest.fixture
def hall() -> Hall:
    return Hall(authenticates=True)


def enter(hall: Hall, authority: Authority, role: Role) -> object:
    hall.handle(PipeOpened(EVE_PIPE, authority))
    hall.announces = False
    (answer,) = hall.hello(EVE_PIPE, EVE, role)
    return answer


def test_every_kind_is_some_role_s_business() -> None:
    assert frozenset().union(*ALLOWED_KINDS.values()) == frozenset(Kind)
    assert frozenset().union(*OPENERS.values()) == EVERYTHING


def test_no_worker_may_do_what_a_client_or_an_operator_may_and_the_other_way_round() -> None:
    shared = {Kind.BYE}
    worker = ALLOWED_KINDS[PeerRole.WORKER]
    assert worker & ALLOWED_KINDS[PeerRole.CLIENT] == shared
    assert worker & ALLOWED_KINDS[PeerRole.OPERATOR] == shared


@pytest.mark.parametrize("role", list(Role), ids=named)
@pytest.mark.parametrize("authority", AUTHORITIES, ids=named)
def test_a_session_is_opened_only_by_who_has_proved_its_role(
    hall: Hall, authority: Authority, role: Role
) -> None:
    # X3 in docs/faults.md.
    answer = enter(hall, authority, role)
    is_open = bool(authority & OPENERS[role])
    assert isinstance(answer, Welcome if is_open else Refused)
    assert may_open(authority, role) is is_open


@pytest.mark.parametrize("kind", list(Kind), ids=named)
@pytest.mark.parametrize("role", list(Role), ids=named)
@pytest.mark.parametrize("authority", AUTHORITIES, ids=named)
def test_a_request_is_heard_only_from_who_may_ask_it(
    hall: Hall, authority: Authority, role: Role, kind: Kind
) -> None:
    # X3 in docs/faults.md.
    allowed = {
        each
        for proved in authority
        if proved in OPENERS[role]
        for each in ALLOWED_KINDS[proved]
    }
    assert allowed_kinds(authority, role) == allowed
    enter(hall, EVERYTHING, role)  # a session that is open already, and then another pipe
    other = EVE_PIPE + 1000
    hall.handle(PipeOpened(other, authority))
    slot = 15 if kind in (Kind.CANCEL, Kind.BYE) else 0
    before = hall.state.statistics()
    frames = hall.ask(other, EVE, kind, b"\xc1", slot=slot)
    reasons = [frame.reason for frame in frames if isinstance(frame, Closed)]
    if not may_open(authority, role):
        assert [type(frame) for frame in frames] == [Rehello]
        assert hall.state.statistics() == before
    elif kind in allowed:
        assert all("may not ask" not in reason for reason in reasons)
        assert reasons  # its body was read, and found wrong
    else:
        assert any("may not ask" in reason for reason in reasons)


@pytest.mark.parametrize("kind", list(Kind), ids=named)
def test_a_pipe_of_which_there_was_no_news_may_nothing(hall: Hall, kind: Kind) -> None:
    enter(hall, EVERYTHING, Role.CLIENT)
    frames = hall.ask(EVE_PIPE + 1, EVE, kind, Nothing())
    assert [type(frame) for frame in frames] == [Rehello]


def test_what_a_pipe_has_proved_is_forgotten_with_it(hall: Hall) -> None:

    enter(hall, EVERYTHING, Role.CLIENT)
    hall.handle(PipeClosed(EVE_PIPE))
    (answer,) = hall.hello(EVE_PIPE, EVE, Role.CLIENT)
    assert isinstance(answer, Refused)
