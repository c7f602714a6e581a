"""The three machines, to which hostile bytes come while they are at work (N6).

As a frame from a stranger, and inside of a session that a machine has opened. No machine
may raise anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import Any, Final

from fastworker._core._attempts import (
    OUTCOME_SUCCESS,
    AttemptEnded,
    AttemptKey,
    AttemptStarted,
)
from fastworker._core._codec import REQUEST_BODIES
from fastworker._core._control_plane_events import Port
from fastworker._core._event_messages import EventsReply
from fastworker._core._link_requester import DropPipe
from fastworker._core._messages import (
    URGENT_SLOT,
    CallbacksReply,
    FunctionsReply,
    Kind,
    Lease,
    LeaseReply,
    Nothing,
    Poll,
    PollReply,
    Role,
    SubmitReply,
    TaskEvents,
    TaskIds,
)
from fastworker._core._metrics import MetricsReply
from fastworker._core._overview import DrainReply, Overview, WorkersReply
from fastworker._core._pipes import PipeClosed, PipeOpened
from fastworker._core._stored import TasksPage
from fastworker._core._subworker_events import LaneNews, StartAttempts
from fastworker._core._task_questions import TaskDetail, TasksDone
from tests.core.bench import Bench
from tests.core.one_peer import OnePeer
from tests.core.test_client_machine import Desk
from tests.core.test_control_plane_machine import (
    ANN,
    ANN_PIPE,
    BOB,
    BOB_PIPE,
    EVE_PIPE,
    an_open_hall,
    work_goes_on,
)
from tests.fuzz.hostile_messages import a_body, a_frame

# After so many cases a second has passed.
_TICK: Final = 50

REPLIES: Final[dict[Kind, Any]] = {
    Kind.SUBMIT: SubmitReply,
    Kind.POLL: PollReply,
    Kind.CANCEL: TaskEvents,
    Kind.QUERY: TaskEvents,
    Kind.WATCH: TaskEvents,
    Kind.REPORT: Nothing,
    Kind.LEASE: LeaseReply,
    Kind.BYE: Nothing,
    Kind.FUNCTIONS: FunctionsReply,
    Kind.CALLBACKS: CallbacksReply,
    Kind.CREDIT: Nothing,
    Kind.TASKS: TasksPage,
    Kind.TASK: TaskDetail,
    Kind.TASK_ACTION: TasksDone,
    Kind.OVERVIEW: Overview,
    Kind.WORKERS: WorkersReply,
    Kind.METRICS: MetricsReply,
    Kind.DRAIN: DrainReply,
    Kind.EVENTS: EventsReply,
}


class Machine:
    """A machine that lives for many cases, each of which something that it hears.

    Args:
      make: begins a life.
    """

    def __init__(
        self, name: str, share: float, life: int, make: Callable[[], _Plane | _Peer]
    ) -> None:
        self.name = name
        self.share = share
        self.life = life
        self._make = make

    def live(self, cases: Iterable[Random]) -> None:
        machine = self._make()
        for rng in cases:
            machine.hear(rng)
        machine.end()


class _Plane:
    """A control plane whom Eve sends things, while Ann and Bob work."""

    def __init__(self) -> None:
        self._hall = an_open_hall()
        self._cases = 0
        self._pipe = EVE_PIPE
        self._session = b""

    def hear(self, rng: Random) -> None:
        """From a stranger, or from somebody with a session."""
        self._connect()
        if rng.random() < 0.5:
            self._hall.frame(self._pipe, a_frame(rng), rng.choice(list(Port)))
        else:
            self._hear_body(rng)
        self._count()

    def _hear_body(self, rng: Random) -> None:
        """In a session, which is open until the first bad word."""
        if self._session not in self._hall.state._sessions.by_key:
            self._hall.sequences = {
                slot: n for slot, n in self._hall.sequences.items() if slot[0] != self._session
            }
            self._session = rng.randbytes(16)
            role = rng.choice([Role.CLIENT, Role.SUBWORKER])
            self._hall.hello(self._pipe, self._session, role, functions=[])
        kind = rng.choice(list(Kind))
        slot = URGENT_SLOT if kind in (Kind.CANCEL, Kind.BYE) else rng.randrange(8)
        body = a_body(rng, REQUEST_BODIES[kind])
        self._hall.ask(self._pipe, self._session, kind, body, slot)

    def end(self) -> None:
        """Ann and Bob have not noticed."""
        # A case or two may have been a task that Bob can run, and in no way wrong.
        others = [t for t in self._hall.scheduler.open_tasks.by_id if t not in ("a1", "a2")]
        self._hall.ask(ANN_PIPE, ANN, Kind.CANCEL, TaskIds(others), slot=URGENT_SLOT)
        work_goes_on(self._hall)

    def _connect(self) -> None:
        """By a new pipe, if the last one was closed."""
        if self._pipe == EVE_PIPE or self._pipe in self._hall.closed:
            self._hall.handle(PipeClosed(self._pipe))
            self._pipe += 1
            self._hall.handle(PipeOpened(self._pipe))

    def _count(self) -> None:
        self._cases += 1
        if self._cases % _TICK == 0:
            # Time goes by for what nobody uses any more. Ann and Bob are there all along.
            # They repeat what they have asked, as peers do that wait for long.
            lease = Lease(9, {"thread": 1})
            self._hall.ask(ANN_PIPE, ANN, Kind.POLL, Poll(0), slot=3, sequence=1)
            self._hall.ask(BOB_PIPE, BOB, Kind.LEASE, lease, slot=3, sequence=1)
            self._hall.pass_time(1.0)
            self._hall.sent.clear()
            if self._pipe not in self._hall.closed:
                self._hall.closed.clear()


class _Peer:
    """A client or a subworker whose control plane is Eve."""

    def __init__(self, peer: OnePeer) -> None:
        self._peer = peer
        self._cases = 0

    def hear(self, rng: Random) -> None:
        """Anything, or an answer to what it has asked."""
        peer = self._peer
        if rng.random() < 0.5:
            peer.handle(peer.frame_arrived(a_frame(rng)))
        elif peer.requests:
            kind = rng.choice(peer.requests).kind
            peer.answer(kind, a_body(rng, REPLIES[kind]))
        self._go_on(rng)

    def end(self) -> None:
        """Nobody has watched."""

    def _go_on(self, rng: Random) -> None:
        peer = self._peer
        self._cases += 1
        if peer.take(DropPipe):
            peer.disconnect()
        for started in peer.take(StartAttempts):
            keys = [
                AttemptKey(each.task_id, started.epoch, each.attempt)
                for each in started.assignments
            ]
            ends = [AttemptEnded(key, OUTCOME_SUCCESS, 1.0, 2.0, 1.0) for key in keys]
            peer.handle(LaneNews([*(AttemptStarted(key, 1.0) for key in keys), *ends]))
        peer.commands.clear()
        if self._cases % _TICK == 0:
            peer.pass_time(1.0)
            peer.requests = peer.requests[-100:]
        if not peer.state.is_connected:
            peer.disconnect()
            peer.connect(resumed=rng.random() < 0.5)
        if isinstance(peer, Desk) and peer.state.statistics().waiting < 5:
            peer.submit(f"t{self._cases}")


def _a_client() -> _Peer:
    desk = Desk()
    desk.connect()
    desk.submit("t", "add")
    return _Peer(desk)


def _a_subworker() -> _Peer:
    bench = Bench()
    bench.connect()
    return _Peer(bench)


MACHINES: Final = [
    Machine("control plane", 140, 50_000, _Plane),
    Machine("client", 100, 2_000, _a_client),
    Machine("subworker", 100, 2_000, _a_subworker),
]
