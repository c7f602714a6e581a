"""A control plane in a thread of this process, for tests of the clients' side."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from fastworker import ControlPlaneWorker
from fastworker._core._scheduler import SchedulerStatistics
from fastworker._registry import Registry

ANY_PORT = "tcp://127.0.0.1:0"


class Plane:
    """It executes one task at a time: ``add``, and ``wait`` until :meth:`open_gate`."""

    def __init__(self) -> None:
        registry = Registry()
        self._gate = threading.Event()
        self._gate.set()
        registry.register(self._add, name="add")
        registry.register(self._wait, name="wait")
        self.worker = ControlPlaneWorker(
            "plane",
            ANY_PORT,
            ANY_PORT,
            subworker_management_port=0,
            concurrency=1,
            registry=registry,
        )

    @property
    def address(self) -> str:
        """Where clients look."""
        return self.worker.discovery_address

    @property
    def tasks(self) -> SchedulerStatistics:
        """What it knows of its tasks."""
        statistics = self.worker.statistics()
        assert statistics is not None
        return statistics.tasks

    @property
    def clients(self) -> int:
        """How many sessions of clients it has."""
        statistics = self.worker.statistics()
        assert statistics is not None
        return statistics.clients

    @contextmanager
    def closed_gate(self) -> Iterator[None]:
        """From its first ``wait`` task on, everything else is queued meanwhile."""
        self._gate.clear()
        try:
            yield
        finally:
            self._gate.set()

    @staticmethod
    def _add(a: int, b: int) -> int:
        return a + b

    def _wait(self) -> str:
        return "opened" if self._gate.wait(30) else "stuck"


@contextmanager
def running_plane() -> Iterator[Plane]:
    """Run one while the block lasts."""
    plane = Plane()
    ready = threading.Event()

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(plane.worker.start)
            ready.set()

    thread = threading.Thread(target=trio.run, args=(run,))
    thread.start()
    try:
        assert ready.wait(10)
        yield plane
    finally:
        plane.worker.stop()
        thread.join(10)


def live_threads() -> set[threading.Thread]:
    """All but those that Trio keeps idle for a while."""
    return {each for each in threading.enumerate() if not each.name.startswith("Trio thread")}


def count_threads() -> int:
    """How many there are."""
    return len(live_threads())
