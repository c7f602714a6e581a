"""Who gets a task where there are hundreds: the least loaded, found without looking at all."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastworker._core._messages import FunctionInfo, TaskSpec
from fastworker._core._placement import Round, Takers
from fastworker._core._subworkers import SubworkerRecord
from fastworker._core._task_states import Step, TaskRecord
from tests.core.plane import EPOCH, NORMAL, ONCE, SHORT, WORK, Plane

FUNCTIONS = [SHORT, WORK, ONCE]


def a_task(number: int, name: str, *, is_wary: bool = False) -> TaskRecord:
    record = TaskRecord(TaskSpec(f"t{number}", name, NORMAL, 1, b"()", 0.0), number, None)
    record.step(Step.QUEUE)
    record.is_wary = is_wary
    return record


def a_round(number: int, functions: list[FunctionInfo], slots: int) -> Round:
    worker = SubworkerRecord(b"%d" % number, f"w{number}", "", functions, number)
    worker.state_capacity({"thread": slots})
    worker.estimates["short"] = 0.001
    return Round(worker, EPOCH, 0.0)


def first_of_the_least_loaded(rounds: list[Round], record: TaskRecord) -> Round | None:
    """As simple as it can be said."""
    able = [given for given in rounds if given.can_take(record)]
    return min(able, key=lambda given: given.worker.load, default=None)


@given(
    workers=st.lists(
        st.tuples(st.lists(st.sampled_from(FUNCTIONS), unique=True), st.integers(0, 4)),
        max_size=8,
    ),
    tasks=st.lists(
        st.tuples(st.sampled_from(FUNCTIONS), st.booleans(), st.booleans()), max_size=60
    ),
)
def test_the_first_of_the_least_loaded_that_can_takes_each_task(
    workers: list[tuple[list[FunctionInfo], int]],
    tasks: list[tuple[FunctionInfo, bool, bool]],
) -> None:
    """Whatever was given before, and whatever lane was closed for a task that waits."""
    rounds = [a_round(n, infos, slots) for n, (infos, slots) in enumerate(workers)]
    takers = {info.name: Takers(info.name, rounds) for info in FUNCTIONS}
    for number, (info, is_wary, closes) in enumerate(tasks):
        record = a_task(number, info.name, is_wary=is_wary)
        expected = first_of_the_least_loaded(rounds, record)
        given = takers[info.name].least_loaded(record)
        assert given is expected
        if given is not None:
            given.lease(record)
            given.worker.check()
        elif closes:
            for other in rounds:
                other.close_lane(info.name)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often a subworker was asked whether it can take a task, and for its load."""
    counts: Counter[str] = Counter()
    can_take = Round.can_take
    load = SubworkerRecord.load.fget
    assert load is not None

    def counted(given: Round, record: TaskRecord) -> bool:
        counts["can_take"] += 1
        return can_take(given, record)

    def counted_load(worker: SubworkerRecord) -> float:
        counts["load"] += 1
        result: float = load(worker)
        return result

    monkeypatch.setattr(Round, "can_take", counted)
    monkeypatch.setattr(SubworkerRecord, "load", property(counted_load))
    return counts


def a_plane(workers: int, slots: int) -> tuple[Plane, list[str]]:
    plane = Plane()
    names = [f"w{number}" for number in range(workers)]
    for name in names:
        plane.join(name, slots=slots)
    return plane, names


def test_of_a_hundred_subworkers_with_room_each_task_has_few_looked_at(
    looks: Counter[str],
) -> None:
    plane, names = a_plane(100, slots=10)
    plane.submit(*(f"t{number}" for number in range(200)))
    given = plane.give(*names)
    assert {len(ids) for ids in given.values()} == {2}
    assert looks["can_take"] == 200
    assert looks["load"] <= 100 + 2 * 200  # each once at first


def test_of_a_hundred_subworkers_the_full_ones_are_not_looked_at_for_each_task(
    looks: Counter[str],
) -> None:
    plane, names = a_plane(100, slots=10)
    plane.submit(*(f"t{number}" for number in range(1100)))
    plane.give(*names)
    running = {
        name: list(plane.scheduler.subworker(name.encode()).lanes["thread"].leased)
        for name in names
    }
    plane.end("w7", *running["w7"])
    looks.clear()
    given = plane.give(*names)
    assert {name for name, ids in given.items() if ids} == {"w7"}
    assert looks["can_take"] == 11  # ten, and one that is not taken
    assert looks["load"] <= 20


def test_who_has_no_slot_for_a_task_that_is_never_sent_ahead_may_get_the_next() -> None:
    rounds = [a_round(number, [SHORT], slots=1) for number in range(2)]
    takers = Takers("short", rounds)
    for number in range(2):
        given = takers.least_loaded(a_task(number, "short"))
        assert given is rounds[number]
        given.lease(a_task(number, "short"))
    assert takers.least_loaded(a_task(2, "short", is_wary=True)) is None
    assert takers.least_loaded(a_task(3, "short")) is rounds[0]


def test_a_full_subworker_that_states_more_capacity_gets_work(looks: Counter[str]) -> None:
    plane, _ = a_plane(1, slots=1)
    plane.submit("a", "b")
    assert plane.give("w0") == {"w0": ["a"]}
    assert plane.give("w0") == {"w0": []}
    looks.clear()
    assert plane.give("w0") == {"w0": []}
    assert not looks, "it was looked at although nothing has changed"
    plane.capacity("w0", {"thread": 2})
    assert plane.give("w0") == {"w0": ["b"]}
