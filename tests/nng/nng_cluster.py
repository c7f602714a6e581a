"""The cluster of pure machines of the model, on real sockets and in real time.

The bookkeeping and everything that must hold are ``tests.core.cluster``'s;
only how frames, pipes and time get from one machine to another is replaced.
All machines live in one event loop, each with a link or listener of its own.
NNG loses nothing on a healthy pipe, so what is lost here is lost by closing
pipes: from either end, at moments that the network chooses.
"""

from __future__ import annotations

import time
from collections import deque

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

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
from fastworker._core._link_responder import SendTo
from fastworker._core._pipes import DeadlinePassed, Flush, PipeClosed, PipeEvent, PipeOpened
from fastworker._errors import AddressInUse
from fastworker._transport._nng import NngLink, NngListener, NngTransport
from tests.core.cluster import SLOTS, ClientPeer, Cluster, Peer, SubworkerPeer

TICK = 0.002


class End:
    """A peer's link, and frames that wait for room or die with their pipe."""

    def __init__(self, link: NngLink) -> None:
        self.link = link
        self.outbox: deque[bytes] = deque()
        self.filled = anyio.Event()

    def send(self, frame: bytes) -> None:
        self.outbox.append(frame)
        self.flush()

    def flush(self) -> None:
        while self.outbox and self.link.send_nowait(self.outbox[0]):
            self.outbox.popleft()
        if self.outbox:
            self.filled.set()

    async def run(self) -> None:
        while True:
            await self.filled.wait()
            self.filled = anyio.Event()
            while self.outbox:
                await self.link.wait_sendable()
                self.flush()


