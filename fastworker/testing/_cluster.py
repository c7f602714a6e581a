"""A cluster in virtual time for a test that says itself what goes wrong, if anything."""

from __future__ import annotations

from fastworker._registry import Registry
from fastworker._registry import registry as global_registry
from fastworker.testing._plan import Plan
from fastworker.testing._run import Result
from fastworker.testing._simulate import run_or_fail
from fastworker.testing._simulation import LONG, Scenario


class Cluster:
    """See the module's first lines.

    Args:
      registry: the tasks, by default all that ``@task`` has registered.
    """

    def __init__(self, registry: Registry = global_registry) -> None:
        self._registry = registry

    def run(
        self, scenario: Scenario, *, workers: int = 1, slots: int = 4, seed: int = 0
    ) -> Result:
        """Run a scenario, from any test, to its end and until all its tasks have ended.

        Args:
          scenario: ``async def scenario(sim)``; ``sim.client()`` makes a client, and
            ``sim.crash("w1")`` and the like make things go wrong.
          workers: how many subworkers there are: w1, w2, …
          slots: how many ``def`` tasks each runs at the same time.
          seed: decides what is left to chance.

        Raises:
          SimulationFailed: an invariant or an assertion was broken; the error of the
            scenario is its cause.
        """
        plan = Plan(seed, workers=workers, clients=0, slots=slots, storm=0.0, settle=LONG)
        return run_or_fail(plan, scenario, self._registry)
