"""A listener for callbacks on a network in memory, as bare as a Pair0 socket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from fastworker._core._callbacks import CallbackStatistics
from fastworker._core._pipes import PipeOpened
from fastworker._errors import LinkClosed
from fastworker._transport._memory import MemoryNetwork
from fastworker._transport._memory_ends import MemoryListener
from tests.shell.world import World

HERE = "tcp://127.0.0.1:9000"
NOWHERE = "tcp://127.0.0.1:9999"


class CallbackListener:
    """See the module's first lines.

    Attributes:
      heard: each payload, decoded, in the order of arrival.
      turned_away: how many pipes were closed because ``is_taken``.
      is_taken: whether somebody else is connected, so that all others are refused.
      pipes: the pipes that are open.
    """

    def __init__(self, listener: MemoryListener) -> None:
        self._listener = listener
        self.heard: list[Any] = []
        self.turned_away = 0
        self.is_taken = False
        self.pipes: list[int] = []

    @property
    def task_ids(self) -> list[str]:
        return [payload["task_id"] for payload in self.heard]

    def say(self, data: bytes) -> None:
        """Send something that nobody has asked for."""
        for pipe in self._listener._pipes.values():
            self._listener.send(pipe.route, data)

    async def read(self) -> None:
        try:
            while True:
                for _, frame in await self._listener.receive():
                    self.heard.append(json.loads(frame))
        except LinkClosed:
            pass

    async def watch(self) -> None:
        try:
            while True:
                for event in await self._listener.receive_pipe_events():
                    if not isinstance(event, PipeOpened):
                        self.pipes.remove(event.pipe)
                        continue
                    self.pipes.append(event.pipe)
                    if self.is_taken:
                        self.turned_away += 1
                        self._listener.close_pipe(event.pipe)
        except LinkClosed:
            pass


@asynccontextmanager
async def listening(
    network: MemoryNetwork, address: str = HERE, *, reads: bool = True
) -> AsyncIterator[CallbackListener]:
    """Listen in the body."""
    listener = network.listen(address)
    heard = CallbackListener(listener)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(heard.watch)
            if reads:
                nursery.start_soon(heard.read)
            yield heard
            nursery.cancel_scope.cancel()
    finally:
        listener.close()


@asynccontextmanager
async def open_plane(**settings: Any) -> AsyncIterator[World]:
    """As ``open_world``, for a control plane that is not like the others."""
    async with trio.open_nursery() as nursery:
        world = World(nursery, 0)
        await world.start_plane(**settings)
        await world.start_worker()
        yield world
        nursery.cancel_scope.cancel()
    assert world.count_links() == 0


def callbacks(world: World) -> CallbackStatistics:
    statistics = world.plane.statistics()
    assert statistics is not None
    return statistics.callbacks
