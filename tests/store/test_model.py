"""Any sequence of calls: a store answers as a dictionary would, and is so after a restart."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fastworker._core._messages import WireStatus
from fastworker._core._stored import (
    CallbackStage,
    Changes,
    StoredKey,
    StoredState,
    StoredTask,
    TasksAsked,
    row_of,
)

from .makers import MAKERS
from .rows import BEGIN, ended, flat, started, task, trim_all

NAMES = st.sampled_from(["add", "mul"])
STATUSES = st.sampled_from(
    [WireStatus.SUCCESS, WireStatus.FAILURE, WireStatus.CANCELLED, WireStatus.EXPIRED]
)
STAGES = st.sampled_from([CallbackStage.NONE, CallbackStage.DUE])
PICKS = st.lists(st.integers(0, 1_000), max_size=6)


class StoreModel(RuleBasedStateMachine):
    """``rows`` and ``keys`` are what a store of the kind ``kind`` has to have."""

    kind = ""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.maker = MAKERS[self.kind](self.folder)
        self.store = self.maker.make()
        self.epoch = self.store.open().epoch
        self.reader = self.store.reader()
        self.rows: dict[str, StoredTask] = {}
        self.keys: dict[str, StoredKey] = {}
        self.number = 0
        self.clock = BEGIN

    def teardown(self) -> None:
        self.reader.close()
        self.store.close()
        shutil.rmtree(self.folder)

    def in_order(self) -> list[StoredTask]:
        return sorted(self.rows.values(), key=lambda row: row.sequence)

    def pick(self, picks: list[int], *, terminal: bool) -> list[StoredTask]:
        some = [row for row in self.in_order() if row.state.is_terminal is terminal]
        chosen = {some[pick % len(some)].spec.id for pick in picks} if some else set()
        return [row for row in some if row.spec.id in chosen]

    def tick(self) -> float:
        self.clock += 1.0
        self.maker.now = self.clock
        return self.clock

    @rule(
        names=st.lists(NAMES, max_size=4),
        starts=PICKS,
        ends=st.lists(st.tuples(st.integers(0, 1_000), STATUSES, STAGES), max_size=4),
        told=PICKS,
        purges=PICKS,
        reused=st.booleans(),
    )
    def write(
        self,
        names: list[str],
        starts: list[int],
        ends: list[tuple[int, WireStatus, CallbackStage]],
        told: list[int],
        purges: list[int],
        reused: bool,
    ) -> None:
        purged = [
            row.spec.id
            for row in self.pick(purges, terminal=True)
            if row.callback is not CallbackStage.DUE
        ]
        updated = {
            row.spec.id: started(row, fence=row.life.fence + 1)
            for row in self.pick(starts, terminal=False)
        }
        for pick, status, callback in ends:
            for row in self.pick([pick], terminal=False):
                updated.pop(row.spec.id, None)  # the later it ends the later it stands
                updated[row.spec.id] = ended(row, status, at=self.tick(), callback=callback)
        called_back = [
            row.spec.id
            for row in self.pick(told, terminal=True)
            if row.callback is CallbackStage.DUE
        ]
        created: list[StoredTask] = []
        for index, name in enumerate(names):
            self.number += 1
            row = task(self.number, name=name)
            if reused and index < len(purged):
                row = task(self.number, name=name, id=purged[index])
            created.append(row)
        self.store.write(
            Changes(created, list(updated.values()), called_back=called_back, purged=purged)
        )
        for task_id in purged:
            del self.rows[task_id]
        self.rows |= {row.spec.id: row for row in created}
        self.rows |= updated
        for task_id in called_back:
            self.rows[task_id] = msgspec.structs.replace(
                self.rows[task_id], callback=CallbackStage.SETTLED
            )

    @rule(
        keys=st.dictionaries(st.sampled_from("abcd"), st.integers(0, 50), max_size=3),
        dropped=st.sets(st.sampled_from("efgh"), max_size=2),
    )
    def write_keys(self, keys: dict[str, int], dropped: set[str]) -> None:
        # Some of those that are given now are dropped another time.
        fresh = [StoredKey(key, f"task-{n}", n, self.clock + n) for key, n in keys.items()]
        fresh += [StoredKey(key.replace("a", "e"), "t", 1, self.clock + 5) for key in keys]
        fresh = list({key.key: key for key in fresh if key.key not in dropped}.values())
        self.store.write(Changes(keys=fresh, dropped_keys=sorted(dropped)))
        self.keys |= {key.key: key for key in fresh}
        for name in dropped:
            self.keys.pop(name, None)

    @rule(max_ended=st.integers(0, 8), age=st.integers(0, 20))
    def trim(self, max_ended: int, age: int) -> None:
        before = self.clock - age
        trim_all(self.store, max_ended=max_ended, before=before)
        self.keys = {k: key for k, key in self.keys.items() if key.expires_at > self.clock}
        over = sorted(
            (row for row in self.rows.values() if row.state.is_terminal),
            key=lambda row: row.changed,
        )
        excess = len(over) - max_ended
        for row in [row for row in over if row.callback is not CallbackStage.DUE]:
            if excess > 0 or row.changed < before:
                del self.rows[row.spec.id]
                excess -= 1

    @rule()
    def recover(self) -> None:
        self.store.recover()

    @precondition(lambda self: self.store.is_durable)
    @rule()
    def restart(self) -> None:
        self.reader.close()
        self.store.close()
        self.store = self.maker.make()
        opened = self.store.open()
        assert opened.epoch > self.epoch
        assert opened.last_sequence == self.number
        assert opened.problems == []
        self.epoch = opened.epoch
        rows = self.in_order()
        assert flat(self.store.open_tasks()) == [r for r in rows if not r.state.is_terminal]
        due = [row for row in rows if row.callback is CallbackStage.DUE]
        assert flat(self.store.due_callbacks()) == due
        over = sorted((r for r in rows if r.state.is_terminal), key=lambda row: row.changed)
        assert self.store.outcomes(limit=5, since=0.0) == over[-5:]
        kept = sorted(self.store.keys(now=self.clock), key=lambda key: key.key)
        alive = [key for key in self.keys.values() if key.expires_at > self.clock]
        assert kept == sorted(alive, key=lambda key: key.key)
        self.reader = self.store.reader()

    @rule(
        states=st.lists(st.sampled_from(list(StoredState)), max_size=3),
        name=st.sampled_from(["", "add", "nobody"]),
        before=st.integers(0, 30),
        limit=st.integers(1, 5),
    )
    def page(self, states: list[StoredState], name: str, before: int, limit: int) -> None:
        found = self.reader.page(TasksAsked(states, name, before=before, limit=limit))
        expected = [
            row_of(row)
            for row in reversed(self.in_order())
            if (not states or row.state in states)
            and (not name or row.spec.name == name)
            and (not before or row.sequence < before)
        ]
        assert found.rows == expected[:limit]
        assert found.more == (len(expected) > limit)

    @invariant()
    def all_of_it_is_read(self) -> None:
        found = sorted(self.reader.read(list(self.rows)), key=lambda row: row.sequence)
        assert found == self.in_order()
        assert self.store.take_problems() == []


@pytest.mark.parametrize("kind", sorted(MAKERS))
def test_whatever_is_called_a_store_answers_as_a_dictionary_would(kind: str) -> None:
    case: Any = type(f"{kind}Model", (StoreModel,), {"kind": kind})
    case.TestCase.settings = settings(
        max_examples=25,
        stateful_step_count=15,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    case.TestCase().runTest()
