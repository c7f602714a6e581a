"""Hostile peers against the control plane's machine: S21, nobody else notices.

One honest client and one honest subworker work on while strangers send what
they like. After every event ``check()`` holds, the honest have their sessions
and their leases, and nothing of theirs has changed.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastworker._core._codec import decode_body, decode_frame, digest, encode
from fastworker._core._control_plane import ControlPlaneState
from fastworker._core._control_plane_events import (
    AppendRecords,
    ClosePipe,
    ControlPlaneCommand,
    DrainRequested,
    FrameArrived,
    Port,
    ProcessExited,
    ReadTasks,
    RecordsDurable,
    TasksRead,
)
from fastworker._core._link_responder import SendTo
from fastworker._core._messages import (
    PROTOCOL_VERSION,
    URGENT_SLOT,
    Body,
    Callback,
    CallOptions,
    Closed,
    Credits,
    EndedAttempt,
    Frame,
    FunctionInfo,
    HandedBack,
    Hello,
    Kind,
    Lease,
    LeaseReply,
    Nothing,
    Poll,
    PollReply,
    ReadUpTo,
    Redirect,
    RefusalCode,
    Refused,
    Rehello,
    Reply,
    Report,
    Request,
    Role,
    StartedAttempt,
    StopOrder,
    Submit,
    SubmitReply,
    TaskIds,
    TaskSpec,
    Welcome,
    WireStatus,
    Working,
    YieldedValue,
)
from fastworker._core._pipes import DeadlinePassed, Flush, PipeClosed, PipeOpened, Route
from fastworker._core._results import Results
from fastworker._core._scheduler import Scheduler
from fastworker._core._session_table import (
    HELLO_SECONDS,
    LEASE_SECONDS,
    MAX_SESSIONS,
    RECONNECT_GRACE,
)

EPOCH = 4
ANN, BOB, EVE = (name * 4 for name in (b"anna", b"bobb", b"evee"))
ANN_PIPE, BOB_PIPE, EVE_PIPE = 1, 2, 3


class Hall:
    """The machine, and what it sent to each pipe."""

    def __init__(self, *, is_durable: bool = False, authenticates: bool = False) -> None:
        self.now = 10.0
        self.announces = True  # every pipe, as one that may do everything
        self.scheduler = Scheduler(
            epoch=EPOCH,
            results=Results(max_size=1000, ttl=600.0),
            now=self.now,
            rng=random.Random(1),
        )
        self.state = ControlPlaneState(
            epoch=EPOCH,
            scheduler=self.scheduler,
            worker_id="control-plane",
            base_port=5555,
            management_port=5560,
            is_durable=is_durable,
            authenticates=authenticates,
        )
        self.sent: list[tuple[int, Frame]] = []
        self.closed: list[int] = []
        self.sequences: dict[tuple[bytes, int], int] = {}

    def handle(self, event: object, *, check: bool = True) -> None:
        for command in self.state.handle(event, now=self.now):  # type: ignore[arg-type]
            self.obey(command)
        if check:
            self.state.check()

    def obey(self, command: ControlPlaneCommand) -> None:
        match command:
            case SendTo(route=route, data=data):
                self.sent.append((route.pipe, decode_frame(data)))
            case ClosePipe(pipe=pipe):
                self.closed.append(pipe)
            case ReadTasks():
                self.handle(TasksRead(command, [], len(command.ids)))
            case AppendRecords(batch=batch):
                self.handle(RecordsDurable(batch))

    def frame(self, pipe: int, frame: Frame | bytes, port: Port = Port.BASE) -> list[Frame]:
        """Let a frame arrive; what was sent back by the same pipe."""
        data = frame if isinstance(frame, bytes) else encode(frame)
        before = len(self.sent)
        self.handle(FrameArrived(port, Route(pipe, b"r"), data))
        self.handle(Flush())
        return [sent for to, sent in self.sent[before:] if to == pipe]

    def hello(self, pipe: int, session: bytes, role: Role, **changes: object) -> list[Frame]:
        if self.announces:
            self.handle(PipeOpened(pipe))
        functions = [FunctionInfo("add", "thread")] if role is Role.SUBWORKER else []
        hello = Hello(PROTOCOL_VERSION, 7, session, role, 0, "peer", "", functions)
        fields = {name: getattr(hello, name) for name in hello.__struct_fields__}
        port = changes.pop("port", Port.BASE)
        assert isinstance(port, Port)
        return self.frame(pipe, Hello(**(fields | changes)), port)  # type: ignore[arg-type]

    def ask(
        self,
        pipe: int,
        session: bytes,
        kind: Kind,
        body: Body | bytes,
        slot: int = 0,
        sequence: int | None = None,
        copy: int = 1,
    ) -> list[Frame]:
        if sequence is None:
            sequence = self.sequences.get((session, slot), 0) + 1
            self.sequences[session, slot] = sequence
        data = body if isinstance(body, bytes) else encode(body)
        request = Request(session, EPOCH, slot, sequence, copy, digest(kind, data), kind, data)
        return self.frame(pipe, request)

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        while self.state.next_deadline() <= end:
            self.now = self.state.next_deadline()
            self.handle(DeadlinePassed())
            self.handle(Flush())
            assert self.state.next_deadline() > self.now, "the alarm would spin"
        self.now = end


@pytest.fixture
def hall() -> Hall:
    return an_open_hall()


def an_open_hall() -> Hall:
    """Ann has submitted a1 and a2; Bob holds a1."""
    hall = Hall()
    hall.hello(ANN_PIPE, ANN, Role.CLIENT)
    hall.hello(BOB_PIPE, BOB, Role.SUBWORKER)
    specs = [TaskSpec(f"a{n}", "add", 2, 1, b"()", 0.0, attached=True) for n in (1, 2)]
    hall.ask(ANN_PIPE, ANN, Kind.SUBMIT, Submit(specs))
    hall.ask(BOB_PIPE, BOB, Kind.LEASE, Lease(0, {"thread": 1}))
    assert hall.scheduler.is_leased("a1", 1, BOB)
    return hall


def work_goes_on(hall: Hall) -> None:
    """S21: Ann's tasks run on Bob, and she hears of both."""
    hall.ask(BOB_PIPE, BOB, Kind.LEASE, Lease(9, {"thread": 1}), slot=1)
    hall.ask(ANN_PIPE, ANN, Kind.POLL, Poll(0), slot=1)
    for task_id in ("a1", "a2"):
        assert hall.scheduler.is_leased(task_id, 1, BOB), f"{task_id} was touched"
        ended = [EndedAttempt(task_id, 1, WireStatus.SUCCESS, 0.0, 0.0, 1.0, 1, b"3")]
        hall.ask(BOB_PIPE, BOB, Kind.REPORT, Report(EPOCH, ended=ended), slot=2)
        hall.handle(Flush())
    hall.ask(ANN_PIPE, ANN, Kind.POLL, Poll(0), slot=1)
    told = {
        event.task_id: event.status
        for pipe, frame in hall.sent
        if pipe == ANN_PIPE and isinstance(frame, Reply) and frame.slot == 1
        for event in decode_body(PollReply, frame.body).events
    }
    assert told == {"a1": WireStatus.SUCCESS, "a2": WireStatus.SUCCESS}
    assert not {ANN_PIPE, BOB_PIPE} & set(hall.closed)


