"""A whole cluster of pure machines, with a network and a clock that the test moves.

No socket, no loop, no real time: frames lie in a list until a move delivers,
drops, doubles or overtakes them. The cluster watches everything that is
promised about the link while the moves go on (see ``check``), and at the end
``settle`` heals the network and asks for what must have happened.
"""

from __future__ import annotations

import math
import random
from collections import Counter

from fastworker._core._attempts import (
    OUTCOME_CANCELLED,
    OUTCOME_SUCCESS,
    AttemptEnded,
    AttemptKey,
    AttemptStarted,
)
from fastworker._core._client import ClientState
from fastworker._core._client_events import (
    CancelRequested,
    QueryAbandoned,
    QueryAnswered,
    QueryMade,
    TaskAbandoned,
    TaskAcknowledged,
    TaskEnded,
    TaskRejected,
    TaskSubmitted,
)
from fastworker._core._client_events import FrameArrived as ClientFrame
from fastworker._core._control_plane import ControlPlaneState
from fastworker._core._control_plane_events import (
    AppendRecords,
    ClosePipe,
    FrameArrived,
    NoteAction,
    Port,
    ReadTasks,
    RecordsDurable,
    TasksRead,
)
from fastworker._core._link_requester import DropPipe, SendFrame
from fastworker._core._link_responder import SendTo
from fastworker._core._messages import FunctionInfo, TaskSpec, WireStatus
from fastworker._core._pipes import DeadlinePassed, Flush, PipeClosed, PipeOpened, Route
from fastworker._core._results import Results
from fastworker._core._scheduler import Scheduler
from fastworker._core._session_table import LEASE_SECONDS, RECONNECT_GRACE
from fastworker._core._stored import StoredTask
from fastworker._core._subworker import SubworkerState
from fastworker._core._subworker_events import (
    AttemptsTakenBack,
    CancelAttempt,
    LaneNews,
    StartAttempts,
    TakeBack,
)
from fastworker._core._subworker_events import FrameArrived as SubworkerFrame

SLOTS = 2
TASK_NAME = "work"


