"""One key, one task: on the scheduler, over restarts, and as a model."""

from __future__ import annotations

import random
import subprocess
import sys

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fastworker._core._idempotency import IdempotencyKeys
from fastworker._core._messages import (
    CallOptions,
    RefusalCode,
    SubmitReply,
    TaskSpec,
    WireStatus,
)
from fastworker._core._owners import MAX_OWNERS
from fastworker._core._results import Results
from fastworker._core._scheduler import Scheduler
from fastworker._core._scheduler_events import (
    OwnerGone,
    SubmitDecided,
    SubworkerLost,
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


def test_a_key_is_in_the_store_only_together_with_its_task() -> None:
    """S1: alone it would stand for a task that has ended. Found by simulated seed 202."""
    plane = Plane()
    assert submit(plane, keyed()) == (SubmitReply([], [0]), [])  # held: no worker is known
    changes = plane.scheduler.changes
    assert (changes.take(plane.now).keys, len(changes)) == ([], 0)
    changes.note_durable()
    plane.join("w")
    taken = changes.take(plane.now)
    assert [task.spec.id for task in taken.created] == [key.task_id for key in taken.keys]
    assert len(taken.keys) == 1


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


def test_a_task_with_a_key_outlives_its_clients() -> None:
    """Whoever comes back with the key finds it."""
    plane = Plane()
    plane.join("w")
    submit(plane, keyed(), "ann")
    submit(plane, keyed(), "bob")
    plane.give("w")
    plane.handle(OwnerGone(b"bob"))
    plane.handle(OwnerGone(b"ann"))
    assert plane.stops("w") == []
    submit(plane, keyed(), "ann again")
    plane.end("w", "k")
    assert plane.heard(b"ann again", "k") == [WireStatus.SUCCESS]


def test_who_comes_last_and_leaves_does_not_cancel_what_others_have_delayed() -> None:
    """S1."""
    plane = Plane()
    plane.join("w")
    submit(plane, keyed(attached=False), "ann")
    plane.owner_gone(b"ann")
    submit(plane, keyed(), "bob")
    plane.give("w")
    plane.handle(TasksCancelled(["k"], leaver=b"bob"))
    assert plane.stops("w") == []


def test_a_thousand_clients_may_have_one_task_and_each_hears_its_end() -> None:
    plane = Plane()
    plane.join("w")
    names = [f"c{number}" for number in range(MAX_OWNERS)]
    for name in names:
        assert submit(plane, keyed(), name) == (SubmitReply(), [])
    (refusal,) = submit(plane, keyed(), "one more")[0].refusals
    assert refusal.code is RefusalCode.QUEUE_FULL
    assert submit(plane, keyed(), "c7") == (SubmitReply(), []), "it is one of them"
    plane.give("w")
    plane.end("w", "k")
    assert sorted(owner for owner, _ in plane.told if owner) == sorted(
        name.encode() for name in names
    )


def test_more_keys_than_there_may_be_are_refused_until_some_have_expired() -> None:
    plane = Plane()
    plane.join("w")
    plane.scheduler.open_tasks.keys = IdempotencyKeys(max_keys=2)
    specs = [msgspec.structs.replace(keyed(ttl=10.0), id=f"k{n}") for n in range(3)]
    assert [submit(plane, spec)[0] for spec in specs[:2]] == [SubmitReply()] * 2
    (refusal,) = submit(plane, specs[2])[0].refusals
    assert refusal.code is RefusalCode.QUEUE_FULL
    assert "2 idempotency keys have not expired" in refusal.message
    assert submit(plane, specs[0]) == (SubmitReply(), []), "it is there already"
    assert plane.submit("without") == SubmitReply()
    plane.wait(20.0)
    assert submit(plane, specs[2]) == (SubmitReply(), [])


def test_a_parent_does_not_take_along_what_others_have_submitted_too() -> None:
    plane = Plane()
    plane.join("w", slots=3)
    plane.submit("p")
    plane.give("w")
    inside = msgspec.structs.replace(keyed(), options=CallOptions(parent="p"))
    submit(plane, inside, "inner")
    submit(plane, keyed(), "bob")
    own = msgspec.structs.replace(inside, id="own")
    submit(plane, own, "inner")
    plane.give("w")
    plane.handle(TasksCancelled(["p"]))
    assert plane.stops("w") == ["p", "own"]


def restarted(plane: Plane) -> Plane:
    """Another one with what was in the store."""
    changes = plane.scheduler.changes.take(plane.now)
    again = Plane()
    again.now = plane.now + 1.0
    again.scheduler = Scheduler(
        epoch=EPOCH + 1,
        results=Results(max_size=10, ttl=60.0),
        now=again.now,
        rng=random.Random(1),
    )
    again.scheduler.restore_keys(changes.keys)
    again.scheduler.restore([*changes.created, *changes.updated], now=again.now)
    return again


def test_after_a_restart_all_who_have_submitted_a_task_hear_its_end() -> None:
    plane = Plane()
    plane.join("w")
    submit(plane, keyed(), "ann")
    submit(plane, keyed(), "bob")
    again = restarted(plane)
    again.watch(b"ann", "k", is_owner=True)
    again.watch(b"bob", "k", is_owner=True)
    again.wait(1.0)
    again.join("w")
    again.give("w")
    again.scheduler.handle(TasksCancelled(["k"]), now=again.now)
    assert again.stops("w") == ["k"]
    again.handle(SubworkerLost(b"w", "gone", False))
    assert again.heard(b"ann", "k")[-1] is WireStatus.CANCELLED
    assert again.heard(b"bob", "k")[-1] is WireStatus.CANCELLED


@pytest.mark.parametrize("others", [["bob"], []])
def test_after_a_restart_too_who_leaves_cancels_only_what_nobody_else_wants(
    others: list[str],
) -> None:
    """Those who come back first do not decide for all."""
    plane = Plane()
    plane.join("w")
    for name in ("ann", *others):
        submit(plane, keyed(), name)
    again = restarted(plane)
    again.handle(TasksCancelled(["k"], leaver=b"ann"))
    assert (again.scheduler.describe("k", now=again.now).status is WireStatus.PENDING) == bool(
        others
    )


def test_what_was_delayed_before_a_restart_is_nobody_elses_to_cancel() -> None:
    plane = Plane()
    plane.join("w")
    submit(plane, keyed(attached=False), "ann")
    again = restarted(plane)
    submit(again, keyed(), "bob")
    again.handle(TasksCancelled(["k"], leaver=b"bob"))
    assert again.scheduler.describe("k", now=again.now).status is WireStatus.PENDING


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
    assert [r.spec.id for r in plane.scheduler.withdraw(failed)] == ["k"]
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
