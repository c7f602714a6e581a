"""The cluster of pure machines with a store that outlives its control plane.

Whatever was acknowledged is there after a restart; attempts go on whose leases
hold. The store may also refuse for a while, and commits may come late: then the
moves of the test decide when (``commit``).
"""

from __future__ import annotations

import random
from collections import Counter

from fastworker._core._attempts import AttemptKey
from fastworker._core._control_plane import ControlPlaneState
from fastworker._core._control_plane_events import (
    AppendRecords,
    RecordsDurable,
    RecordsFailed,
    StoreRecovered,
)
from fastworker._core._messages import WireStatus
from fastworker._core._pipes import Flush
from fastworker._core._results import Results
from fastworker._core._scheduler import Scheduler
from fastworker._core._stored import StoredState, StoredTask
from fastworker._errors import StoreUnavailable
from tests.core.cluster import SLOTS, ClientPeer, Cluster, SubworkerPeer
from tests.kept_store import KeptStore

# The store has another clock than the machines.
WALL_OFFSET = 1e9


class DurableCluster(Cluster):
    def __init__(self, *, clients: int = 2, subworkers: int = 2, seed: int = 0) -> None:
        self.store = KeptStore()
        self.is_slow = False  # commits wait for the test
        self.waiting_commits: list[AppendRecords] = []
        self.acked: dict[str, ClientPeer] = {}
        self.fences: dict[str, list[tuple[int, int]]] = {}
        self.outcomes: dict[str, bytes] = {}
        super().__init__(clients=clients, subworkers=subworkers, seed=seed)

    # --- moves ---

    def begin_epoch(self) -> None:
        """Make a control plane that has what the store has."""
        for peer in self.peers:
            peer.lost_at = -1e18
            peer.heard_at = -1e18
        self.waiting_commits.clear()
        self.store.failure = ""
        opened = self.store.open()
        self.epoch = opened.epoch
        results = Results(max_size=1000, ttl=3600.0)
        self.scheduler = Scheduler(
            epoch=self.epoch,
            results=results,
            now=self.now,
            rng=random.Random(1),
            wall_offset=WALL_OFFSET,
        )
        self.control = ControlPlaneState(
            epoch=self.epoch,
            scheduler=self.scheduler,
            worker_id="control-plane",
            base_port=5555,
            management_port=5560,
            is_durable=True,
        )
        self.scheduler.restore_sequence(opened.last_sequence)
        for tasks in self.store.open_tasks():
            self.control.restore(tasks, now=self.now)
        for task in self.store.outcomes(limit=1000, since=0.0):
            assert task.outcome is not None
            ended_at = min(self.now, task.changed - WALL_OFFSET)
            results.put(task.outcome, task.content, now=ended_at)
        self.live_workers = {}
        self.control.check()

    def commit(self) -> None:
        """Let the transaction end that is under way."""
        if not self.waiting_commits:
            return
        command = self.waiting_commits.pop(0)
        try:
            self.store.write(command.changes)
        except StoreUnavailable as error:
            self._control(RecordsFailed(command.batch, str(error)))
        else:
            self._note_outcomes(command)
            self._control(RecordsDurable(command.batch))
        self._control(Flush())

    def break_store(self) -> None:
        self.store.failure = "no space is left on the disk"

    def mend_store(self) -> None:
        if self.store.failure:
            self.store.failure = ""
            self._control(StoreRecovered())
            self._control(Flush())

    def settle(self) -> None:
        self.is_slow = False
        self.mend_store()
        while self.waiting_commits:
            self.commit()
        super().settle()

    # --- what must hold ---

    def check(self) -> None:
        self.control.check()
        for client in self.clients:
            client.state.check()
            assert all(count == 1 for count in client.ended.values()), "told twice"
            for task_id in client.acknowledged:
                assert task_id in self.store.rows, f"S1: {task_id} was acknowledged and is lost"
        for worker in self.subworkers:
            worker.state.check()
            running = len(worker.queue) + len(worker.running)
            orphans = worker.state.statistics().orphans
            assert running - orphans <= SLOTS, f"{worker.name} holds too much"
        statistics = self.control.statistics()
        assert statistics.closed_sessions == 0, "an honest peer broke a rule"
        assert statistics.malformed_frames == 0

    def check_settled(self) -> None:
        super().check_settled()
        for task_id, row in self.store.rows.items():
            assert row.state.is_terminal, f"L1: {task_id} is {row.state.name} in the store"
        for client in self.clients:
            for task_id in client.acknowledged - client.abandoned:
                outcome = client.state.outcome(task_id)
                row = self.store.rows[task_id]
                assert outcome is not None
                assert row.outcome is not None
                assert outcome.payload == row.outcome.payload, "S11: told something else"
                assert outcome.status is row.outcome.status

    def _check_losses(self) -> None:
        """Others watch this; here restarts make most of the losses."""

    # --- carrying out commands ---

    def _take_append(self, command: AppendRecords) -> None:
        self.waiting_commits.append(command)
        if not self.is_slow:
            self.commit()

    def _stored(self, ids: list[str]) -> list[StoredTask]:
        return self.store.read(ids)

    def _note_outcomes(self, command: AppendRecords) -> None:
        changes = command.changes
        for task in (*changes.created, *changes.updated):
            fence = task.life.fence_epoch, task.life.fence
            known = self.fences.setdefault(task.spec.id, [])
            if task.state is StoredState.LEASED and fence not in known:
                assert all(attempt < fence[1] for _, attempt in known), "S5: a fence twice"
                known.append(fence)
            outcome = task.outcome
            if outcome is not None:
                assert task.spec.id not in self.outcomes, "S2: it ended twice"
                self.outcomes[task.spec.id] = outcome.payload
                if outcome.status is WireStatus.SUCCESS:
                    _, epoch, attempt = outcome.payload.decode().split(":")
                    assert fence == (int(epoch), int(attempt)), "S8: a stale fence was accepted"


def overlaps(cluster: DurableCluster) -> Counter[str]:
    """How many attempts of each task run at this moment."""
    running: Counter[str] = Counter()
    for worker in cluster.subworkers:
        assert isinstance(worker, SubworkerPeer)
        for key in worker.running:
            assert isinstance(key, AttemptKey)
            running[key.task_id] += 1
    return running
