"""What clients do in a simulation when nobody says otherwise: a bit of everything.

Each client calls the registered tasks, with arguments made from their annotations,
and waits for some, looks at some later, cancels some, has some told to a listener,
submits some twice, reads streams, and opens groups.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import trio

from fastworker._client import Client
from fastworker._errors import FastWorkerError
from fastworker._registry import TaskFunction
from fastworker._submitter import Submitter
from fastworker.testing._arguments import ArgumentMaker
from fastworker.testing._listener import LISTENER

if TYPE_CHECKING:
    from fastworker.testing._simulation import Simulation

CALLERS: Final = 4


class Call(NamedTuple):
    """What is called, and how."""

    submitter: Submitter
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


async def workload(sim: Simulation) -> None:
    """Start all clients of the plan, each with a program of its own."""
    functions = list(sim.registry.functions())
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
        # All at once, so that there is a queue, and an order in it.
        self._is_burst = random.random() < 0.2
        ways: dict[Callable[[Call], Awaitable[None]], float] = {
            self._leave_it: 0.25,
            self._wait_for_it: 0.2,
            self._wait_by_handle: 0.15,
            self._cancel_it: 0.1,
            self._walk_away: 0.1,
            self._have_it_told: 0.1,
            self._submit_it_twice: 0.05,
            self._open_a_group: 0.05,
        }
        self._ways, self._weights = list(ways), list(ways.values())

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
            if not self._is_burst:
                await trio.sleep(self._random.expovariate(1 / self._pause))

    async def _call_once(self, client: Client) -> None:
        random = self._random
        index = random.randrange(len(self._functions))
        function, maker = self._functions[index], self._makers[index]
        args, kwargs = maker.draw(random)
        chosen = client.options(priority=random.choice(["critical", "high", "normal", "low"]))
        call = Call(chosen, function.name, args, kwargs)
        if function.is_stream:
            await self._read_it(call)
        elif self._is_burst:
            await self._leave_it(call)
        else:
            (way,) = random.choices(self._ways, self._weights)
            await way(call)

    # --- ways to call a task ---

    async def _leave_it(self, call: Call) -> None:
        await call.submitter.delay(call.name, *call.args, **call.kwargs)

    async def _wait_for_it(self, call: Call) -> None:
        await call.submitter.submit_task(call.name, call.args, call.kwargs)

    async def _wait_by_handle(self, call: Call) -> None:
        handle = await call.submitter.submit(call.name, *call.args, **call.kwargs)
        await handle.wait()

    async def _cancel_it(self, call: Call) -> None:
        handle = await call.submitter.submit(call.name, *call.args, **call.kwargs)
        await trio.sleep(self._random.choice([0.0, 0.02, 0.5]) * self._random.random())
        await handle.cancel()

    async def _walk_away(self, call: Call) -> None:
        """A caller that leaves: its task is taken back."""
        with trio.move_on_after(self._random.choice([0.0, 0.02, 1.0]) * self._random.random()):
            await call.submitter.submit_task(call.name, call.args, call.kwargs)

    async def _have_it_told(self, call: Call) -> None:
        await call.submitter.delay_with_callback(call.name, LISTENER, *call.args, **call.kwargs)

    async def _submit_it_twice(self, call: Call) -> None:
        """By one key: it is one task, whoever submits it, and however often."""
        key = f"key {self._random.randrange(1000)} {call.args} {call.kwargs}"
        chosen = call.submitter.options(idempotency_key=f"{call.name} {key}")
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(self._leave_it, call._replace(submitter=chosen))

    async def _open_a_group(self, call: Call) -> None:
        async with call.submitter.open_task_group() as group:
            for _ in range(self._random.choice([1, 2, 3])):
                await group.submit(call.name, *call.args, **call.kwargs)
            if self._random.random() < 0.2:
                group.cancel()

    async def _read_it(self, call: Call) -> None:
        """Read a stream, and sometimes leave in the middle of it."""
        left = self._random.choice([1, 3, 1000, 1000])
        async with call.submitter.stream(call.name, *call.args, **call.kwargs) as values:
            async for _ in values:
                left -= 1
                if not left:
                    return
