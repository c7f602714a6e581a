"""What was acknowledged survives, as a model: restarts, a store that is slow or full.

The same moves as for the session link, with a store that outlives the control
plane. S1: an acknowledged task is in the store. S2: it ends once. S5, S8: fences
grow over restarts, and no stale one is accepted. S11, S12: who waits hears what
the store has. L1: in the end nothing is left to do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule, run_state_machine_as_test

from fastworker._core import _pending_changes as pending_changes
from fastworker._core import _restart as restart
from fastworker._core._codec import decode_body
from fastworker._core._control_plane_events import (
    AppendRecords,
    ControlPlaneCommand,
    OldProcessesEnded,
    RecordsDurable,
    RecordsFailed,
    StoreRecovered,
)
from fastworker._core._durability_barrier import GATHER_SECONDS, DurabilityBarrier
from fastworker._core._losses import Losses
from fastworker._core._messages import (
    EndedAttempt,
    Kind,
    Lease,
    Poll,
    PollReply,
    Reply,
    Report,
    Role,
    Submit,
    SubmitReply,
    TaskSpec,
    WireStatus,
)
from fastworker._core._pending_changes import PendingChanges
from fastworker._core._pipes import Flush
from fastworker._core._restart import Restart
from tests.core.durable_cluster import DurableCluster
from tests.core.test_control_plane_machine import ANN, ANN_PIPE, BOB, BOB_PIPE, EPOCH, Hall
from tests.core.test_session_link import SessionLinkModel

small = st.integers(0, 11)


class DurableLinkModel(SessionLinkModel):
    cluster: DurableCluster

    @initialize(seed=st.integers(0, 2**16), calm=st.booleans())
    def begin(self, seed: int, calm: bool) -> None:
        self.cluster = DurableCluster(seed=seed)
        if calm:
            self.cluster.run_network()

    @rule()
    def commits_come_late(self) -> None:
        self.cluster.is_slow = True

    @rule()
    def commits_come_at_once(self) -> None:
        self.cluster.is_slow = False
        while self.cluster.waiting_commits:
            self.cluster.commit()

    @rule(count=st.integers(1, 3))
    def commit(self, count: int) -> None:
        for _ in range(count):
            self.cluster.commit()

    @rule()
    def the_disk_is_full(self) -> None:
        self.cluster.break_store()

    @rule()
    def the_disk_has_room_again(self) -> None:
        while self.cluster.waiting_commits:
            self.cluster.commit()
        self.cluster.mend_store()

    @rule(which=small)
    def restart_while_something_runs(self, which: int) -> None:
        worker = self.cluster.subworkers[which % len(self.cluster.subworkers)]
        self.submit(which, 3)
        self.cluster.run_network()
        self.cluster.start(worker)
        self.cluster.restart()
        self.cluster.run_network()


BUDGET = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # a long run shrinks for minutes
    suppress_health_check=list(HealthCheck),
)
THOROUGH = settings(
    BUDGET, max_examples=1500, phases=[Phase.generate], database=None, derandomize=True
)
TestDurableLinkModel = DurableLinkModel.TestCase
TestDurableLinkModel.settings = BUDGET


def a_running_task(cluster: DurableCluster) -> str:
    cluster.run_network()
    task_id = cluster.submit(cluster.clients[0])
    cluster.run_network()
    for worker in cluster.subworkers:
        cluster.start(worker)
    cluster.run_network()
    cluster.pass_time(0.1)
    cluster.run_network()
    return task_id


def test_a_running_attempt_goes_on_over_a_restart_and_its_result_counts() -> None:
    """K1, S5, S6: nobody else is given it meanwhile."""
    cluster = DurableCluster()
    task_id = a_running_task(cluster)
    cluster.restart()
    cluster.run_network()
    cluster.pass_time(5.0)
    cluster.run_network()
    (worker,) = [w for w in cluster.subworkers if w.running]
    assert [key.task_id for key in worker.running] == [task_id]
    assert not any(w.queue for w in cluster.subworkers)
    assert not worker.told_to_stop
    cluster.end(worker, 0)
    cluster.settle()
    assert cluster.outcomes[task_id] == f"{worker.name}:1:1".encode()


def test_a_result_whose_report_was_lost_with_the_control_plane_counts() -> None:
    """K1, K2."""
    cluster = DurableCluster()
    task_id = a_running_task(cluster)
    (worker,) = [w for w in cluster.subworkers if w.running]
    cluster.end(worker, 0)
    cluster.restart()
    cluster.settle()
    assert cluster.outcomes[task_id] == f"{worker.name}:1:1".encode()


def test_a_lease_that_nobody_claims_is_given_to_another_when_it_ends() -> None:
    cluster = DurableCluster()
    task_id = a_running_task(cluster)
    (gone,) = [w for w in cluster.subworkers if w.running]
    cluster.peers.remove(gone)
    cluster.subworkers.remove(gone)
    cluster.restart()
    cluster.run_network()
    cluster.pass_time(29.0)
    cluster.run_network()
    assert cluster.control.statistics().tasks.away == 1
    assert not any(w.queue or w.running for w in cluster.subworkers)
    cluster.pass_time(2.0)
    cluster.settle()
    assert cluster.outcomes[task_id].startswith(cluster.subworkers[0].name.encode())


def test_what_a_child_of_the_old_process_had_is_given_to_another_once_it_must_be_dead() -> None:
    cluster = DurableCluster()
    task_id = a_running_task(cluster)
    (gone,) = [w for w in cluster.subworkers if w.running]
    cluster.peers.remove(gone)
    cluster.subworkers.remove(gone)
    cluster.restart()
    cluster.run_network()
    cluster._control(OldProcessesEnded(["another"]))
    assert cluster.control.statistics().tasks.away == 1
    cluster._control(OldProcessesEnded([gone.name]))
    cluster._flush_control()
    cluster.settle()
    assert cluster.outcomes[task_id].startswith(cluster.subworkers[0].name.encode())


def test_a_task_is_no_suspect_before_its_worker_ended_with_the_control_plane_twice() -> None:
    # S9. Nobody has to wait for it the first time; it may be what ends them both.
    cluster = DurableCluster(subworkers=3)
    task_id = a_running_task(cluster)
    for is_alone in (False, True):
        (gone,) = [w for w in cluster.subworkers if w.running]
        cluster.peers.remove(gone)
        cluster.subworkers.remove(gone)
        cluster.restart()
        cluster.run_network()
        cluster._control(OldProcessesEnded([gone.name]))
        assert cluster.scheduler.open_tasks.by_id[task_id].is_solo is is_alone
        cluster._flush_control()
        cluster.pass_time(1.0)
        cluster.run_network()
        for worker in cluster.subworkers:
            cluster.start(worker)
        cluster.pass_time(1.0)
        cluster.run_network()
    cluster.settle()
    assert cluster.outcomes[task_id].startswith(cluster.subworkers[0].name.encode())


def test_a_queued_task_and_an_outcome_come_back() -> None:
    cluster = DurableCluster(subworkers=1)
    done = a_running_task(cluster)
    cluster.end(cluster.subworkers[0], 0)
    cluster.run_network()
    waiting = [cluster.submit(cluster.clients[1]) for _ in range(5)]
    cluster.run_network()
    cluster.restart()
    assert cluster.control.statistics().tasks.submitted == 5
    cluster.settle()
    assert set(cluster.outcomes) == {done, *waiting}


def test_a_cancel_of_what_runs_is_remembered_over_a_restart() -> None:
    """S10."""
    cluster = DurableCluster()
    task_id = a_running_task(cluster)
    (worker,) = [w for w in cluster.subworkers if w.running]
    cluster.reset_pipe(worker)
    cluster.cancel(cluster.clients[1], task_id, None)
    cluster.run_network()
    cluster.restart()
    cluster.run_network()
    cluster.pass_time(1.0)
    cluster.run_network()
    assert [key.task_id for key in worker.told_to_stop] == [task_id]


def test_a_full_disk_refuses_new_tasks_and_what_is_acknowledged_goes_on() -> None:
    """D1."""
    cluster = DurableCluster()
    task_id = a_running_task(cluster)
    cluster.break_store()
    refused = cluster.submit(cluster.clients[1])
    cluster.run_network()
    again = cluster.submit(cluster.clients[1])
    cluster.run_network()
    for each in (refused, again):
        told = cluster.clients[1].rejected.get(each, "")
        given = each in {k.task_id for w in cluster.subworkers for k in [*w.queue, *w.running]}
        assert "no space is left" in told or given
    assert "no space is left" in cluster.clients[1].rejected[again]
    for worker in cluster.subworkers:
        while worker.running:
            cluster.end(worker, 0)
    cluster.run_network()
    assert cluster.clients[0].ended[task_id] == 0, "told before it is durable"
    cluster.settle()
    assert cluster.clients[0].ended[task_id] == 1


def acks_do_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    def when_durable(
        self: DurabilityBarrier, effect: Any, asker: Any = None, **_: object
    ) -> None:
        effect()

    monkeypatch.setattr(DurabilityBarrier, "when_durable", when_durable)


def any_lease_may_be_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Restart, "_may_claim", lambda *_: True)


def leases_are_never_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Losses, "lose_away", lambda *_: None)


def what_failed_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    def put_back(self: PendingChanges) -> list[Any]:
        self._created, self._updated, self._under_way = [], [], None
        return []

    monkeypatch.setattr(PendingChanges, "put_back", put_back)


def fences_begin_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    restore = pending_changes.restore_life

    def forget(record: Any, life: Any, offset: float) -> None:
        restore(record, life, offset)
        record.fence = 0

    monkeypatch.setattr(restart, "restore_life", forget)


@pytest.mark.parametrize(
    "mutate",
    [
        acks_do_not_wait,
        any_lease_may_be_claimed,
        leases_are_never_lost,
        what_failed_is_forgotten,
        fences_begin_anew,
    ],
)
def test_the_model_notices_a_broken_promise(
    mutate: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutate(monkeypatch)
    with pytest.raises((AssertionError, KeyError)):
        run_state_machine_as_test(DurableLinkModel, settings=THOROUGH)


class _Slow(Hall):
    """A hall whose store is the test."""

    def __init__(self) -> None:
        super().__init__(is_durable=True)
        self.transactions: list[AppendRecords] = []

    def obey(self, command: ControlPlaneCommand) -> None:
        if isinstance(command, AppendRecords):
            self.transactions.append(command)
        else:
            super().obey(command)


def test_a_task_that_was_held_is_not_given_up_when_the_store_fails() -> None:
    # S1. Its SUBMIT was answered before it was known whether it would be queued.
    hall = _Slow()
    hall.hello(ANN_PIPE, ANN, Role.CLIENT)
    spec = TaskSpec("a1", "add", 2, 1, b"()", 0.0)
    (reply,) = hall.ask(ANN_PIPE, ANN, Kind.SUBMIT, Submit([spec]))
    assert isinstance(reply, Reply)
    assert decode_body(SubmitReply, reply.body) == SubmitReply(held=[0])
    hall.ask(ANN_PIPE, ANN, Kind.POLL, Poll(0), slot=1)
    hall.hello(BOB_PIPE, BOB, Role.SUBWORKER)
    hall.handle(Flush())
    hall.handle(RecordsFailed(hall.transactions.pop().batch, "no space left"))
    hall.handle(StoreRecovered())
    hall.handle(Flush())
    (transaction,) = hall.transactions
    assert [row.spec.id for row in transaction.changes.created] == ["a1"]
    sent = len(hall.sent)
    hall.handle(RecordsDurable(transaction.batch))
    hall.handle(Flush())
    told = [
        decode_body(PollReply, frame.body).events
        for pipe, frame in hall.sent[sent:]
        if pipe == ANN_PIPE and isinstance(frame, Reply) and frame.slot == 1
    ]
    assert [(event.task_id, event.status) for (event,) in told] == [("a1", WireStatus.PENDING)]
    assert hall.scheduler.describe("a1", now=hall.now).status is WireStatus.PENDING


def _submit(hall: _Slow, task_id: str, *, hurry: bool, slot: int = 0) -> None:
    spec = TaskSpec(task_id, "add", 2, 1, b"()", 0.0)
    hall.ask(ANN_PIPE, ANN, Kind.SUBMIT, Submit([spec], hurry), slot)


def _a_store_that_waits() -> _Slow:
    hall = _Slow()
    hall.hello(ANN_PIPE, ANN, Role.CLIENT)
    hall.hello(BOB_PIPE, BOB, Role.SUBWORKER)
    hall.ask(BOB_PIPE, BOB, Kind.LEASE, Lease(0, {"thread": 1}))
    return hall


def test_a_task_whose_acknowledgement_nobody_waits_for_is_written_once_with_its_end() -> None:
    hall = _a_store_that_waits()
    _submit(hall, "a1", hurry=False)
    assert hall.transactions == []
    ended = EndedAttempt("a1", 1, WireStatus.SUCCESS, 1.0, 1.0, 0.0, 1, b"3")
    hall.ask(BOB_PIPE, BOB, Kind.REPORT, Report(EPOCH, ended=[ended]), slot=1)
    (transaction,) = hall.transactions
    assert not transaction.changes.updated
    (row,) = transaction.changes.created
    assert row.outcome is not None
    assert row.outcome.payload == b"3"


def test_who_waits_for_an_acknowledgement_waits_for_no_company() -> None:
    hall = _a_store_that_waits()
    _submit(hall, "a1", hurry=False)
    _submit(hall, "a2", hurry=True, slot=1)
    (transaction,) = hall.transactions
    assert [row.spec.id for row in transaction.changes.created] == ["a1", "a2"]


def test_what_nobody_waits_for_is_written_before_long() -> None:
    hall = _a_store_that_waits()
    _submit(hall, "a1", hurry=False)
    hall.pass_time(GATHER_SECONDS)
    (transaction,) = hall.transactions
    assert [row.spec.id for row in transaction.changes.created] == ["a1"]
    hall.handle(RecordsFailed(transaction.batch, "no space left"))
    hall.handle(StoreRecovered())
    hall.handle(Flush())
    # Its SUBMIT was refused meanwhile; a store that fails lets no alarm spin.
    hall.pass_time(1.0)
