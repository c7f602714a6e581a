"""One key, one task: on the scheduler, over restarts, and as a model."""

from __future__ import annotations

import random
import subprocess
import sys

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fastworker._core._idempotency import IdempotencyKeys
from fastworker._core._messages import RefusalCode, SubmitReply, TaskSpec
from fastworker._core._results import Results
from fastworker._core._scheduler import Scheduler
from fastworker._core._scheduler_events import (
    OwnerGone,
    SubmitDecided,
    TaskChanged,
    TasksCancelled,
    TasksSubmitted,
)
from fastworker._core._task_states import content_digest
from tests.core.plane import EPOCH, Plane


def keyed(what: str = "1", *, ttl: float = 100.0, attached: bool = True) -> TaskSpec:
    return TaskSpec("k", "work", 2, 1, what.encode(), 0.0, attached, key_ttl=ttl)


def submit(plane: Plane, spec: TaskSpec, owner: str = "ann") -> tuple[SubmitReply, list[str]]:
    """What is answered, and the states that are told at once."""
    commands = plane.handle(TasksSubmitted(owner.encode(), [spec]))
    (reply,) = [c.reply for c in commands if isinstance(c, SubmitDecided)]
    told = [c.event.status.name for c in commands if isinstance(c, TaskChanged)]
    return reply, told


def test_the_same_key_is_the_same_task_while_it_lives() -> None:
    """S4."""
    plane = Plane()
    plane.join("w")
    assert submit(plane, keyed()) == (SubmitReply(), [])
    assert submit(plane, keyed(), "bob") == (SubmitReply(), [])
    assert plane.give("w") == {"w": ["k"]}
    plane.end("w", "k")
    assert sorted(owner for owner, _ in plane.told if owner) == [b"ann", b"bob"]


def test_other_arguments_under_a_key_are_a_conflict() -> None:
    plane = Plane()
    plane.join("w")
    submit(plane, keyed())
    (refusal,) = submit(plane, keyed("2"))[0].refusals
    assert refusal.code is RefusalCode.CONFLICT
    assert "'k' is already used by a task with other content" in refusal.message


def test_a_key_outlives_the_result_of_its_task() -> None:
    """S13: it is told that the result is gone, and nothing runs again."""
    plane = Plane()
    plane.join("w")
    submit(plane, keyed(ttl=5000.0))
    plane.give("w")
    plane.end("w", "k")
    plane.wait(100.0)
    assert submit(plane, keyed(ttl=5000.0)) == (SubmitReply(), ["EVICTED"])
    plane.wait(1000.0)
    assert submit(plane, keyed(ttl=5000.0)) == (SubmitReply(), ["EVICTED"])
    (refusal,) = submit(plane, keyed("2", ttl=5000.0))[0].refusals
    assert refusal.code is RefusalCode.CONFLICT
    assert plane.give("w") == {"w": []}


def test_a_key_that_has_expired_is_free_once_its_task_has_ended() -> None:
    plane = Plane()
    plane.join("w")
    submit(plane, keyed(ttl=10.0))
    plane.wait(20.0)
    assert submit(plane, keyed("2"))[0].refusals, "its task has not ended"
    plane.give("w")
    plane.end("w", "k")
    plane.finals.clear()
    assert submit(plane, keyed("2")) == (SubmitReply(), [])
    assert plane.give("w") == {"w": ["k"]}


def test_one_of_two_who_want_a_task_leaves_and_it_goes_on() -> None:
    plane = Plane()
    plane.join("w")
    submit(plane, keyed(), "ann")
    submit(plane, keyed(), "bob")
    plane.give("w")
    plane.handle(TasksCancelled(["k"], leaver=b"bob"))
    assert plane.stops("w") == []
    plane.handle(OwnerGone(b"bob"))
    plane.handle(TasksCancelled(["k"], leaver=b"ann"))
    assert plane.stops("w") == ["k"]


def test_an_attached_task_goes_with_the_last_of_its_owners() -> None:
    plane = Plane()
    plane.join("w")
    submit(plane, keyed(), "ann")
    submit(plane, keyed(), "bob")
    plane.give("w")
    plane.handle(OwnerGone(b"bob"))
    assert plane.stops("w") == []
    plane.handle(OwnerGone(b"ann"))
    assert plane.stops("w") == ["k"]


def test_a_key_comes_back_with_the_store() -> None:
    plane = Plane()
    plane.join("w")
    submit(plane, keyed(ttl=1000.0))
    plane.give("w")
    plane.end("w", "k")
    (key,) = plane.scheduler.changes.take(plane.now).keys
    assert key.content == content_digest(keyed())
    again = Plane()
    again.now = plane.now + 100.0
    again.scheduler = Scheduler(
        epoch=EPOCH + 1,
        results=Results(max_size=10, ttl=60.0),
        now=again.now,
        rng=random.Random(1),
    )
    again.scheduler.restore_keys([key])
    again.join("w")
    assert submit(again, keyed(ttl=1000.0)) == (SubmitReply(), ["EVICTED"])


def test_a_task_that_the_store_could_not_take_leaves_no_key() -> None:
    """D1."""
    plane = Plane()
    plane.join("w")
    submit(plane, keyed())
    plane.scheduler.changes.take(plane.now)
    failed = plane.scheduler.changes.put_back()
    assert [r.spec.id for r in plane.scheduler.withdraw(failed, now=plane.now)] == ["k"]
    plane.scheduler.check()
    changes = plane.scheduler.changes.take(plane.now)
    assert (changes.created, changes.keys, changes.dropped_keys) == ([], [], ["k"])
    assert submit(plane, keyed("2")) == (SubmitReply(), [])


def test_the_content_of_a_task_is_the_same_number_in_every_process() -> None:
    code = (
        "from fastworker._core._messages import TaskSpec\n"
        "from fastworker._core._task_states import content_digest\n"
        "print(content_digest(TaskSpec('k', 'work', 2, 1, b'1', 0.0)))"
    )
    numbers = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
        for _ in range(2)
    }
    assert numbers == {f"{content_digest(keyed())}\n".encode()}


class KeysModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.keys = IdempotencyKeys(max_keys=5)
        self.book: dict[str, tuple[int, float]] = {}

    @rule(name=st.sampled_from("abcdefgh"), content=st.integers(0, 3), ttl=st.integers(1, 50))
    def remember(self, name: str, content: int, ttl: int) -> None:
        if self.keys.is_full and name not in self.book:
            return
        self.keys.remember(name, content, self.now + ttl)
        self.book[name] = content, self.now + ttl

    @rule(name=st.sampled_from("abcdefgh"))
    def forget(self, name: str) -> None:
        self.keys.forget(name)
        self.book.pop(name, None)

    @rule(seconds=st.integers(1, 30))
    def wait(self, seconds: int) -> None:
        self.now += seconds
        due = {name for name, (_, at) in self.book.items() if at <= self.now}
        assert self.keys.next_deadline() <= self.now or not due
        assert set(self.keys.expire(self.now)) == due
        for name in due:
            del self.book[name]

    @invariant()
    def they_agree(self) -> None:
        self.keys.check()
        assert len(self.keys) == len(self.book)
        for name in "abcdefgh":
            key = self.keys.get(name, now=self.now)
            assert (None if key is None else tuple(key)) == self.book.get(name)


TestKeysModel = KeysModel.TestCase
TestKeysModel.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
