"""What each role may ask: every role, every kind of request, proved and not."""

from __future__ import annotations

import itertools

import pytest

from fastworker._core._codec import decode_body
from fastworker._core._messages import (
    Closed,
    Frame,
    Kind,
    Nothing,
    Refused,
    Rehello,
    Reply,
    Role,
    Submit,
    TaskEvents,
    TaskIds,
    TaskSpec,
    Welcome,
    WireStatus,
)
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
from tests.core.test_control_plane_machine import (
    ANN,
    ANN_PIPE,
    EVE,
    EVE_PIPE,
    Hall,
    an_open_hall,
    work_goes_on,
)

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


# --- whose a task is ---


def statuses(frames: list[Frame]) -> list[WireStatus]:
    replies = [decode_body(TaskEvents, f.body) for f in frames if isinstance(f, Reply)]
    return [event.status for reply in replies for event in reply.events]


@pytest.mark.parametrize("role", [PeerRole.CLIENT, PeerRole.OPERATOR])
@pytest.mark.parametrize("watches", [False, True])
def test_only_an_operator_cancels_what_a_client_that_is_there_has_submitted(
    role: PeerRole, watches: bool
) -> None:
    """Also if the other one has called the task its own: whoever knows an id could."""
    hall = an_open_hall()
    hall.handle(PipeOpened(EVE_PIPE, frozenset({role})))
    hall.announces = False
    hall.hello(EVE_PIPE, EVE, Role.CLIENT)
    if watches:
        hall.ask(EVE_PIPE, EVE, Kind.WATCH, TaskIds(["a1", "a2"]))
    answer = hall.ask(EVE_PIPE, EVE, Kind.CANCEL, TaskIds(["a1", "a2", "none"]), slot=15)
    if role is PeerRole.CLIENT:
        assert statuses(answer) == [WireStatus.DENIED, WireStatus.DENIED, WireStatus.UNKNOWN]
        assert hall.scheduler.statistics().cancelled == 0
        work_goes_on(hall)
    else:
        assert statuses(answer) == [
            WireStatus.PENDING,  # Bob has it, and is told to stop
            WireStatus.CANCELLED,
            WireStatus.UNKNOWN,
        ]


def test_a_client_cancels_its_own_and_what_is_nobody_s_any_more() -> None:
    hall = an_open_hall()
    hall.handle(PipeOpened(EVE_PIPE, frozenset({PeerRole.CLIENT})))
    hall.announces = False
    hall.hello(EVE_PIPE, EVE, Role.CLIENT)
    spec = TaskSpec("left", "add", 2, 1, b"()", 0.0)  # detached, so it stays
    hall.ask(ANN_PIPE, ANN, Kind.SUBMIT, Submit([spec]))
    own = TaskSpec("own", "add", 2, 1, b"()", 0.0)
    hall.ask(EVE_PIPE, EVE, Kind.SUBMIT, Submit([own]))
    assert statuses(
        hall.ask(EVE_PIPE, EVE, Kind.CANCEL, TaskIds(["own", "left"]), slot=15)
    ) == [
        WireStatus.CANCELLED,
        WireStatus.DENIED,
    ]
    hall.ask(ANN_PIPE, ANN, Kind.BYE, Nothing(), slot=15)
    answer = hall.ask(EVE_PIPE, EVE, Kind.CANCEL, TaskIds(["left"]), slot=15)
    assert statuses(answer) == [WireStatus.CANCELLED]