class NngCluster(Cluster):
    """Moves are as in the model, but nobody moves the network and the clock."""

    def __init__(self, *, seed: int) -> None:
        self._group: TaskGroup
        self._ends: dict[str, End] = {}
        self._listener: NngListener
        self._serving = anyio.CancelScope()
        self._served = anyio.Event()
        self.closed_pipes = 0
        super().__init__(seed=seed)

    # --- life ---

    def restart(self) -> None:
        """Only the constructor calls this; :meth:`open` does the rest."""

    def open(self, group: TaskGroup) -> None:
        """Begin to listen, and let everybody dial."""
        self._group = group
        self.look_at_the_clock()
        self.begin_epoch()
        self._listener = NngTransport().listen("tcp://127.0.0.1:0")
        self._serving, self._served = anyio.CancelScope(), anyio.Event()
        self._group.start_soon(self._serve, self._listener, self._serving, self._served)
        for peer in self.peers:
            end = End(NngTransport().dial(self._listener.address))
            self._ends[peer.name] = end
            self._group.start_soon(end.run)
            self._group.start_soon(self._receive, peer, end.link)
            self._group.start_soon(self._receive_pipe_events, peer, end)
        self._group.start_soon(self._run_clock)

    def close(self) -> None:
        """Release the sockets; the group must have ended."""
        self._listener.close()
        for end in self._ends.values():
            end.link.close()

    async def restart_on_the_same_port(self) -> None:
        """The control plane dies and comes back with an empty store."""
        address = self._listener.address
        self._serving.cancel()
        await self._served.wait()
        self._listener.close()
        self.look_at_the_clock()
        self.begin_epoch()
        with anyio.fail_after(5):
            while True:
                try:
                    self._listener = NngTransport().listen(address)
                    break
                except AddressInUse:
                    await anyio.sleep(0.01)
        self._serving, self._served = anyio.CancelScope(), anyio.Event()
        self._group.start_soon(self._serve, self._listener, self._serving, self._served)

    # --- moves ---

    def reset_pipe(self, peer: Peer) -> None:
        """The peer's end closes."""
        self.closed_pipes += 1
        self._ends[peer.name].link.drop_pipe()

    def close_a_pipe(self) -> None:
        """The control plane's end closes, one that is in use or one of before."""
        pipes = [peer.heard_on for peer in self.peers if peer.heard_on]
        if pipes:
            self.closed_pipes += 1
            self._listener.close_pipe(self.random.choice(pipes))

    def connect(self, peer: Peer) -> None:
        """Links do that by themselves."""

    async def settle_in_time(self, within: float) -> None:
        """Let all work end."""
        with anyio.move_on_after(within):
            while not self._is_settled():
                for worker in self.subworkers:
                    while worker.queue and len(worker.running) < SLOTS:
                        self.start(worker)
                    while worker.running:
                        self.end(worker, 0)
                await anyio.sleep(TICK)
                self.look_at_the_clock()
                self.check()
        self.check_settled()

    def _is_settled(self) -> bool:
        tasks = self.control.statistics().tasks
        return (
            not any(c.waiting or c.queries or c.state._tasks for c in self.clients)
            and not any(w.queue or w.running for w in self.subworkers)
            and tasks.leased + tasks.started + sum(tasks.ready) == 0
        )

    # --- the network and the clock ---

    def look_at_the_clock(self) -> None:
        self.now = time.monotonic()

    async def _serve(
        self, listener: NngListener, scope: anyio.CancelScope, ended: anyio.Event
    ) -> None:
        with scope:
            await anyio.lowlevel.checkpoint()  # it may be over before it begins
            async with anyio.create_task_group() as group:
                group.start_soon(listener.run_backlog)
                group.start_soon(self._listen, listener)
                group.start_soon(self._listen_for_pipes, listener)
        ended.set()

    async def _listen(self, listener: NngListener) -> None:
        while True:
            for route, data in await listener.receive():
                self.look_at_the_clock()
                self._control(FrameArrived(Port.BASE, route, data))
                self._note_heard(route.pipe)
            self._flush_control()
            self.check()

    async def _listen_for_pipes(self, listener: NngListener) -> None:
        while True:
            for event in await listener.receive_pipe_events():
                self.look_at_the_clock()
                if isinstance(event, PipeClosed):
                    for peer in self.peers:
                        if peer.heard_on == event.pipe:
                            peer.lost_at = self.now
                self._control(event)
            self._flush_control()
            self.check()

    def _note_heard(self, pipe: int) -> None:
        session = self.control._sessions._by_pipe.get(pipe)
        if session is not None:
            label = self.control._sessions.by_key[session].label
            peer = next(peer for peer in self.peers if peer.name == label)
            peer.heard_at = self.now
            peer.heard_on = pipe

    async def _receive(self, peer: Peer, link: NngLink) -> None:
        while True:
            for data in await link.receive():
                self.look_at_the_clock()
                self._to_peer(peer, data)
            self.check()

    async def _receive_pipe_events(self, peer: Peer, end: End) -> None:
        while True:
            for event in await end.link.receive_pipe_events():
                self.look_at_the_clock()
                end.outbox.clear()
                peer.pipe = event.pipe if isinstance(event, PipeOpened) else None
                self._to_machine(peer, event)
                self._to_machine(peer, Flush())
            self.check()

    async def _run_clock(self) -> None:
        while True:
            await anyio.sleep(TICK)
            self.look_at_the_clock()
            if self.control.next_deadline() <= self.now:
                self._control(DeadlinePassed())
                assert self.control.next_deadline() > self.now, "the alarm would spin"
            self._flush_control()
            for peer in [*self.clients, *self.subworkers]:
                if peer.state.next_deadline() <= self.now:
                    self._to_machine(peer, DeadlinePassed())
                    assert peer.state.next_deadline() > self.now, "the alarm would spin"
                    self._to_machine(peer, Flush())

    def _to_machine(self, peer: Peer, event: PipeEvent | DeadlinePassed | Flush) -> None:
        if isinstance(peer, ClientPeer):
            self._client(peer, event)
        else:
            assert isinstance(peer, SubworkerPeer)
            self._subworker(peer, event)

    def _send_up(self, peer: Peer, data: bytes) -> None:
        if peer.pipe is not None:
            self._ends[peer.name].send(data)

    def _control(self, event: object) -> None:
        for command in self.control.handle(event, now=self.now):  # type: ignore[arg-type]
            if isinstance(command, SendTo):
                self._listener.send(command.route, command.data)
            elif isinstance(command, ClosePipe):
                self._listener.close_pipe(command.pipe)
            elif isinstance(command, ReadTasks):
                self._control(TasksRead(command, self._stored(command.ids), len(command.ids)))
            elif not isinstance(command, NoteAction):
                assert isinstance(command, AppendRecords)
                self._append(command)
                self._control(RecordsDurable(command.batch))
                self._control(Flush())
        self._check_losses()