class Peer:
    """A client or a subworker, and its end of the network."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.pipe: int | None = None
        self.heard_at = -math.inf  # when the control plane last got a frame of it
        self.heard_on = 0  # and by which pipe
        self.lost_at = -math.inf  # when that pipe closed


class ClientPeer(Peer):
    def __init__(self, name: str, state: ClientState) -> None:
        super().__init__(name)
        self.state = state
        self.waiting: set[str] = set()  # not acknowledged, caller still there
        self.acknowledged: set[str] = set()
        self.rejected: dict[str, str] = {}
        self.ended: Counter[str] = Counter()
        self.abandoned: set[str] = set()
        self.queries: set[int] = set()
        self.submitted: set[str] = set()
        self.cancelling: set[str] = set()  # others' tasks whose end it wants to hear


class SubworkerPeer(Peer):
    def __init__(self, name: str, state: SubworkerState) -> None:
        super().__init__(name)
        self.state = state
        self.queue: list[AttemptKey] = []
        self.running: list[AttemptKey] = []
        self.told_to_stop: set[AttemptKey] = set()


class Cluster:
    """See the module's first lines. ``pipes`` are never used twice."""

    def __init__(self, *, clients: int = 2, subworkers: int = 2, seed: int = 0) -> None:
        self.random = random.Random(seed)
        self.now = 1000.0
        self.epoch = 0
        self.pipes = 0
        self.task_ids = 0
        self.query_ids = 0
        # in flight: (to the control plane?, peer, pipe, bytes)
        self.frames: list[tuple[bool, Peer, int, bytes]] = []
        self.queued: Counter[tuple[int, str]] = Counter()
        self.starts: Counter[tuple[int, str]] = Counter()
        self.losses = 0
        self.clients = [
            ClientPeer(
                f"c{n}",
                ClientState(new_session_id=self._session_id, retries=1000, label=f"c{n}"),
            )
            for n in range(clients)
        ]
        self.subworkers = [
            SubworkerPeer(
                f"w{n}",
                SubworkerState(
                    worker_id=f"w{n}",
                    functions=[FunctionInfo(TASK_NAME, "thread")],
                    slots={"thread": SLOTS},
                    new_session_id=self._session_id,
                ),
            )
            for n in range(subworkers)
        ]
        self.peers: list[Peer] = [*self.clients, *self.subworkers]
        self.restart()

    def _session_id(self) -> bytes:
        return self.random.randbytes(16)

    # --- moves ---

    def restart(self) -> None:
        """The control plane dies and comes back with an empty store."""
        self.frames.clear()
        for peer in self.peers:
            if peer.pipe is not None:
                peer.pipe = None
                self._tell_pipe(peer, opened=None)
        self.begin_epoch()
        for peer in self.peers:
            self.connect(peer)

    def begin_epoch(self) -> None:
        """Make a control plane that knows nothing of the one before."""
        self.epoch += 1
        for peer in self.peers:
            peer.lost_at = -math.inf
            peer.heard_at = -math.inf
        results = Results(max_size=1000, ttl=3600.0)
        self.scheduler = Scheduler(
            epoch=self.epoch, results=results, now=self.now, rng=random.Random(1)
        )
        self.control = ControlPlaneState(
            epoch=self.epoch,
            scheduler=self.scheduler,
            worker_id="control-plane",
            base_port=5555,
            management_port=5560,
        )
        self.live_workers: dict[bytes, str] = {}

    def connect(self, peer: Peer) -> None:
        if peer.pipe is None:
            self.pipes += 1
            peer.pipe = self.pipes
            self._control(PipeOpened(peer.pipe))
            self._tell_pipe(peer, opened=peer.pipe)

    def reset_pipe(self, peer: Peer) -> None:
        """The pipe breaks; what was under way on it is lost."""
        if peer.pipe is None:
            return
        pipe, peer.pipe = peer.pipe, None
        self.frames = [frame for frame in self.frames if frame[2] != pipe]
        if peer.heard_on == pipe:
            peer.lost_at = self.now
        self._control(PipeClosed(pipe))
        self._tell_pipe(peer, opened=None, closed=pipe)

    def deliver(self, index: int) -> None:
        self._arrive(self.frames.pop(index))

    def drop(self, index: int) -> None:
        del self.frames[index]

    def double(self, index: int) -> None:
        self.frames.append(self.frames[index])

    def submit(self, client: ClientPeer) -> str:
        self.task_ids += 1
        task_id = f"t{self.task_ids}"
        client.waiting.add(task_id)
        client.submitted.add(task_id)
        spec = TaskSpec(task_id, TASK_NAME, 2, 1, b"[[],{}]", 0.0, attached=False)
        self._client(client, TaskSubmitted(spec))
        self._client(client, Flush())
        return task_id

    def abandon(self, client: ClientPeer, task_id: str) -> None:
        """The caller of a task is cancelled."""
        client.waiting.discard(task_id)
        client.abandoned.add(task_id)
        self._client(client, TaskAbandoned(task_id))
        self._client(client, Flush())

    def cancel(self, client: ClientPeer, task_id: str, grace: float | None) -> None:
        """Somebody wants a task stopped, that may be another's, and hears its end."""
        if task_id in client.submitted:
            if not client.state.holds(task_id) or client.state.outcome(task_id):
                return
        else:
            client.cancelling.add(task_id)
        self._client(client, CancelRequested(task_id, grace))
        self._client(client, Flush())

    def query(self, client: ClientPeer, task_id: str) -> None:
        self.query_ids += 1
        client.queries.add(self.query_ids)
        self._client(client, QueryMade(self.query_ids, task_id))
        self._client(client, Flush())

    def abandon_query(self, client: ClientPeer) -> None:
        """The caller of a query is cancelled."""
        query_id = min(client.queries)
        client.queries.discard(query_id)
        self._client(client, QueryAbandoned(query_id))
        self._client(client, Flush())

    def start(self, worker: SubworkerPeer) -> None:
        """A lane starts the first attempt in its queue, if a slot is free."""
        if worker.queue and len(worker.running) < SLOTS:
            key = worker.queue.pop(0)
            worker.running.append(key)
            self.starts[key.epoch, key.task_id] += 1
            self._subworker(worker, LaneNews([AttemptStarted(key, self.now)]))
            self._subworker(worker, Flush())

    def end(self, worker: SubworkerPeer, index: int) -> None:
        """User code of a running attempt ends."""
        key = worker.running.pop(index)
        kind = OUTCOME_CANCELLED if key in worker.told_to_stop else OUTCOME_SUCCESS
        event = AttemptEnded(
            key, kind, self.now, self.now, 1.0, payload=_payload(worker.name, key), format=1
        )
        self._subworker(worker, LaneNews([event]))
        self._subworker(worker, Flush())

    def pass_time(self, seconds: float) -> None:
        """Time goes on, stopping at every deadline on the way."""
        end = self.now + seconds
        for _ in range(100_000):
            deadline = min(
                self.control.next_deadline(),
                *(c.state.next_deadline() for c in self.clients),
                *(w.state.next_deadline() for w in self.subworkers),
            )
            if deadline > end:
                break
            self.now = max(self.now, deadline)
            if self.control.next_deadline() <= self.now:
                self._control(DeadlinePassed())
                assert self.control.next_deadline() > self.now, "the alarm would spin"
                self._flush_control()
            for client in self.clients:
                if client.state.next_deadline() <= self.now:
                    self._client(client, DeadlinePassed())
                    assert client.state.next_deadline() > self.now, "the alarm would spin"
            for worker in self.subworkers:
                if worker.state.next_deadline() <= self.now:
                    self._subworker(worker, DeadlinePassed())
                    assert worker.state.next_deadline() > self.now, "the alarm would spin"
                    self._subworker(worker, Flush())
        else:
            raise AssertionError("time does not get on")
        self.now = end

    def run_network(self, limit: int = 2000) -> None:
        """Deliver frames in order until none is under way."""
        for _ in range(limit):
            if not self.frames:
                return
            self.deliver(0)
        raise AssertionError("the network does not come to rest")

    def settle(self) -> None:
        """Heal everything and let all work end."""
        for _ in range(80):
            for peer in self.peers:
                self.connect(peer)
            self.run_network()
            for worker in self.subworkers:
                while worker.queue or worker.running:
                    while worker.queue and len(worker.running) < SLOTS:
                        self.start(worker)
                    if worker.running:
                        self.end(worker, 0)
                    self.run_network()
            self.pass_time(1.0)
            self.check()
        self.check_settled()

    def check_settled(self) -> None:
        """Everybody who stayed has an answer, once, and nothing is left to do."""
        for client in self.clients:
            assert not client.waiting, f"never acknowledged: {client.waiting}"
            assert not client.queries, "a query was never answered"
            assert not client.cancelling, f"never heard of the end of {client.cancelling}"
            for task_id in client.acknowledged - client.abandoned:
                assert client.ended[task_id] == 1, (
                    f"{task_id}: {client.ended[task_id]} outcomes"
                )
            assert not client.state._tasks, f"left behind: {client.state._tasks}"
        statistics = self.control.statistics()
        assert statistics.tasks.leased == statistics.tasks.started == 0
        assert sum(statistics.tasks.ready) == 0

    # --- what must hold after every move ---

    def check(self) -> None:
        self.control.check()
        for client in self.clients:
            client.state.check()
            assert all(count == 1 for count in client.ended.values()), "told twice"
        for worker in self.subworkers:
            worker.state.check()
            held = len(worker.queue) + len(worker.running)
            assert held <= SLOTS, f"{worker.name} holds {held} attempts for {SLOTS} slots"
        for record in self.control.scheduler._workers.values():
            for lane in record.lanes.values():
                assert len(lane.leased) <= SLOTS, "leased beyond the capacity"
        for (epoch, task_id), count in self.queued.items():
            assert count == 1, f"{task_id} took effect {count} times in epoch {epoch}"
        for (epoch, task_id), count in self.starts.items():
            assert count <= 1 + self.losses, f"{task_id} ran {count} times in epoch {epoch}"
        statistics = self.control.statistics()
        assert statistics.closed_sessions == 0, "an honest peer broke a rule"
        assert statistics.malformed_frames == 0
        sessions = len(self.peers) * 4
        assert statistics.kept_bytes <= sessions * 16 * 4096

    def _check_losses(self) -> None:
        """No subworker is given up before its time."""
        known = {
            key: session.label
            for key, session in self.control._sessions.by_key.items()
            if key in self.control.scheduler._workers
        }
        for key, label in self.live_workers.items():
            if key in known:
                continue
            self.losses += 1
            peer = next(p for p in self.peers if p.name == label)
            away = self.now - peer.lost_at
            silent = self.now - peer.heard_at
            # A new session on the same pipe also ends the old one's hold on it.
            replaced = any(other == label for k, other in known.items() if k != key)
            assert away >= RECONNECT_GRACE or silent >= LEASE_SECONDS or replaced, (
                f"{label} was given up after {away} s without a pipe, {silent} s silent"
            )
        self.live_workers = known

    # --- carrying out commands ---

    def _arrive(self, frame: tuple[bool, Peer, int, bytes]) -> None:
        up, peer, pipe, data = frame
        if up:
            peer.heard_at = self.now
            peer.heard_on = pipe
            self._control(FrameArrived(Port.BASE, Route(pipe, b""), data))
            self._flush_control()
        elif peer.pipe == pipe:
            self._to_peer(peer, data)

    def _to_peer(self, peer: Peer, data: bytes) -> None:
        if isinstance(peer, ClientPeer):
            self._client(peer, ClientFrame(data))
            self._client(peer, Flush())
        else:
            assert isinstance(peer, SubworkerPeer)
            self._subworker(peer, SubworkerFrame(data))
            self._subworker(peer, Flush())

    def _tell_pipe(self, peer: Peer, opened: int | None, closed: int = 0) -> None:
        event = PipeOpened(opened) if opened is not None else PipeClosed(closed or self.pipes)
        if isinstance(event, PipeClosed) and not closed:
            event = PipeClosed(self._link_pipe(peer))
        if isinstance(peer, ClientPeer):
            self._client(peer, event)
            self._client(peer, Flush())
        else:
            assert isinstance(peer, SubworkerPeer)
            self._subworker(peer, event)
            self._subworker(peer, Flush())

    def _link_pipe(self, peer: Peer) -> int:
        pipe = peer.state._link._pipe  # type: ignore[attr-defined]
        return -1 if pipe is None else pipe

    def _flush_control(self) -> None:
        self._control(Flush())

    def _control(self, event: object) -> None:
        for command in self.control.handle(event, now=self.now):  # type: ignore[arg-type]
            if isinstance(command, SendTo):
                peer = next((p for p in self.peers if p.pipe == command.route.pipe), None)
                if peer is not None:
                    self.frames.append((False, peer, command.route.pipe, command.data))
            elif isinstance(command, ClosePipe):
                peer = next((p for p in self.peers if p.pipe == command.pipe), None)
                if peer is not None:
                    self.reset_pipe(peer)
            elif isinstance(command, ReadTasks):
                self._control(TasksRead(command, self._stored(command.ids), len(command.ids)))
            elif not isinstance(command, NoteAction):
                assert isinstance(command, AppendRecords)
                self._take_append(command)
        self._check_losses()

    def _stored(self, ids: list[str]) -> list[StoredTask]:
        """What the store has of these tasks; here there is none."""
        return []

    def _take_append(self, command: AppendRecords) -> None:
        self._append(command)
        self._control(RecordsDurable(command.batch))
        self._control(Flush())

    def _append(self, command: AppendRecords) -> None:
        for task in command.changes.created:
            self.queued[self.epoch, task.spec.id] += 1
        for task in (*command.changes.created, *command.changes.updated):
            event = task.outcome
            if event is not None and event.status is WireStatus.SUCCESS:
                _, epoch, attempt = event.payload.decode().split(":")
                assert int(epoch) == self.epoch, f"a report of epoch {epoch} was accepted"
                assert int(attempt) >= event.attempts

    def _client(self, client: ClientPeer, event: object) -> None:
        for command in client.state.handle(event, now=self.now):  # type: ignore[arg-type]
            match command:
                case SendFrame(data=data):
                    self._send_up(client, data)
                case DropPipe():
                    self.reset_pipe(client)
                case TaskAcknowledged(task_id=task_id):
                    client.waiting.discard(task_id)
                    client.acknowledged.add(task_id)
                case TaskRejected(task_id=task_id, message=message):
                    client.waiting.discard(task_id)
                    client.rejected[task_id] = message
                case TaskEnded(task_id=task_id):
                    client.waiting.discard(task_id)  # cancelled before it was sent
                    if task_id in client.submitted:
                        client.ended[task_id] += 1
                    else:
                        assert task_id in client.cancelling, "told twice of another's task"
                        client.cancelling.discard(task_id)
                case QueryAnswered(query_id=query_id):
                    client.queries.discard(query_id)
                case _:
                    pass

    def _subworker(self, worker: SubworkerPeer, event: object) -> None:
        for command in worker.state.handle(event, now=self.now):  # type: ignore[arg-type]
            match command:
                case SendFrame(data=data):
                    self._send_up(worker, data)
                case DropPipe():
                    self.reset_pipe(worker)
                case StartAttempts(epoch=epoch, assignments=assignments):
                    for item in assignments:
                        key = AttemptKey(item.task_id, epoch, item.attempt)
                        assert key not in worker.queue + worker.running, "given twice"
                        worker.queue.append(key)
                case CancelAttempt(key=key):
                    worker.told_to_stop.add(key)
                case TakeBack():
                    keys, worker.queue = worker.queue, []
                    self._subworker(worker, AttemptsTakenBack(keys))
                    self._subworker(worker, Flush())
                case _:
                    pass

    def _send_up(self, peer: Peer, data: bytes) -> None:
        if peer.pipe is not None:
            self.frames.append((True, peer, peer.pipe, data))


def _payload(worker: str, key: AttemptKey) -> bytes:
    return f"{worker}:{key.epoch}:{key.attempt}".encode()
