"""The callbacks' machine beside a twin that is slow and simple, whatever happens.

The twin keeps lists and searches them. It has to want the same things done, in
the same order; what the machine promises about any history is asked besides.
"""

from __future__ import annotations

import json
import math
import random
import sys
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from fastworker._core import _callbacks
from fastworker._core._callback_events import CallbackDue, Deliver, DeliveryEnded, Settled
from fastworker._core._callbacks import CallbackLimits, CallbackState
from fastworker._core._messages import Callback, TaskEvent, WireStatus
from fastworker._core._pipes import DeadlinePassed

ADDRESSES = ("tcp://a:1", "tcp://b:2", "tcp://c:3", "tcp://d:4")
LIMITS = CallbackLimits(
    connections=2,
    batch=3,
    batch_bytes=2_500,
    address_queue=4,
    address_bytes=5_000,
    queue=8,
    queue_bytes=9_000,
    parked=3,
    parked_bytes=900,
)


def a_due(task_id: str, address: str, size: int) -> CallbackDue:
    event = TaskEvent(task_id, WireStatus.SUCCESS, 1, b'"' + b"1" * size + b'"')
    return CallbackDue(Callback(address, task_id), event)


class Twin:
    """Each callback is [id, address, size, tries, sendings]; lists are in order of age."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.waiting: list[list[Any]] = []
        self.under_way: dict[str, int] = {}
        self.backoff: dict[str, float] = {}
        self.idle: list[tuple[str, float]] = []  # until when
        self.turns: list[str] = []
        self.wary: list[str] = []
        self.parked: list[tuple[str, int]] = []
        self.dropped = 0
        self.delivered: list[str] = []
        self.out: list[Any] = []

    def of(self, address: str) -> list[list[Any]]:
        return [each for each in self.waiting if each[1] == address]

    def due(self, due: CallbackDue) -> None:
        task_id, address = due.event.task_id, due.callback.address
        size = due.event.size + due.callback.size
        own = self.of(address)
        too_many = len(own) >= 4 or sum(each[2] for each in own) + size > 5_000
        if own and too_many:
            self.park(task_id, address, f"{len(own)} others wait for this address already")
        elif self.waiting and (
            len(self.waiting) >= 8 or sum(each[2] for each in self.waiting) + size > 9_000
        ):
            self.park(task_id, address, f"{len(self.waiting)} other callbacks wait already")
        else:
            self.waiting.append([task_id, address, size, 0, 0])
            if address in [name for name, _ in self.idle]:
                self.idle = [each for each in self.idle if each[0] != address]
                self.deliver(address)
            elif not own:
                self.turns.append(address)

    def ended(self, address: str, delivered: int, error: str, now: float) -> None:
        del self.under_way[address]
        for each in self.of(address)[:delivered]:
            self.waiting.remove(each)
            self.delivered.append(each[0])
        if delivered and address in self.wary:
            self.wary.remove(address)
        own = self.of(address)
        if error:
            self.out.append(("disconnect", address))
            if address not in self.wary:
                self.wary.append(address)
            own[0][3] += 1
            tries = own[0][3]
            if tries == 10:
                self.waiting.remove(own[0])
                self.park(own[0][0], address, error)
                tries = 1
            if len(own) == 1 and own[0] not in self.waiting:
                self.wary.remove(address)
            else:
                longest = min(60.0, 2.0 ** (tries - 2))
                self.backoff[address] = now + longest * (0.5 + 0.5 * self.rng.random())
        elif not own:
            self.idle.append((address, now + 10))
        elif self.turns:
            self.out.append(("disconnect", address))
            self.turns.append(address)
        else:
            self.deliver(address)

    def pass_time(self, now: float) -> None:
        due = [(at, name) for name, at in self.backoff.items() if at <= now]
        due += [(at, name) for name, at in self.idle if at <= now]
        for _, name in sorted(due):
            if name in self.backoff:
                del self.backoff[name]
                self.turns.append(name)
            else:
                self.idle = [each for each in self.idle if each[0] != name]
                self.out.append(("disconnect", name))

    def commands(self) -> list[Any]:
        while self.turns:
            if len(self.under_way) + len(self.idle) == 2:
                if not self.idle:
                    break
                self.out.append(("disconnect", self.idle.pop(0)[0]))
            self.deliver(self.turns.pop(0))
        out, self.out = self.out, []
        return out

    def deliver(self, address: str) -> None:
        batch: list[list[Any]] = []
        for each in self.of(address)[: 1 if address in self.wary else 3]:
            if batch and sum(other[2] for other in batch) + each[2] > 2_500:
                break
            batch.append(each)
            each[4] += 1
        self.under_way[address] = len(batch)
        self.out.append((address, [(each[0], each[4]) for each in batch]))

    def park(self, task_id: str, address: str, error: str) -> None:
        self.parked.append((task_id, 200 + 2 * len(task_id) + len(address) + len(error)))
        while len(self.parked) > 3 or sum(size for _, size in self.parked) > 900:
            self.parked.pop(0)
            self.dropped += 1


class CallbackModel(RuleBasedStateMachine):
    @initialize(seed=st.integers(0, 3))
    def begin(self, seed: int) -> None:
        self.now = 100.0
        self.state = CallbackState(rng=random.Random(seed), limits=LIMITS)
        self.twin = Twin(random.Random(seed))
        self.count = 0
        self.settled = 0
        self.under_way: dict[str, list[str]] = {}
        self.arrived: dict[str, list[str]] = {address: [] for address in ADDRESSES}

    def step(self, event: Any) -> None:
        wanted = []
        for command in self.state.handle(event, now=self.now):
            if isinstance(command, Deliver):
                said = [json.loads(payload) for payload in command.payloads]
                ids = [each["event_id"] for each in said]
                assert command.address not in self.under_way, "two deliveries to one address"
                self.under_way[command.address] = ids
                wanted.append((command.address, [(e["event_id"], e["delivery"]) for e in said]))
            elif isinstance(command, Settled):
                self.settled += len(command.task_ids)
            else:
                assert command.address not in self.under_way, "disconnected while in use"
                wanted.append(("disconnect", command.address))
        assert wanted == self.twin.commands()
        told = self.state.statistics()
        assert self.settled == told.delivered + told.dropped, "the store has to know"

    @rule(address=st.sampled_from(ADDRESSES), size=st.sampled_from([1, 1, 300, 3_000, 9_000]))
    def due(self, address: str, size: int) -> None:
        self.count += 1
        due = a_due(f"{self.count:03}", address, size)
        self.twin.due(due)
        self.step(due)

    @precondition(lambda self: self.under_way)
    @rule(which=st.integers(0, 3), fraction=st.sampled_from([0.0, 0.5, 1.0]), ok=st.booleans())
    def delivery_ends(self, which: int, fraction: float, ok: bool) -> None:
        self.now += 0.001  # two deadlines at one moment come in any order
        address = sorted(self.under_way)[which % len(self.under_way)]
        ids = self.under_way.pop(address)
        delivered = len(ids) if ok else int(fraction * (len(ids) - 1))
        self.arrived[address] += ids[:delivered]
        error = "" if ok else "no"
        self.twin.ended(address, delivered, error, self.now)
        self.step(DeliveryEnded(address, delivered, error))

    @precondition(lambda self: self.under_way)
    @rule(which=st.integers(0, 3), times=st.integers(2, 10))
    def a_listener_is_away(self, which: int, times: int) -> None:
        address = sorted(self.under_way)[which % len(self.under_way)]
        for _ in range(times):
            if address in self.under_way:
                self.delivery_ends(sorted(self.under_way).index(address), 0.0, False)
            self.next_deadline_comes()

    @rule(seconds=st.sampled_from([0.0, 0.1, 1.0, 5.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.pass_deadlines()

    @rule()
    def next_deadline_comes(self) -> None:
        if self.state.next_deadline() < math.inf:
            self.now = max(self.now, self.state.next_deadline())
            self.pass_deadlines()

    def pass_deadlines(self) -> None:
        self.twin.pass_time(self.now)
        self.step(DeadlinePassed())
        assert self.state.next_deadline() > self.now

    @invariant()
    def both_say_the_same(self) -> None:
        if not hasattr(self, "state"):
            return
        self.state.check()
        twin, statistics = self.twin, self.state.statistics()
        assert statistics.queued == len(twin.waiting)
        assert statistics.delivered == len(twin.delivered)
        assert [each.task_id for each in statistics.parked_callbacks] == [
            task_id for task_id, _ in twin.parked
        ]
        assert statistics.dropped == twin.dropped
        assert statistics.due == self.count
        assert self.state.next_deadline() == min(
            [*twin.backoff.values(), *(at for _, at in twin.idle)], default=math.inf
        )

    @invariant()
    def each_arrives_once_and_in_order(self) -> None:
        for ids in getattr(self, "arrived", {}).values():
            assert ids == sorted(set(ids))

    def teardown(self) -> None:
        """When all listeners are well, nothing waits for long."""
        if not hasattr(self, "state") or sys.exc_info()[0] is not None:
            return
        for _ in range(1_000):
            while self.under_way:
                self.delivery_ends(0, 1.0, True)
            if self.state.next_deadline() == math.inf:
                break
            self.next_deadline_comes()
        statistics = self.state.statistics()
        assert (statistics.queued, statistics.connections) == (0, 0)
        assert not self.state._addresses, "an address was not forgotten"


CallbackModel.TestCase.settings = settings(
    max_examples=100, stateful_step_count=60, deadline=None
)
TestCallbackModel = CallbackModel.TestCase


@pytest.mark.parametrize(
    ("name", "value"),
    [("MAX_TRIES", 3), ("IDLE_SECONDS", 9.0), ("FIRST_BACKOFF", 0.6), ("MAX_BACKOFF", 4.0)],
)
def test_the_model_notices_another_number(
    name: str, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_callbacks, name, value)
    finds_something()


def test_the_model_notices_a_batch_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def deliver(self: CallbackState, address: Any) -> None:
        address.is_wary = False
        intact(self, address)

    intact = CallbackState._deliver
    monkeypatch.setattr(CallbackState, "_deliver", deliver)
    finds_something()


def test_the_model_notices_an_idle_connection_that_is_not_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def give_turns(self: CallbackState) -> None:
        if self._connections < self._limits.connections:
            intact(self)

    intact = CallbackState._give_turns
    monkeypatch.setattr(CallbackState, "_give_turns", give_turns)
    finds_something()


def finds_something() -> None:
    wanted = settings(
        max_examples=200,
        stateful_step_count=60,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        report_multiple_bugs=False,
    )
    with pytest.raises(AssertionError):
        run_state_machine_as_test(CallbackModel, settings=wanted)
