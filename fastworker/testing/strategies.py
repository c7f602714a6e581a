"""Hypothesis strategies for simulations, and a state machine to extend.

Needs Hypothesis, which FastWorker itself does not. ``plans()`` draws whole runs,
whose faults Hypothesis then takes away one by one; ``ScheduleMachine`` lets rules say
what happens when, and runs it all at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import trio
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from fastworker._models import TaskPriority
from fastworker._registry import Registry, TaskFunction
from fastworker._registry import registry as global_registry
from fastworker._transport._memory import Faults
from fastworker.testing._arguments import ArgumentMaker
from fastworker.testing._plan import CONTROL, KINDS, Fault, Plan
from fastworker.testing._run import Result
from fastworker.testing._simulate import run_or_fail
from fastworker.testing._simulation import Scenario, Simulation
from fastworker.testing._workload import workload

_SECONDS = st.sampled_from([0.01, 0.3, 1.5, 8.0, 40.0])


def priorities() -> st.SearchStrategy[TaskPriority]:
    """Any priority."""
    return st.sampled_from(TaskPriority)


def calls(function: TaskFunction) -> st.SearchStrategy[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Arguments of a task function, positional ones and keywords, by its annotations.

    Raises:
      ConfigurationError: an annotation says too little.
    """
    maker = ArgumentMaker(function)
    return st.integers(0, 2**32).map(lambda seed: maker.draw(Random(seed)))  # noqa: S311


def message_faults() -> st.SearchStrategy[Faults]:
    """What a network does to frames; nothing at all is the simplest."""
    return st.builds(
        Faults,
        loss=st.sampled_from([0.0, 0.02, 0.1, 0.3]),
        duplicate=st.sampled_from([0.0, 0.1, 0.5]),
        delay=st.sampled_from([0.0, 0.001, 0.05, 0.4]),
        reorder=st.sampled_from([0.0, 0.1, 0.5]),
    )


@st.composite
def faults(
    draw: st.DrawFn, names: list[str], within: float = 10.0, kinds: tuple[str, ...] = KINDS
) -> Fault:
    """One fault of one of these processes, the first of which is the control plane."""
    kind = draw(st.sampled_from(kinds))
    name, other = draw(st.sampled_from(names)), ""
    if kind in ("partition", "partition one way", "unplug"):
        name, other = draw(st.sampled_from(names[1:])), CONTROL
    elif kind.startswith("store"):
        name = CONTROL
    at = draw(st.floats(0.0, within))
    return Fault(at, kind, name, draw(_SECONDS), other, draw(st.integers(0, 15)))


@st.composite
def plans(
    draw: st.DrawFn,
    *,
    workers: int = 2,
    clients: int = 1,
    max_faults: int = 12,
    kinds: tuple[str, ...] = KINDS,
) -> Plan:
    """Whole runs, for ``run_plan``."""
    plan = Plan(
        draw(st.integers(0, 2**32)),
        workers=workers,
        clients=clients,
        is_durable=draw(st.booleans()),
        messages=draw(message_faults()),
    )
    some = draw(st.lists(faults(plan.names, plan.storm, kinds), max_size=max_faults))
    return replace(plan, faults=tuple(sorted(some, key=lambda fault: fault.at)))


class ScheduleMachine(RuleBasedStateMachine):
    """Rules say what happens, one thing after the other; at the end all of it is run.

    Extend it with rules that call :meth:`then`, and with :meth:`check_result`. Its own
    rules crash and pause workers, cut them off, and let time go by.

    Attributes:
      registry: the tasks.
      workers: how many subworkers there are.
    """

    registry: Registry = global_registry
    workers = 2

    def __init__(self) -> None:
        super().__init__()
        self._steps: list[Scenario] = []
        self._faults: list[Fault] = []
        self._at = 0.0

    def then(self, step: Callable[[Simulation], Any]) -> None:
        """Have this coroutine function called with the simulation, beside what runs then."""
        at = self._at

        async def later(sim: Simulation) -> None:
            await trio.sleep(at)
            await step(sim)

        self._steps.append(later)

    def check_result(self, result: Result) -> None:
        """Say what else has to be true; the invariants have been checked by then."""

    @rule(seconds=_SECONDS)
    def time_goes_by(self, seconds: float) -> None:
        self._at += seconds

    @precondition(lambda self: len(self._faults) < 20)
    @rule(
        kind=st.sampled_from(["crash", "silent crash", "pause", "unplug", "partition"]),
        worker=st.integers(0, 7),
        seconds=_SECONDS,
    )
    def a_worker_suffers(self, kind: str, worker: int, seconds: float) -> None:
        name = f"w{worker % self.workers + 1}"
        other = CONTROL if kind in ("unplug", "partition") else ""
        self._faults.append(Fault(self._at, kind, name, seconds, other))

    @precondition(lambda self: len(self._faults) < 20)
    @rule(kind=st.sampled_from(["crash", "pause", "store full"]), seconds=_SECONDS)
    def the_control_plane_suffers(self, kind: str, seconds: float) -> None:
        self._faults.append(Fault(self._at, kind, CONTROL, seconds))

    def teardown(self) -> None:
        """Run it."""
        if not self._steps:
            return
        steps = self._steps

        async def scenario(sim: Simulation) -> None:
            async with trio.open_nursery() as nursery:
                for step in steps:
                    nursery.start_soon(step, sim)

        plan = Plan(
            0, workers=self.workers, clients=0, storm=self._at + 1.0, faults=tuple(self._faults)
        )
        self.check_result(run_or_fail(plan, scenario, self.registry))


__all__ = [
    "ScheduleMachine",
    "calls",
    "faults",
    "message_faults",
    "plans",
    "priorities",
    "workload",
]