# --- where callbacks go -----------------------------------------------------


def test_a_callback_may_go_to_the_host_that_its_client_has_connected_from() -> None:
    # X19 in docs/faults.md.
    hall = Hall()
    hall.hello(ANN_PIPE, ANN, Role.CLIENT)
    hall.hello(BOB_PIPE, BOB, Role.SUBWORKER)
    hall.handle(PipeOpened(ANN_PIPE, remote="192.0.2.5"))
    hall.handle(PipeOpened(EVE_PIPE, remote="192.0.2.6"))
    hall.hello(EVE_PIPE, EVE, Role.CLIENT)
    callback = Callback("tcp://192.0.2.5:9000", "e1")

    def refused(pipe: int, session: bytes, task_id: str) -> list[RefusalCode]:
        spec = TaskSpec(task_id, "add", 2, 1, b"()", 0.0, callback=callback)
        [reply] = hall.ask(pipe, session, Kind.SUBMIT, Submit([spec], hurry=True))
        assert isinstance(reply, Reply)
        return [refusal.code for refusal in decode_body(SubmitReply, reply.body).refusals]

    assert refused(ANN_PIPE, ANN, "a1") == []
    assert refused(EVE_PIPE, EVE, "e1") == [RefusalCode.CALLBACK]
    # She is where she was until there is news of her new pipe, and then is not.
    hall.hello(9, ANN, Role.CLIENT)
    assert refused(9, ANN, "a2") == []
    hall.handle(PipeOpened(9, remote="192.0.2.9"))
    assert refused(9, ANN, "a3") == [RefusalCode.CALLBACK]
    # What was taken stays taken, from wherever it is submitted again.
    assert refused(9, ANN, "a1") == []


