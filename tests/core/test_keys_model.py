"""Keys over their whole life, against a book that knows what they promise.

A key is one task until its time is over and that task has ended, over restarts
too; nobody who leaves takes it from somebody else; everybody who wants its end
hears it.
"""

from __future__ import annotations

import random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from fastworker._core._messages import RefusalCode, SubmitReply, TaskSpec, WireStatus
from fastworker._core._results import Results
from fastworker._core._scheduler import Scheduler
from fastworker._core._scheduler_events import (
    SubmitDecided,
    TaskChanged,
    TasksCancelled,
    TasksSubmitted,
)
from tests.core.plane import EPOCH, Plane
from tests.kept_store import KeptStore

CLIENTS = ("ann", "bob", "eve")
KEYS = ("k1", "k2")
ENDS = (WireStatus.SUCCESS, WireStatus.FAILURE, WireStatus.CANCELLED, WireStatus.EXPIRED)
GHOST = "somebody who is gone"


class Entry:
    """What the book says of a key's task."""

    def __init__(self, content: int, expires_at: float, attached: bool) -> None:
        self.content = content
        self.expires_at = expires_at
        self.attached = attached
        self.wanted: set[str] = set()
        self.is_live = True
        self.is_restarted = False
        self.has_run = False


class LifeOfKeys(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.plane = Plane()
        self.store = KeptStore()
        self.book: dict[str, Entry] = {}
        self.workers = 0

    @initialize()
    def start(self) -> None:
        self.plane.join("w0", slots=10)

    # --- what happens ---

    @rule(
        client=st.sampled_from(CLIENTS),
        key=st.sampled_from(KEYS),
        content=st.integers(0, 1),
        ttl=st.sampled_from([5.0, 100.0, 1000.0]),
        attached=st.booleans(),
    )
    def submit(self, client: str, key: str, content: int, ttl: float, attached: bool) -> None:
        plane, entry = self.plane, self.book.get(key)
        payload = str(content).encode()
        spec = TaskSpec(key, "work", 2, 1, payload, 0.0, attached, key_ttl=ttl)
        is_free = entry is None or (not entry.is_live and entry.expires_at <= plane.now)
        if is_free:
            plane.finals.pop(key, None)
        commands = plane.handle(TasksSubmitted(client.encode(), [spec]))
        (reply,) = [c.reply for c in commands if isinstance(c, SubmitDecided)]
        told = [c.event.status for c in commands if isinstance(c, TaskChanged)]
        if is_free:
            entry = self.book[key] = Entry(content, plane.now + ttl, attached)
        assert entry is not None
        if entry.content != content:
            assert [refusal.code for refusal in reply.refusals] == [RefusalCode.CONFLICT]
            assert told == []
            return
        assert reply == SubmitReply()
        if entry.is_live:
            assert told == []
            entry.wanted.add(client)
        else:
            assert len(told) == 1
            assert told[0] is WireStatus.EVICTED or told[0] in ENDS

    @rule(key=st.sampled_from(KEYS))
    def run(self, key: str) -> None:
        entry, worker = self.book.get(key), f"w{self.workers}"
        self.plane.wait(1.0)  # what a restart holds back is given out then
        self.plane.give(worker)
        # After a restart it may have to wait for another one, which runs alone.
        if entry is not None and entry.is_live and self.is_leased(key, worker):
            assert not entry.has_run, "it runs twice"
            entry.has_run = True
            self.plane.told.clear()
            self.plane.end(worker, key)
            self.ended(key, WireStatus.SUCCESS)

    @rule(client=st.sampled_from(CLIENTS), key=st.sampled_from(KEYS))
    def leave(self, client: str, key: str) -> None:
        entry = self.book.get(key)
        if entry is None or not entry.is_live or client not in entry.wanted:
            return
        self.plane.told.clear()
        self.plane.handle(TasksCancelled([key], leaver=client.encode()))
        entry.wanted.discard(client)
        if entry.wanted:
            assert self.goes_on(key)
        elif not entry.is_restarted:
            assert not self.goes_on(key)
        if not self.goes_on(key):
            worker = f"w{self.workers}"
            if key in self.plane.scheduler.open_tasks.by_id:  # it runs, and is told to stop
                self.plane.end(worker, key, outcome=WireStatus.CANCELLED)
            entry.wanted.add(client)  # it hears so
            self.ended(key, WireStatus.CANCELLED)

    @rule(client=st.sampled_from(CLIENTS))
    def gone(self, client: str) -> None:
        self.plane.owner_gone(client.encode())
        for key, entry in self.book.items():
            if entry.is_live and client in entry.wanted:
                entry.wanted.remove(client)
                entry.wanted.add(GHOST)
                assert self.goes_on(key)

    @rule(seconds=st.sampled_from([1.0, 10.0, 70.0, 700.0]))
    def wait(self, seconds: float) -> None:
        self.plane.wait(seconds)

    # Its lanes end with the control plane: a task that four of them ran is given up.
    @precondition(lambda self: self.workers < 3)
    @rule(come_back=st.sets(st.sampled_from(CLIENTS)))
    def restart(self, come_back: set[str]) -> None:
        self.commit()
        old, self.plane = self.plane, Plane()
        plane = self.plane
        plane.now = old.now + 5.0
        plane.finals = old.finals
        plane.scheduler = Scheduler(
            epoch=EPOCH + 1,
            results=Results(max_size=1000, ttl=60.0),
            now=plane.now,
            rng=random.Random(1),
        )
        plane.scheduler.restore_keys(self.store.keys(now=plane.now))
        plane.scheduler.restore(
            [task for tasks in self.store.open_tasks() for task in tasks], now=plane.now
        )
        self.workers += 1
        # The fences of this epoch are what the plane talks about.
        plane.epoch = EPOCH + 1
        plane.join(f"w{self.workers}", slots=10)
        for key, entry in self.book.items():
            if not entry.is_live:
                continue
            entry.is_restarted = True
            is_known = len(entry.wanted) > 1 or not entry.attached or GHOST in entry.wanted
            back = entry.wanted & come_back
            for client in sorted(back):
                plane.watch(client.encode(), key, is_owner=True)
            entry.wanted = back | ({GHOST} if is_known and entry.wanted - back else set())

    # --- what is promised ---

    def is_leased(self, key: str, worker: str) -> bool:
        scheduler = self.plane.scheduler
        return scheduler.is_leased(key, self.plane.fence(key), worker.encode())

    def goes_on(self, key: str) -> bool:
        record = self.plane.scheduler.open_tasks.by_id.get(key)
        return record is not None and not record.is_cancel_requested

    def ended(self, key: str, status: WireStatus) -> None:
        entry = self.book[key]
        entry.is_live = False
        for client in entry.wanted - {GHOST}:
            heard = [s for s in self.plane.heard(client.encode(), key) if s in ENDS]
            assert heard == [status], f"{client} heard {heard}"

    def commit(self) -> None:
        changes = self.plane.scheduler.changes
        if len(changes):
            self.store.write(changes.take(self.plane.now))
            changes.note_durable()

    @invariant()
    def the_store_has_the_keys(self) -> None:
        self.commit()
        now = self.plane.now
        kept = {key.key: key.content for key in self.store.keys(now=now)}
        expected = {key for key, entry in self.book.items() if entry.expires_at > now}
        assert kept.keys() == expected
        assert all(self.goes_on(key) for key, entry in self.book.items() if entry.is_live), (
            "a task is gone that was wanted"
        )


TestLifeOfKeys = LifeOfKeys.TestCase
TestLifeOfKeys.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
