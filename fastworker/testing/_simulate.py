"""``@simulate``: a scenario as a test, which any test runner can call."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence

from fastworker._registry import Registry
from fastworker._registry import registry as global_registry
from fastworker.testing._plan import Plan, draw_plan
from fastworker.testing._run import Result, run_plan
from fastworker.testing._seeds import find_failures
from fastworker.testing._simulation import Scenario


class SimulationFailed(AssertionError):
    """A seed has broken an invariant; the message has all that is needed to see it again."""

    def __init__(self, result: Result, text: str) -> None:
        super().__init__(text)
        self.result = result


def simulate(
    *,
    seeds: int | Iterable[int] = 100,
    workers: int | None = None,
    clients: int | None = None,
    faults: Sequence[str] | None = None,
    durable: bool | None = True,
    registry: Registry = global_registry,
) -> Callable[[Scenario], Callable[[], None]]:
    """Make a test of a scenario: run it under faults, once for each seed.

    ``@simulate(seeds=200, workers=2)`` above ``async def test_orders(sim): ...``. What
    comes out is a plain function without arguments, for any test runner; it must not
    be called inside a Trio loop.

    Args:
      seeds: how many, from 0 on; or which.
      workers, clients: how many there are; drawn from the seed if not given.
      faults: which kinds may happen, by default all: see ``fastworker.testing.KINDS``;
        "messages" are those of frames. ``()`` is none at all.
      durable: whether the control plane's store outlives it; None is drawn. Without,
        tasks are lost whenever the control plane is killed, and their callers are told.
      registry: the tasks.

    Raises:
      SimulationFailed: when the function is called, and a seed breaks an invariant or
        an assertion of the scenario or of a task.
    """

    def decorate(scenario: Scenario) -> Callable[[], None]:
        def run() -> None:
            chosen = range(seeds) if isinstance(seeds, int) else seeds
            plans = (
                draw_plan(
                    seed,
                    workers=workers,
                    clients=clients,
                    kinds=None if faults is None else tuple(faults),
                    is_durable=durable,
                )
                for seed in chosen
            )
            check_plans(plans, scenario, registry)

        functools.update_wrapper(run, scenario)
        # pytest would look behind it, and ask for a fixture named "sim".
        del run.__wrapped__  # type: ignore[attr-defined]
        return run

    return decorate


def run_or_fail(plan: Plan, scenario: Scenario, registry: Registry) -> Result:
    """Run one plan as it is.

    Raises:
      SimulationFailed: something is wrong with its history.
    """
    result = run_plan(plan, scenario, registry=registry)
    if not result.is_sound:
        text = "\n".join(map(str, result.violations[:5]))
        raise SimulationFailed(result, text) from result.error
    return result


def check_plans(plans: Iterable[Plan], scenario: Scenario, registry: Registry) -> None:
    """Run plans until one fails.

    Raises:
      SimulationFailed: it did.
    """
    for failure in find_failures(lambda p: run_plan(p, scenario, registry=registry), plans):
        if failure is not None:
            again = f"run it again with: @simulate(seeds=[{failure.seed}])"
            raise SimulationFailed(
                failure.least, f"{failure}\n{again}"
            ) from failure.least.error
