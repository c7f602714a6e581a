"""Runs a plan, and says what is wrong with its history."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from fastworker._core._subworker import FENCE_MARGIN
from fastworker._registry import Registry
from fastworker._registry import registry as global_registry
from fastworker.testing._checker import check
from fastworker.testing._history import Event, History
from fastworker.testing._plan import Plan
from fastworker.testing._rules import Expected, Rules, Violation
from fastworker.testing._simulation import Scenario, Simulation
from fastworker.testing._virtual_time import VirtualClock, run_in_virtual_time
from fastworker.testing._workload import is_poison, workload


@dataclass
class Result:
    """What came of a run.

    Attributes:
      plan: what was run.
      history: what happened.
      violations: what must not have happened.
      seconds: how much virtual time it took.
      error: what the scenario has raised, None if it has not.
    """

    plan: Plan
    history: History
    violations: list[Violation] = field(default_factory=list)
    seconds: float = 0.0
    error: BaseException | None = None

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.violations

    @property
    def events(self) -> list[Event]:
        """The history's events."""
        return self.history.events

    def __str__(self) -> str:
        counts = Counter(str(event.kind) for event in self.events)
        lines = [
            f"seed {self.plan.seed}: "
            + ", ".join(f"{name} {count}" for name, count in sorted(counts.items())),
            *(str(violation) for violation in self.violations[:10]),
        ]
        return "\n".join(lines)


def run_plan(
    plan: Plan, scenario: Scenario = workload, *, registry: Registry = global_registry
) -> Result:
    """Run one plan, in an event loop of its own; from any program but not inside a loop.

    Raises:
      ConfigurationError: a task cannot be simulated.
    """

    if scenario is not workload:
        # A queue that is soon full is for clients that expect it, and tell nobody anything.
        plan = replace(plan, max_queued=Plan.max_queued, listens=False)

    async def main(clock: VirtualClock) -> Result:
        simulation = Simulation(plan, registry, clock)
        await simulation.run(scenario)
        return Result(plan, simulation.history, seconds=simulation.now, error=simulation.error)

    result = run_in_virtual_time(main, seed=str(plan.seed), thread_seconds=plan.store_seconds)
    result.violations = check(result.events, rules_of(plan, registry))
    return result


def rules_of(plan: Plan, registry: Registry) -> Rules:
    """What the checker has to know of this run."""
    functions = {
        function.name: Expected(
            is_endable=function.is_async,
            retries=function.options.max_retries,
            runs_once=function.options.on_lost == "fail",
            grace=function.options.grace,
            lane=function.lane_for("trio"),
            retry_delay=function.options.retry_delay * (1 - function.options.jitter),
            is_poison=is_poison(function),
            is_stream=function.is_stream is True,
        )
        for function in registry.functions()
    }
    return Rules(
        durable=plan.is_durable,
        slack=1.0 + 6 * plan.store_seconds,
        # So long it takes on the average. One call in 10,000 takes nine times that, and
        # an end may wait for the transaction before it.
        disk=1.0 + 16 * plan.store_seconds,
        margin=FENCE_MARGIN,
        functions=functions,
        has_store=True,
        max_queued=plan.max_queued,
    )