# --- strangers --------------------------------------------------------------

STRANGE_FRAMES: list[bytes] = [
    b"",
    b"GET / HTTP/1.1\r\n\r\n",
    b"\x91" * 1000,
    encode(Nothing()),
    encode(Welcome(1, EVE, EPOCH, False, 1.0, 1.0, "me")),
    encode(Reply(ANN, EPOCH, 0, 1, b"")),
    encode(Closed(ANN, "bye")),
    encode(Rehello(ANN, EPOCH + 1)),
]


@pytest.mark.parametrize("data", STRANGE_FRAMES, ids=lambda data: data[:8].hex() or "empty")
def test_who_sends_what_no_peer_sends_is_disconnected(hall: Hall, data: bytes) -> None:
    assert hall.frame(EVE_PIPE, data) == []
    assert hall.closed == [EVE_PIPE]
    assert hall.state.statistics().malformed_frames == 1
    work_goes_on(hall)


def test_a_request_without_a_session_only_asks_for_a_hello(hall: Hall) -> None:
    for kind in Kind:
        frames = hall.ask(EVE_PIPE, EVE, kind, b"\xc1", slot=0, sequence=1)
        assert frames == [Rehello(EVE, EPOCH)]
    work_goes_on(hall)


def test_a_request_of_another_epoch_only_asks_for_a_hello(hall: Hall) -> None:
    """S8: and it does not count as a sign of life on that pipe."""
    body = encode(TaskIds(["a1"]))
    request = Request(
        ANN, EPOCH - 1, URGENT_SLOT, 1, 1, digest(Kind.CANCEL, body), Kind.CANCEL, body
    )
    assert hall.frame(EVE_PIPE, request) == [Rehello(ANN, EPOCH)]
    work_goes_on(hall)


@pytest.mark.parametrize(
    ("role", "kind"),
    [(Role.CLIENT, Kind.REPORT), (Role.CLIENT, Kind.LEASE)]
    + [
        (Role.SUBWORKER, kind)
        for kind in Kind
        if kind not in (Kind.REPORT, Kind.LEASE, Kind.BYE)
    ],
)
def test_a_role_that_asks_what_is_not_its_business_is_closed(
    hall: Hall, role: Role, kind: Kind
) -> None:
    hall.hello(EVE_PIPE, EVE, role)
    (closed,) = hall.ask(EVE_PIPE, EVE, kind, Nothing())
    assert isinstance(closed, Closed)
    assert "may not ask" in closed.reason
    work_goes_on(hall)


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("body", [b"", b"\xc1", b"\xc0", b"\x01", b"\x91" * 500])
def test_a_body_that_is_not_what_its_kind_promises_closes_the_session(
    hall: Hall, kind: Kind, body: bytes
) -> None:
    """Promise 4: it must not come out of handle() as an error either."""
    role = Role.SUBWORKER if kind in (Kind.REPORT, Kind.LEASE) else Role.CLIENT
    hall.hello(EVE_PIPE, EVE, role)
    slot = URGENT_SLOT if kind in (Kind.CANCEL, Kind.BYE) else 0
    frames = hall.ask(EVE_PIPE, EVE, kind, body, slot=slot)
    assert [type(frame) for frame in frames] == [Closed]
    assert hall.state.statistics().closed_sessions == 1
    work_goes_on(hall)


