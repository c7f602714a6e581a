"""What clients do in a simulation when nobody says otherwise: a bit of everything.

Each client calls the registered tasks, with arguments made from their annotations,
and waits for some, looks at some later, and cancels some.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import trio

from fastworker._client import Client
from fastworker._errors import FastWorkerError
from fastworker._registry import TaskFunction
from fastworker.testing._arguments import ArgumentMaker

if TYPE_CHECKING:
    from fastworker.testing._simulation import Simulation

CALLERS = 4


async def workload(sim: Simulation) -> None:
    """Start all clients of the plan, each with a program of its own."""
    functions = [function for function in sim.registry.functions() if not function.is_stream]
    # With few kinds of tasks at a time, some runs have nothing but what is rare elsewhere.
    count = sim.random.choice([1, 2, 3, len(functions), len(functions)])
    functions = sim.random.sample(functions, min(count, len(functions)))
    makers = [ArgumentMaker(function) for function in functions]
    for number in range(1, sim.plan.clients + 1):
        name = f"c{number}"
        callers = _Callers(sim, functions, makers, Random(f"{sim.plan.seed}/{name}"))  # noqa: S311
        sim.run_client(name, callers.run)


class _Callers:
    """The callers of one client; started again, they do what is left."""

    def __init__(
        self,
        sim: Simulation,
        functions: list[TaskFunction],
        makers: list[ArgumentMaker],
        random: Random,
    ) -> None:
        self._sim = sim
        self._functions = functions
        self._makers = makers
        self._random = random
        self._left = sim.plan.tasks
        self._pause = sim.plan.storm / sim.plan.tasks

    async def run(self, client: Client) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(CALLERS):
                nursery.start_soon(self._call, client)

    async def _call(self, client: Client) -> None:
        while self._left > 0:
            self._left -= 1
            try:
                await self._call_once(client)
            except FastWorkerError:
                pass  # it is in the history, where it is judged
            await trio.sleep(self._random.expovariate(1 / self._pause))

    async def _call_once(self, client: Client) -> None:
        random = self._random
        index = random.randrange(len(self._functions))
        function, maker = self._functions[index], self._makers[index]
        args, kwargs = maker.draw(random)
        chosen = client.options(priority=random.choice(["critical", "high", "normal", "low"]))
        how = random.random()
        if how < 0.3:
            await chosen.delay(function.name, *args, **kwargs)
        elif how < 0.55:
            await chosen.submit_task(function.name, args, kwargs)
        elif how < 0.8:
            handle = await chosen.submit(function.name, *args, **kwargs)
            await handle.wait()
        elif how < 0.9:
            handle = await chosen.submit(function.name, *args, **kwargs)
            await trio.sleep(random.choice([0.0, 0.02, 0.5]) * random.random())
            await handle.cancel()
        else:
            # A caller that leaves: its task is taken back.
            with trio.move_on_after(random.choice([0.0, 0.02, 1.0]) * random.random()):
                await chosen.submit_task(function.name, args, kwargs)
