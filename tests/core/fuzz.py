"""Feed hostile bytes to everything that reads what strangers send, in memory (N6).

    python -m tests.core.fuzz [COUNT] [SEED]

COUNT is 1,000,000 unless it is given. Each case goes to the parser of frames, of bodies,
of bundles or of values, or to one of the three machines: as a frame, or inside of a
session that the machine has opened. A parser may raise its one error, a machine none. It
prints how much the process has grown, and fails if that is more than 50 MiB.
"""

from __future__ import annotations

import resource
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, Final

from fastworker._core._attempts import (
    OUTCOME_SUCCESS,
    AttemptEnded,
    AttemptKey,
    AttemptStarted,
)
from fastworker._core._bundle import split
from fastworker._core._codec import REQUEST_BODIES, decode_body, decode_frame
from fastworker._core._control_plane_events import Port
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
from fastworker._errors import NotDecodable, RemoteProtocolError
from fastworker._models import SerializationFormat
from fastworker._serialization import decode_arguments, decode_result
from tests.core.bench import Bench
from tests.core.hostile_cases import BODIES, a_body, a_bundle, a_frame, a_json
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

MAX_GROWTH: Final = 50.0
MIB: Final = 1024 * 1024
# A peer lives for so many cases; the control plane for all of them.
_LIFE: Final = 2_000
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
}


class Unexpected(Exception):
    """A case came out as it must not."""


class Campaign:
    """One run over many cases; ``counts`` says how many went where.

    Args:
      seed: the same cases come of the same seed.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._rng = Random(seed)
        self._plane = _Plane(self._rng)
        self._client = _Peer(self._rng, _a_client)
        self._subworker = _Peer(self._rng, _a_subworker)
        self._targets: list[Callable[[], None]] = [
            self._frame,
            self._body,
            self._bundle,
            self._json,
            self._plane.hear_frame,
            self._plane.hear_body,
            self._client.hear_frame,
            self._client.hear_reply,
            self._subworker.hear_frame,
            self._subworker.hear_reply,
        ]
        self.counts: Counter[str] = Counter()

    def run(self, count: int) -> float:
        """Try so many cases.

        Returns:
          By how many MiB the process has grown at its largest.

        Raises:
          Unexpected: something else was raised than the one error.
        """
        before = most = resident()
        for number in range(count):
            target = self._rng.choice(self._targets)
            self.counts[target.__qualname__] += 1
            try:
                target()
            except BaseException as error:
                where = f"case {number} of seed {self._seed}, {target.__qualname__}"
                raise Unexpected(f"{where}: {error!r}") from error
            if number % 10_000 == 0:
                most = max(most, resident())
        return max(0.0, (max(most, resident()) - before) / MIB)

    def end(self) -> None:
        """Assert that who worked on all the while has noticed nothing; the last call."""
        self._plane.end()

    def _frame(self) -> None:
        _try(decode_frame, a_frame(self._rng))

    def _body(self) -> None:
        kind = self._rng.choice(BODIES)
        _try(lambda data: decode_body(kind, data), a_body(self._rng, kind))

    def _bundle(self) -> None:
        _try(split, a_bundle(self._rng))

    def _json(self) -> None:
        data = a_json(self._rng)
        decode = self._rng.choice([decode_arguments, decode_result])
        try:
            decode(data, SerializationFormat.JSON)
        except NotDecodable:
            pass


def _try(decode: Callable[[bytes], object], data: bytes) -> None:
    try:
        decode(data)
    except RemoteProtocolError:
        pass


class _Plane:
    """A control plane whom Eve sends things, while Ann and Bob work."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._hall = an_open_hall()
        self._cases = 0
        self._pipe = EVE_PIPE
        self._session = b""

    def hear_frame(self) -> None:
        """From a stranger."""
        self._connect()
        self._hall.frame(self._pipe, a_frame(self._rng), self._rng.choice(list(Port)))
        self._count()

    def hear_body(self) -> None:
        """From somebody with a session, which is open until the first bad word."""
        self._connect()
        if self._session not in self._hall.state._sessions:
            self._hall.sequences = {
                slot: n for slot, n in self._hall.sequences.items() if slot[0] != self._session
            }
            self._session = self._rng.randbytes(16)
            role = self._rng.choice([Role.CLIENT, Role.SUBWORKER])
            self._hall.hello(self._pipe, self._session, role, functions=[])
        kind = self._rng.choice(list(Kind))
        slot = URGENT_SLOT if kind in (Kind.CANCEL, Kind.BYE) else self._rng.randrange(8)
        body = a_body(self._rng, REQUEST_BODIES[kind])
        self._hall.ask(self._pipe, self._session, kind, body, slot)
        self._count()

    def end(self) -> None:
        """Ann and Bob have not noticed."""
        # A case or two may have been a task that Bob can run, and in no way wrong.
        others = [t for t in self._hall.scheduler._tasks if t not in ("a1", "a2")]
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

    def __init__(self, rng: Random, make: Callable[[], OnePeer]) -> None:
        self._rng = rng
        self._make = make
        self._cases = 0
        self._peer = make()

    def hear_frame(self) -> None:
        """Anything, at any moment."""
        self._peer.handle(self._peer.frame_arrived(a_frame(self._rng)))
        self._count()

    def hear_reply(self) -> None:
        """An answer to what it has asked."""
        if self._peer.requests:
            kind = self._rng.choice(self._peer.requests).kind
            self._peer.answer(kind, a_body(self._rng, REPLIES[kind]))
        self._count()

    def _count(self) -> None:
        peer = self._peer
        self._cases += 1
        if self._cases % _LIFE == 0:
            self._peer = self._make()
            return
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
            peer.connect(resumed=self._rng.random() < 0.5)
        if isinstance(peer, Desk) and peer.state.statistics().waiting < 5:
            peer.submit(f"t{self._cases}")


def _a_client() -> Desk:
    desk = Desk()
    desk.connect()
    desk.submit("t", "add")
    return desk


def _a_subworker() -> Bench:
    bench = Bench()
    bench.connect()
    return bench


def resident() -> int:
    """How many bytes of memory this process has."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def main(count: int = 1_000_000, seed: int = 7) -> int:
    """See the module's first lines; returns the exit code."""
    campaign = Campaign(seed)
    began = time.perf_counter()
    try:
        campaign.run(5_000)  # what is made once, and kept
        growth = campaign.run(count)
        campaign.end()
    except Unexpected:
        traceback.print_exc()
        return 1
    for name, number in sorted(campaign.counts.items()):
        print(f"{number:>9,} {name}")
    seconds = time.perf_counter() - began
    print(f"{count:>9,} cases of seed {seed} in {seconds:.0f} s: grown by {growth:.1f} MiB")
    if growth > MAX_GROWTH:
        print(f"that is more than {MAX_GROWTH:g} MiB")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*(int(each.replace(",", "").replace("_", "")) for each in sys.argv[1:])))