def test_who_is_heard_only_when_it_repeats_is_told_at_once_that_it_was(hall: Hall) -> None:
    """L3: its answer may be long in coming, and silence is taken for a broken link."""
    hall.hello(EVE_PIPE, EVE, Role.CLIENT)
    assert hall.ask(EVE_PIPE, EVE, Kind.POLL, Poll(0), slot=2) == []
    hall.hello(BOB_PIPE + 100, bytes(16), Role.CLIENT)
    (working,) = hall.ask(BOB_PIPE + 100, bytes(16), Kind.POLL, Poll(0), slot=3, copy=3)
    assert isinstance(working, Working)
    assert (working.slot, working.sequence, working.copy) == (3, 1, 3)


def skip_a_sequence(hall: Hall) -> list[Frame]:
    return hall.ask(EVE_PIPE, EVE, Kind.QUERY, TaskIds(["x"]), slot=0, sequence=5)


def use_a_slot_twice(hall: Hall) -> list[Frame]:
    hall.ask(EVE_PIPE, EVE, Kind.POLL, Poll(0), slot=0, sequence=1)
    return hall.ask(EVE_PIPE, EVE, Kind.QUERY, TaskIds(["x"]), slot=0, sequence=2)


def use_a_sequence_twice(hall: Hall) -> list[Frame]:
    hall.ask(EVE_PIPE, EVE, Kind.QUERY, TaskIds(["x"]), slot=0, sequence=1)
    return hall.ask(EVE_PIPE, EVE, Kind.QUERY, TaskIds(["y"]), slot=0, sequence=1)


def ask_in_the_urgent_slot(hall: Hall) -> list[Frame]:
    return hall.ask(EVE_PIPE, EVE, Kind.QUERY, TaskIds(["x"]), slot=URGENT_SLOT)


@pytest.mark.parametrize(
    "break_a_rule",
    [skip_a_sequence, use_a_slot_twice, use_a_sequence_twice, ask_in_the_urgent_slot],
)
def test_who_breaks_a_rule_of_the_slots_is_closed_and_nobody_else(
    hall: Hall, break_a_rule: Callable[[Hall], list[Frame]]
) -> None:
    hall.hello(EVE_PIPE, EVE, Role.CLIENT)
    assert [type(frame) for frame in break_a_rule(hall)] == [Closed]
    assert [type(frame) for frame in skip_a_sequence(hall)] == [Rehello]
    work_goes_on(hall)


def test_reports_of_leases_that_somebody_else_holds_change_nothing(hall: Hall) -> None:
    """S3, S8."""
    hall.hello(EVE_PIPE, EVE, Role.SUBWORKER)
    lies = Report(
        EPOCH,
        [StartedAttempt("a1", 1, 1.0), StartedAttempt("a2", 0, 1.0)],
        [EndedAttempt("a1", 1, WireStatus.SUCCESS, 0.0, 0.0, 0.0, 1, b"666")],
        [HandedBack("a1", 1)],
        {"add": 1e300},
    )
    hall.ask(EVE_PIPE, EVE, Kind.REPORT, lies)
    assert hall.scheduler.statistics().stale_reports == 4
    work_goes_on(hall)


