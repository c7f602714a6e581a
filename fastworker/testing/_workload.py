"""What clients do in a simulation when nobody says otherwise: a bit of everything.

Each client calls the registered tasks, with arguments made from their annotations,
and waits for some, looks at some later, and cancels some. Some of them are in groups,
some have keys, some are told to a listener; of streams it reads some, and leaves some.
"""

from __future__ import annotations

from contextlib import nullcontext
from random import Random
from typing import TYPE_CHECKING, Any

import trio

from fastworker._client import Client
from fastworker._errors import FastWorkerError
from fastworker._registry import TaskFunction
from fastworker._submitter import Submitter
from fastworker._task_group import OnError
from fastworker.testing._arguments import ArgumentMaker
from fastworker.testing._listener import DEAD_ADDRESS, LISTENER_ADDRESS

if TYPE_CHECKING:
    from fastworker.testing._simulation import Simulation

CALLERS = 4


async def workload(sim: Simulation) -> None:
    """Start all clients of the plan, each with a program of its own."""
    functions = list(sim.registry.functions())
    # Half of the runs are plain ones: what kills and what is rare is in the way of the rest.
    is_plain = sim.random.random() < 0.5
    if is_plain:
        plain = [one for one in functions if not one.is_stream and not is_poison(one)]
        functions = plain or functions
    # With few kinds of tasks at a time, some runs have nothing but what is rare elsewhere.
    count = sim.random.choice([1, 2, 3, len(functions), len(functions)])
    functions = sim.random.sample(functions, min(count, len(functions)))
    makers = [ArgumentMaker(function) for function in functions]
    ways = list(PLAIN_WAYS) if is_plain else draw_ways(sim.random)
    for number in range(1, sim.plan.clients + 1):
        name = f"c{number}"
        random = Random(f"{sim.plan.seed}/{name}")  # noqa: S311
        callers = _Callers(sim, functions, makers, ways, random)
        sim.run_client(name, callers.run)


# What a caller can do, and how often.
WAYS = {
    "delay": 6,
    "wait": 5,
    "handle": 5,
    "cancel": 2,
    "leave": 2,
    "group": 2,
    "key": 3,
    "callback": 3,
}


PLAIN_WAYS = ("delay", "wait", "handle", "cancel", "leave")


def is_poison(function: TaskFunction) -> bool:
    """Whether each attempt of it takes its worker with it."""
    return getattr(function.function, "kills_its_worker", False)


def draw_ways(random: Random) -> list[str]:
    """Which of them this run has: all, or few, so that what is rare elsewhere is not here."""
    ways = list(WAYS)
    return random.sample(ways, random.choice([2, 3, len(ways), len(ways)]))


class _Callers:
    """The callers of one client; started again, they do what is left."""

    def __init__(
        self,
        sim: Simulation,
        functions: list[TaskFunction],
        makers: list[ArgumentMaker],
        ways: list[str],
        random: Random,
    ) -> None:
        self._sim = sim
        self._functions = functions
        self._makers = makers
        self._ways = ways
        self._random = random
        self._left = sim.plan.tasks
        self._has_dialed_the_dead = False
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
            except* FastWorkerError:
                pass  # it is in the history, where it is judged
            await trio.sleep(self._random.expovariate(1 / self._pause))

    async def _call_once(self, client: Client) -> None:
        random = self._random
        index = random.randrange(len(self._functions))
        function, maker = self._functions[index], self._makers[index]
        args, kwargs = maker.draw(random)
        chosen = client.options(priority=random.choice(["critical", "high", "normal", "low"]))
        if function.is_stream:
            await self._read(chosen, function.name, args, kwargs)
            return
        [way] = random.choices(self._ways, [WAYS[way] for way in self._ways])
        match way:
            case "delay":
                await chosen.delay(function.name, *args, **kwargs)
            case "wait":
                await chosen.submit_task(function.name, args, kwargs)
            case "handle":
                handle = await chosen.submit(function.name, *args, **kwargs)
                await handle.wait()
            case "cancel":
                handle = await chosen.submit(function.name, *args, **kwargs)
                await trio.sleep(random.choice([0.0, 0.02, 0.5]) * random.random())
                await handle.cancel()
            case "leave":
                # A caller that leaves: its task is taken back.
                with self._some_time():
                    await chosen.submit_task(function.name, args, kwargs)
            case "group":
                await self._call_group(chosen, index)
            case "key":
                await self._call_with_key(client, index)
            case "callback":
                address = LISTENER_ADDRESS
                if not self._has_dialed_the_dead and random.random() < 0.2:
                    # Once: to give one up takes minutes, and they come one after the other.
                    self._has_dialed_the_dead, address = True, DEAD_ADDRESS
                await chosen.delay_with_callback(function.name, address, *args, **kwargs)
            case _:
                raise AssertionError(way)

    def _some_time(self) -> trio.CancelScope:
        random = self._random
        return trio.move_on_after(random.choice([0.0, 0.02, 1.0]) * random.random())

    async def _call_group(self, chosen: Submitter, index: int) -> None:
        random, name = self._random, self._functions[index].name
        on_error: OnError = random.choice(["cancel", "collect"])
        places = random.choice([1, 2, 64])
        with self._some_time() if random.random() < 0.3 else nullcontext():
            async with chosen.open_task_group(max_in_flight=places, on_error=on_error) as group:
                for _ in range(random.choice([1, 3, 5])):
                    args, kwargs = self._makers[index].draw(random)
                    await group.submit(name, *args, **kwargs)

    async def _call_with_key(self, client: Client, index: int) -> None:
        """Submit what others may have submitted, too; sometimes it is something else."""
        random, name = self._random, self._functions[index].name
        number = random.randrange(4)
        same = Random(f"{self._sim.plan.seed}/{name}/{number}")  # noqa: S311
        args, kwargs = self._makers[index].draw(same)
        if random.random() < 0.1:
            args, kwargs = self._makers[index].draw(random)
        chosen = client.options(idempotency_key=f"{name}/{number}")
        if random.random() < 0.3:
            await chosen.delay(name, *args, **kwargs)
            return
        handle = await chosen.submit(name, *args, **kwargs)
        await handle.wait()

    async def _read(
        self, chosen: Submitter, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        random = self._random
        chosen = chosen.options(buffer=random.choice([1, 2, 32]))
        left = random.choice([0, 2, 1000])
        async with chosen.stream(name, *args, **kwargs) as values:
            async for _ in values:
                left -= 1
                if left < 0:
                    break
                await trio.sleep(random.choice([0.0, 0.0, 0.3]) * random.random())
