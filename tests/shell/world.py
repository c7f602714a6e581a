"""A whole cluster in one Trio loop: the real shells on a network in memory.

Time is virtual (``autojump_clock``), no socket is opened and no thread is
started: lanes run inline. Tasks say when they start and wait to be let go, so
a test decides what overlaps.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from random import Random
from typing import Any

import trio

from fastworker import Client, ControlPlaneWorker, SubWorker
from fastworker._core._subworkers import SubworkerRecord
from fastworker._lanes._inline import InlineLane
from fastworker._registry import Registry
from fastworker._transport._memory import MemoryNetwork

BASE = "tcp://127.0.0.1:5555"
MANAGEMENT = "tcp://127.0.0.1:5560"
DISCOVERY = "tcp://127.0.0.1:5550"


class World:
    """See the module's first lines.

    Attributes:
      registry: the tasks below: those that are ``def`` have another lane, with slots
          of its own, than the others.
      ran: what has run, in the order of starting, as the tasks were told.
      stopped: which waiting tasks were cancelled.
    """

    def __init__(self, nursery: trio.Nursery, seed: int) -> None:
        self.network = MemoryNetwork(random=Random(seed))
        self.registry = Registry()
        self.nursery = nursery
        self.ran: list[Any] = []
        self.stopped: list[Any] = []
        self._doors: dict[Any, trio.Event] = {}
        self._plane: ControlPlaneWorker | None = None
        for function in (
            self.add,
            self.count,
            self.count_in_a_thread,
            self.echo,
            self.fail,
            self.length,
            self.note,
            self.opaque,
            self.sleep,
            self.wait,
        ):
            self.registry.register(function)

    # --- the tasks ---

    def add(self, a: int, b: int) -> int:
        self.ran.append((a, b))
        return a + b

    def echo(self, *args: Any, **kwargs: Any) -> Any:
        return [list(args), kwargs]

    async def note(self, what: Any) -> Any:
        self.ran.append(what)
        return what

    async def wait(self, what: Any) -> Any:
        """Run until :meth:`let_go`."""
        self.ran.append(what)
        try:
            await self._door(what).wait()
        except trio.Cancelled:
            self.stopped.append(what)
            raise
        return what

    async def sleep(self, what: Any, seconds: float = 1.0) -> Any:
        self.ran.append(what)
        await trio.sleep(seconds)
        return what

    async def count(
        self, what: Any, end: int, *, fail: bool = False, every: float = 0.0
    ) -> AsyncGenerator[int, None]:
        """Yield the numbers below ``end``; ``ran`` has ``(what, number)`` before each."""
        try:
            for number in range(end):
                if every:
                    await trio.sleep(every)
                self.ran.append((what, number))
                yield number
            if fail:
                raise ValueError("no luck")
        finally:
            self.stopped.append(what)

    def count_in_a_thread(self, what: Any, end: int) -> Generator[int, None, None]:
        """As :meth:`count`."""
        try:
            for number in range(end):
                self.ran.append((what, number))
                yield number
        finally:
            self.stopped.append(what)

    def fail(self, message: str = "no luck") -> None:
        raise ValueError(message)

    def length(self, text: str) -> int:
        return len(text)

    def opaque(self) -> object:
        return object()

    def let_go(self, what: Any) -> None:
        """Let the task that waits with this end, and all later ones."""
        self._door(what).set()

    def _door(self, what: Any) -> trio.Event:
        return self._doors.setdefault(what, trio.Event())

    # --- the processes ---

    @property
    def plane(self) -> ControlPlaneWorker:
        assert self._plane is not None
        return self._plane

    async def start_plane(self, **settings: Any) -> ControlPlaneWorker:
        """Start a control plane, which is ``plane`` from now on."""
        self._plane = self.new_plane(**settings)
        await self.nursery.start(self._plane.run)
        return self._plane

    def new_plane(self, **settings: Any) -> ControlPlaneWorker:
        settings.setdefault("executes", False)
        return ControlPlaneWorker(
            transport=self.network,
            registry=self.registry,
            make_lane=self._lane_maker(settings.get("concurrency") or 1),
            **settings,
        )

    async def start_worker(
        self, worker_id: str = "w1", address: str = MANAGEMENT, **settings: Any
    ) -> SubWorker:
        worker = self.new_worker(worker_id, address, **settings)
        await self.nursery.start(worker.run)
        return worker

    def new_worker(
        self,
        worker_id: str = "w1",
        address: str = MANAGEMENT,
        *,
        slots: int = 1,
        **settings: Any,
    ) -> SubWorker:
        settings.setdefault("registry", self.registry)
        return SubWorker(
            worker_id,
            address,
            transport=self.network,
            make_lane=self._lane_maker(slots),
            **settings,
        )

    def new_client(self, **settings: Any) -> Client:
        return Client(transport=self.network, registry=self.registry, **settings)

    @asynccontextmanager
    async def client(self, **settings: Any) -> AsyncIterator[Client]:
        async with self.new_client(**settings) as client:
            yield client

    def _lane_maker(self, slots: int) -> Any:
        def make(kind: str, _: int, sink: Any, accepted: Any) -> InlineLane:
            return InlineLane(self.nursery, slots, sink, accepted, kind=kind)

        return make

    # --- the network ---

    def cut_off(self, address: str) -> None:
        """Break all pipes to an address and let no new one come up."""
        self.network.partition(address)
        self.network.reset_pipes(address)

    @contextmanager
    def restarting(self) -> Iterator[None]:
        """Kill the control plane without a word; start another one in the body."""
        assert self.plane._scope is not None
        self.plane._scope.cancel()
        self._plane = None
        yield

    # --- what is left ---

    def tasks(self) -> Any:
        """The numbers of the control plane's tasks."""
        statistics = self.plane.statistics()
        assert statistics is not None
        return statistics.tasks

    def subworkers(self) -> set[SubworkerRecord]:
        """Whom the control plane has not taken for lost; who comes back then is another."""
        assert self.plane._state is not None
        return set(self.plane._state._scheduler._workers.values())

    def count_clients(self) -> int:
        statistics = self.plane.statistics()
        assert statistics is not None
        return statistics.clients

    def count_links(self) -> int:
        """How many links are open, or wait for a listener."""
        return sum(len(links) for links in self.network._links.values())


@asynccontextmanager
async def open_world(
    *, workers: int = 1, slots: int = 1, seed: int = 0
) -> AsyncIterator[World]:
    """A control plane that executes nothing itself, and subworkers w1, w2, ….

    Everything is stopped at the end, and nothing may be left behind then.
    """
    async with trio.open_nursery() as nursery:
        world = World(nursery, seed)
        await world.start_plane()
        for number in range(1, workers + 1):
            await world.start_worker(f"w{number}", slots=slots)
        yield world
        nursery.cancel_scope.cancel()
    assert world.count_links() == 0
    assert not world.network._listeners


async def settle() -> None:
    """Let everything happen that is on its way: far less than any timeout or grace."""
    await trio.sleep(0.1)