def test_a_session_is_not_taken_over_by_another_role(hall: Hall) -> None:
    (refused,) = hall.hello(EVE_PIPE, ANN, Role.SUBWORKER)
    assert isinstance(refused, Refused)
    work_goes_on(hall)


def test_session_ten_thousand_and_one_is_refused_and_the_first_stay() -> None:
    """B1."""
    hall = Hall()
    hall.hello(ANN_PIPE, ANN, Role.CLIENT)
    for number in range(1, MAX_SESSIONS):
        pipe, session = 100 + number, number.to_bytes(16, "big")
        hello = Hello(PROTOCOL_VERSION, 1, session, Role.CLIENT, 0, "eve")
        hall.handle(FrameArrived(Port.BASE, Route(pipe, b""), encode(hello)), check=False)
    (refused,) = hall.hello(EVE_PIPE, EVE, Role.CLIENT)
    assert isinstance(refused, Refused)
    assert hall.state.statistics().clients == MAX_SESSIONS
    (welcome,) = hall.hello(ANN_PIPE + 50, ANN, Role.CLIENT, epoch=EPOCH)
    assert isinstance(welcome, Welcome)
    assert welcome.resumed


# --- time and pipes ---------------------------------------------------------


def test_a_pipe_that_does_not_say_hello_is_closed_after_five_seconds(hall: Hall) -> None:
    # H19 in docs/faults.md.
    hall.handle(PipeOpened(EVE_PIPE))
    hall.pass_time(HELLO_SECONDS - 0.5)
    assert hall.closed == []
    hall.pass_time(0.5)
    assert hall.closed == [EVE_PIPE]


def test_a_pipe_whose_hello_came_before_the_news_of_it_is_left_alone(hall: Hall) -> None:
    # Frames and news of pipes are read by two Trio tasks, in either order.
    hello = Hello(PROTOCOL_VERSION, 7, b"e" * 16, Role.CLIENT, 0, "eve", "", [])
    assert isinstance(hall.frame(EVE_PIPE, hello)[0], Welcome)
    hall.handle(PipeOpened(EVE_PIPE))
    hall.pass_time(HELLO_SECONDS + 1)
    assert hall.closed == []


@pytest.mark.parametrize(
    "changes",
    [{"protocol": 99}, {"port": Port.DISCOVERY}, {"epoch": EPOCH}],
    ids=["another protocol", "the discovery port", "a session that has expired"],
)
def test_an_answer_that_opens_no_session_leaves_the_pipe_its_five_seconds(
    hall: Hall, changes: dict[str, object]
) -> None:
    (answer,) = hall.hello(EVE_PIPE, EVE, Role.CLIENT, **changes)
    assert isinstance(answer, Refused | Redirect | Rehello)
    hall.pass_time(HELLO_SECONDS)
    assert hall.closed == [EVE_PIPE]


@pytest.mark.parametrize(("role", "port"), [(Role.CLIENT, 5555), (Role.SUBWORKER, 5560)])
def test_the_discovery_port_names_the_right_port(hall: Hall, role: Role, port: int) -> None:
    assert hall.hello(EVE_PIPE, EVE, role, port=Port.DISCOVERY) == [Redirect(7, port)]


def test_a_subworker_that_comes_back_in_time_keeps_its_leases(hall: Hall) -> None:
    hall.handle(PipeClosed(BOB_PIPE))
    hall.pass_time(RECONNECT_GRACE - 0.25)
    (welcome,) = hall.hello(22, BOB, Role.SUBWORKER, epoch=EPOCH)
    assert isinstance(welcome, Welcome)
    assert welcome.resumed
    hall.pass_time(5.0)
    assert hall.scheduler.is_leased("a1", 1, BOB)


def test_one_that_does_not_loses_them(hall: Hall) -> None:
    """L2."""
    hall.handle(PipeClosed(BOB_PIPE))
    hall.pass_time(RECONNECT_GRACE)
    assert not hall.scheduler.is_leased("a1", 1, BOB)
    assert hall.hello(22, BOB, Role.SUBWORKER, epoch=EPOCH) == [Rehello(BOB, EPOCH)]


