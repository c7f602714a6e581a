"""The session link as a model: machines, a lossy network, and whatever can happen to them.

What is promised for the link, watched after every move (``Cluster.check``):
every request takes effect exactly once within its epoch (S2, S4), leased never
exceeds capacity (S16), no report with a stale fence is accepted (S8), kept
bytes are bounded (B1), a peer that comes back in time keeps its leases (S6),
and once the network heals every caller that stayed has its answer (L1, S12).

The last tests prove that the model can fail: each breaks one rule that looks
odd and expects the model to notice.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from fastworker._core._client import ClientState
from fastworker._core._link_requester import RequesterLink
from fastworker._core._messages import URGENT_SLOT
from fastworker._core._reports import Reports
from fastworker._core._scheduler import Scheduler
from fastworker._core._session_table import SessionTable
from fastworker._core._subworker import SubworkerState
from tests.core.cluster import Cluster

small = st.integers(0, 11)


class SessionLinkModel(RuleBasedStateMachine):
    @initialize(seed=st.integers(0, 2**16), calm=st.booleans())
    def begin(self, seed: int, calm: bool) -> None:
        self.cluster = Cluster(seed=seed)
        if calm:
            self.cluster.run_network()

    # --- users ---

    @rule(which=small, count=st.integers(1, 5))
    def submit(self, which: int, count: int) -> None:
        client = self.cluster.clients[which % len(self.cluster.clients)]
        for _ in range(count):
            self.cluster.submit(client)

    @rule(which=small, task=small)
    def cancel_a_caller_of_a_task(self, which: int, task: int) -> None:
        client = self.cluster.clients[which % len(self.cluster.clients)]
        open_tasks = sorted(client.waiting | (client.acknowledged - client.abandoned))
        if open_tasks:
            self.cluster.abandon(client, open_tasks[task % len(open_tasks)])

    @rule(which=small, task=small, grace=st.sampled_from([None, 0.0, 0.5]))
    def cancel_any_task(self, which: int, task: int, grace: float | None) -> None:
        client = self.cluster.clients[which % len(self.cluster.clients)]
        if self.cluster.task_ids:
            self.cluster.cancel(client, f"t{1 + task % self.cluster.task_ids}", grace)

    @rule(which=small, task=small)
    def ask_for_a_task(self, which: int, task: int) -> None:
        client = self.cluster.clients[which % len(self.cluster.clients)]
        self.cluster.query(client, f"t{task + 1}")

    @rule(which=small)
    def cancel_a_caller_of_a_query(self, which: int) -> None:
        client = self.cluster.clients[which % len(self.cluster.clients)]
        if client.queries:
            self.cluster.abandon_query(client)

    # --- lanes ---

    @rule(which=small)
    def start(self, which: int) -> None:
        self.cluster.start(self.cluster.subworkers[which % len(self.cluster.subworkers)])

    @rule(which=small, index=small)
    def end(self, which: int, index: int) -> None:
        worker = self.cluster.subworkers[which % len(self.cluster.subworkers)]
        if worker.running:
            self.cluster.end(worker, index % len(worker.running))

    # --- the network ---

    @precondition(lambda self: self.cluster.frames)
    @rule(index=small)
    def deliver(self, index: int) -> None:
        """Any frame may be next: that is delay and reordering."""
        self.cluster.deliver(index % len(self.cluster.frames))

    @precondition(lambda self: self.cluster.frames)
    @rule(count=st.integers(1, 8))
    def deliver_in_order(self, count: int) -> None:
        for _ in range(min(count, len(self.cluster.frames))):
            self.cluster.deliver(0)

    @rule()
    def come_to_rest(self) -> None:
        self.cluster.run_network()

    @precondition(lambda self: self.cluster.frames)
    @rule(index=small)
    def drop(self, index: int) -> None:
        self.cluster.drop(index % len(self.cluster.frames))

    @precondition(lambda self: self.cluster.frames)
    @rule(index=small)
    def double(self, index: int) -> None:
        self.cluster.double(index % len(self.cluster.frames))

    @rule(which=small, is_back=st.booleans())
    def reset_a_pipe(self, which: int, is_back: bool) -> None:
        peer = self.cluster.peers[which % len(self.cluster.peers)]
        self.cluster.reset_pipe(peer)
        if is_back:
            self.cluster.connect(peer)

    @rule(which=small)
    def connect(self, which: int) -> None:
        self.cluster.connect(self.cluster.peers[which % len(self.cluster.peers)])

    # --- time and death ---

    @rule(seconds=st.sampled_from([0.004, 0.02, 0.3, 0.8, 5.2, 16.0]))
    def pass_time(self, seconds: float) -> None:
        self.cluster.pass_time(seconds)

    @rule()
    def expire_sessions(self) -> None:
        self.cluster.pass_time(31.0)

    @rule()
    def restart_the_control_plane(self) -> None:
        self.cluster.restart()

    # --- stories: moves that seldom meet by chance ---

    @rule(which=small, task=small, count=st.integers(0, 6))
    def leave_a_query_and_ask_another(self, which: int, task: int, count: int) -> None:
        self.ask_for_a_task(which, task)
        self.deliver_in_order(count)
        self.cancel_a_caller_of_a_query(which)
        self.ask_for_a_task(which, task + 1)

    @rule(which=small, randomness=st.randoms(use_true_random=False))
    def deliver_in_any_order(self, which: int, randomness: random.Random) -> None:
        for _ in range(which + 4):
            if self.cluster.frames:
                self.cluster.deliver(randomness.randrange(len(self.cluster.frames)))

    @rule(which=small, randomness=st.randoms(use_true_random=False))
    def restart_before_the_client_knows(self, which: int, randomness: random.Random) -> None:
        """A task runs and ends, and all that was said of it is lost."""
        client = self.cluster.clients[which % len(self.cluster.clients)]
        self.cluster.submit(client)
        for _ in range(20):
            heard = [
                n
                for n, (up, peer, _, _) in enumerate(self.cluster.frames)
                if up or peer is not client
            ]
            if not heard:
                break
            self.cluster.deliver(heard[0])
        for worker in self.cluster.subworkers:
            self.cluster.start(worker)
            if worker.running:
                self.cluster.end(worker, 0)
        self.cluster.restart()
        for _ in range(30):
            if self.cluster.frames:
                self.cluster.deliver(randomness.randrange(len(self.cluster.frames)))

    @rule(which=small, randomness=st.randoms(use_true_random=False))
    def end_while_work_is_on_its_way(self, which: int, randomness: random.Random) -> None:
        worker = self.cluster.subworkers[which % len(self.cluster.subworkers)]
        self.submit(which, 4)
        self.deliver_in_any_order(which, randomness)
        self.cluster.start(worker)
        if worker.running:
            self.cluster.end(worker, 0)
        self.deliver_in_any_order(which, randomness)

    # --- what must hold ---

    @invariant()
    def every_promise_holds(self) -> None:
        self.cluster.check()

    def teardown(self) -> None:
        if hasattr(self, "cluster"):
            self.cluster.settle()


BUDGET = settings(
    max_examples=200,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
SessionLinkModel.TestCase.settings = BUDGET
TestSessionLinkModel = SessionLinkModel.TestCase


# --- the model can fail -----------------------------------------------------


def reuse_the_sequence_of_a_cancelled_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    original: Callable[..., Any] = RequesterLink.handle

    def handle(self: RequesterLink, event: Any, *, now: float) -> Any:
        if type(event).__name__ == "CallerLeft":
            for number, outstanding in enumerate(self._slots[:URGENT_SLOT]):
                if outstanding is not None and outstanding.call.call_id == event.call_id:
                    self._slots[number] = None
                    self._sequences[number] -= 1
            return []
        return original(self, event, now=now)

    monkeypatch.setattr(RequesterLink, "handle", handle)


def credit_as_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    capacity: Callable[..., Any] = SubworkerState._capacity
    stated: Callable[..., Any] = Scheduler._on_capacity

    def free(self: SubworkerState) -> dict[str, int]:
        total = capacity(self)
        return {name: max(0, total[name] - self._attempts.lanes[name].held) for name in total}

    def add(self: Scheduler, key: bytes, lease: Any) -> Any:
        commands = stated(self, key, lease)
        for lane in self._workers[key].lanes.values():
            lane.capacity += len(lane.leased)
        return commands

    monkeypatch.setattr(SubworkerState, "_capacity", free)
    monkeypatch.setattr(Scheduler, "_on_capacity", add)


def fence_without_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    original: Callable[..., Any] = Reports.current

    def current(self: Reports, task_id: str, attempt: int, key: bytes, epoch: int) -> Any:
        record = self._open.by_id.get(task_id)
        return record and original(self, task_id, attempt, key, record.fence_epoch)

    monkeypatch.setattr(Reports, "current", current)


def a_closed_pipe_means_dead_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    original: Callable[..., Any] = SessionTable._lose_pipe

    def lose_pipe(self: SessionTable, session: Any, now: float) -> None:
        original(self, session, now)
        self._deadlines.set(session.key, now)

    monkeypatch.setattr(SessionTable, "_lose_pipe", lose_pipe)


def a_cancel_is_asked_in_one_session_only(monkeypatch: pytest.MonkeyPatch) -> None:
    original: Callable[..., Any] = ClientState._on_session

    def on_session(self: ClientState, opened: Any) -> None:
        for task in self._tasks.by_id.values():
            if not task.is_own:
                task.cancel = None
        original(self, opened)

    monkeypatch.setattr(ClientState, "_on_session", on_session)


@pytest.mark.parametrize(
    ("mutate", "complaint"),
    [
        (a_cancel_is_asked_in_one_session_only, "never heard of the end of"),
        (reuse_the_sequence_of_a_cancelled_caller, "an honest peer broke a rule"),
        (credit_as_a_difference, "leased beyond the capacity"),
        (fence_without_epoch, "a report of epoch|0 outcomes|a query was never answered"),
        (a_closed_pipe_means_dead_at_once, "was given up after"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "x",
)
def test_the_model_notices_a_broken_rule(
    mutate: Callable[[pytest.MonkeyPatch], None],
    complaint: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mutate(monkeypatch)
    thorough = settings(
        BUDGET,
        max_examples=1500,
        report_multiple_bugs=False,
        phases=[Phase.generate],
        database=None,
        derandomize=True,
    )
    with pytest.raises(AssertionError, match=complaint):
        run_state_machine_as_test(SessionLinkModel, settings=thorough)