def test_a_silent_subworker_loses_its_leases_after_thirty_seconds(hall: Hall) -> None:
    # H19 in docs/faults.md.
    """L2."""
    hall.pass_time(LEASE_SECONDS - 0.5)
    assert hall.scheduler.is_leased("a1", 1, BOB)
    hall.pass_time(0.5)
    assert not hall.scheduler.is_leased("a1", 1, BOB)


def test_a_process_that_our_supervisor_saw_end_is_not_waited_for(hall: Hall) -> None:
    hall.handle(ProcessExited("peer"))
    assert not hall.scheduler.is_leased("a1", 1, BOB)


def test_a_newer_poll_answers_the_older_one_empty(hall: Hall) -> None:
    assert hall.ask(ANN_PIPE, ANN, Kind.POLL, Poll(0), slot=1) == []
    (older,) = hall.ask(ANN_PIPE, ANN, Kind.POLL, Poll(0), slot=2)
    assert isinstance(older, Reply)
    assert (older.slot, decode_body(PollReply, older.body)) == (1, PollReply(0))


def test_a_cancel_reaches_the_subworker_by_its_parked_lease(hall: Hall) -> None:
    hall.ask(BOB_PIPE, BOB, Kind.LEASE, Lease(9, {"thread": 1}), slot=1)
    before = len(hall.sent)
    hall.ask(ANN_PIPE, ANN, Kind.CANCEL, TaskIds(["a1"]), slot=URGENT_SLOT)
    replies = [
        decode_body(LeaseReply, frame.body)
        for pipe, frame in hall.sent[before:]
        if pipe == BOB_PIPE and isinstance(frame, Reply)
    ]
    assert [reply.cancels for reply in replies] == [[StopOrder("a1", 1, epoch=EPOCH)]]


def test_a_control_plane_that_drains_leases_nothing_and_still_passes_cancels_on(
    hall: Hall,
) -> None:
    """L5: what runs may take long, and its caller may leave meanwhile."""
    hall.handle(DrainRequested())
    hall.ask(BOB_PIPE, BOB, Kind.LEASE, Lease(9, {"thread": 2}), slot=1)
    before = len(hall.sent)
    hall.ask(ANN_PIPE, ANN, Kind.CANCEL, TaskIds(["a1"]), slot=URGENT_SLOT)
    replies = [
        decode_body(LeaseReply, frame.body)
        for pipe, frame in hall.sent[before:]
        if pipe == BOB_PIPE and isinstance(frame, Reply)
    ]
    assert [(reply.assignments, reply.cancels) for reply in replies] == [
        ([], [StopOrder("a1", 1, epoch=EPOCH)])
    ]
    assert not hall.state.is_drained


def test_who_says_goodbye_takes_its_attached_tasks_along(hall: Hall) -> None:
    hall.ask(ANN_PIPE, ANN, Kind.BYE, Nothing(), slot=URGENT_SLOT)
    assert hall.scheduler.describe("a2", now=hall.now).status is WireStatus.CANCELLED
    assert hall.state.statistics().clients == 0


def test_a_worker_that_leaves_without_a_goodbye_is_counted_as_lost(hall: Hall) -> None:
    hall.hello(EVE_PIPE, EVE, Role.SUBWORKER)
    hall.ask(EVE_PIPE, EVE, Kind.BYE, Nothing(), slot=URGENT_SLOT)
    assert hall.state.statistics().lost_workers == 0
    hall.handle(PipeClosed(BOB_PIPE))
    hall.now += RECONNECT_GRACE
    hall.handle(DeadlinePassed())
    assert hall.state.statistics().lost_workers == 1
    assert hall.state.overview(now=hall.now).lost_workers == 1
    hall.handle(PipeClosed(ANN_PIPE))
    hall.now += LEASE_SECONDS
    hall.handle(DeadlinePassed())
    assert hall.state.statistics().clients == 0
    assert hall.state.statistics().lost_workers == 1


# --- everything at once -----------------------------------------------------

bodies = st.one_of(
    st.binary(max_size=30),
    st.just(encode(Nothing())),
    st.builds(lambda ids: encode(TaskIds(ids)), st.lists(st.sampled_from("xyz"), max_size=3)),
    st.builds(lambda n: encode(Poll(n)), st.integers(0, 2**62)),
    st.builds(
        lambda cursor, slots, draining: encode(Lease(cursor, {"thread": slots}, draining)),
        st.integers(0, 2**62),
        st.integers(0, 0),
        st.booleans(),
    ),
    st.builds(
        lambda task, attempt, seconds: encode(
            Report(
                EPOCH,
                [StartedAttempt(task, attempt, 0.0)],
                [EndedAttempt(task, attempt, WireStatus.SUCCESS, 0.0, 0.0, seconds)],
                [HandedBack(task, attempt)],
                {"add": seconds},
            )
        ),
        st.sampled_from(["a1", "a2", "x"]),
        st.integers(0, 3),
        st.floats(),
    ),
    st.builds(
        lambda task, name, attached: encode(
            Submit([TaskSpec(task, name, 3, 1, b"eve", 0.0, attached)])
        ),
        st.sampled_from(["a1", "a2", "e1", "e2"]),
        st.sampled_from(["add", "ghost"]),
        st.booleans(),
    ),
)
hostile_frames = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(STRANGE_FRAMES),
    st.builds(
        lambda session, role, epoch, label: encode(
            Hello(PROTOCOL_VERSION, 1, session, role, epoch, label)
        ),
        st.sampled_from([EVE, EVE[::-1]]),
        st.sampled_from(Role),
        st.sampled_from([0, EPOCH, EPOCH + 1]),
        st.sampled_from(["peer", "eve", "x" * 256]),
    ),
    st.builds(
        lambda session, epoch, slot, sequence, kind, body: encode(
            Request(session, epoch, slot, sequence, 1, digest(kind, body), kind, body)
        ),
        st.sampled_from([EVE, EVE[::-1]]),
        st.sampled_from([EPOCH, EPOCH, EPOCH, EPOCH + 1]),
        st.sampled_from([0, 1, URGENT_SLOT]),
        st.integers(1, 3),
        st.sampled_from(Kind),
        bodies,
    ),
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(
            st.integers(EVE_PIPE, EVE_PIPE + 2),
            hostile_frames,
            st.sampled_from(Port),
            st.sampled_from([0.0, 0.0, 0.0, 0.3, 1.0]),
        ),
        min_size=1,
        max_size=25,
    )
)
def test_whatever_strangers_send_the_honest_go_on(
    moves: list[tuple[int, bytes, Port, float]],
) -> None:
    # N6 in docs/faults.md.
    """S21. Eve may resubmit a1, unchanged or not, and be told CONFLICT: no more."""
    hall = an_open_hall()
    for pipe in range(EVE_PIPE, EVE_PIPE + 3):
        hall.hello(pipe, EVE if pipe == EVE_PIPE else EVE[::-1], Role(pipe % 2 + 1))
        hall.sequences.clear()
    hall.sequences = {(ANN, 0): 1, (BOB, 0): 1}
    for pipe, data, port, seconds in moves:
        hall.frame(pipe, data, port)
        if pipe in hall.closed:
            hall.closed.remove(pipe)
            hall.handle(PipeClosed(pipe))
            hall.handle(PipeOpened(pipe))
        hall.pass_time(seconds)
    hall.closed = [pipe for pipe in hall.closed if pipe < EVE_PIPE]
    assert hall.state.next_deadline() < math.inf
    work_goes_on(hall)


# --- streams ---


def a_hall_with_a_stream() -> Hall:
    """Ann reads the stream "s", for which she has room for 4; Bob runs it beside a1."""
    hall = an_open_hall()
    options = CallOptions(stream=4)
    spec = TaskSpec("s", "add", 0, 1, b"()", 0.0, attached=True, options=options)
    hall.ask(ANN_PIPE, ANN, Kind.SUBMIT, Submit([spec]))
    hall.ask(BOB_PIPE, BOB, Kind.LEASE, Lease(9, {"thread": 2}), slot=3)
    assert hall.scheduler.is_leased("s", 1, BOB)
    return hall


def yields(hall: Hall, *indices: int) -> list[Frame]:
    values = [YieldedValue("s", 1, index, 1, b"x" * 1000) for index in indices]
    return hall.ask(BOB_PIPE, BOB, Kind.REPORT, Report(EPOCH, yielded=values), slot=4)


def test_a_subworker_that_floods_a_stream_is_closed() -> None:
    hall = a_hall_with_a_stream()
    yields(hall, 0, 1, 2, 3)
    (closed,) = (f for f in yields(hall, 4) if isinstance(f, Closed))
    assert "with room for 4 more" in closed.reason
    assert hall.scheduler.describe("s", now=hall.now).status is WireStatus.FAILURE


def test_a_reader_that_says_it_has_read_what_it_has_not_fetched_costs_no_memory() -> None:
    hall = a_hall_with_a_stream()
    for first in range(0, 400, 4):
        yields(hall, *range(first, first + 4))
        hall.ask(ANN_PIPE, ANN, Kind.CREDIT, Credits([ReadUpTo("s", first + 4)]), slot=5)
        assert hall.state.statistics().outbox_bytes < 10_000


def test_a_reader_that_never_fetches_stops_the_generator() -> None:
    hall = a_hall_with_a_stream()
    yields(hall, 0, 1, 2, 3)
    given = hall.ask(BOB_PIPE, BOB, Kind.LEASE, Lease(9, {"thread": 2}), slot=3)
    replies = [decode_body(LeaseReply, f.body) for f in given if isinstance(f, Reply)]
    assert all(reply.credits == [] for reply in replies)


def test_nobody_tells_of_room_in_a_stream_of_another() -> None:
    hall = a_hall_with_a_stream()
    hall.hello(EVE_PIPE, EVE, Role.CLIENT)
    yields(hall, 0, 1, 2, 3)
    hall.ask(EVE_PIPE, EVE, Kind.CREDIT, Credits([ReadUpTo("s", 4)]))
    assert any(isinstance(f, Closed) for f in yields(hall, 4))


def test_a_subworker_may_not_tell_of_room() -> None:
    hall = a_hall_with_a_stream()
    sent = hall.ask(BOB_PIPE, BOB, Kind.CREDIT, Credits([ReadUpTo("s", 1)]), slot=6)
    assert any(isinstance(f, Closed) for f in sent)


def test_values_are_acknowledged_at_once_because_the_next_wait_for_it() -> None:
    hall = a_hall_with_a_stream()
    assert any(isinstance(f, Reply) and f.slot == 4 for f in yields(hall, 0))


def test_room_in_a_stream_does_not_keep_work_waiting() -> None:
    hall = a_hall_with_a_stream()
    ended = [EndedAttempt("a1", 1, WireStatus.SUCCESS, 0.0, 0.0, 1.0, 1, b"3")]
    hall.ask(BOB_PIPE, BOB, Kind.REPORT, Report(EPOCH, ended=ended), slot=2)
    yields(hall, 0, 1)
    hall.ask(ANN_PIPE, ANN, Kind.CREDIT, Credits([ReadUpTo("s", 1)]), slot=5)
    sent = hall.ask(BOB_PIPE, BOB, Kind.LEASE, Lease(2, {"thread": 2}), slot=3)
    replies = [decode_body(LeaseReply, f.body) for f in sent if isinstance(f, Reply)]
    given = replies[-1]
    assert [credit.count for credit in given.credits] == [1]
    assert [assignment.task_id for assignment in given.assignments] == ["a2"]
