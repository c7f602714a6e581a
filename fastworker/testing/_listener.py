"""A program that is told of tasks' ends: a plain Pair0 listener that writes down what comes."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import trio

from fastworker._core._pipes import PipeOpened
from fastworker._transport._memory_ends import MemoryListener
from fastworker.testing._history import Kind
from fastworker.testing._network import SimulatedNetwork
from fastworker.testing._process import Process
from fastworker.testing._recording import Recorder

LISTENER_ADDRESS: Final = "tcp://127.0.0.1:5600"
# Nobody ever listens there.
DEAD_ADDRESS: Final = "tcp://127.0.0.1:5601"


async def listen(network: SimulatedNetwork, recorder: Recorder, process: Process) -> None:
    """Take callbacks, from one peer at a time, until cancelled."""
    listener = network.listen(LISTENER_ADDRESS)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_refuse_others, listener)
            while True:
                for _, frame in await listener.receive():
                    _note(recorder, process, msgspec.json.decode(frame))
    finally:
        listener.close()


async def _refuse_others(listener: MemoryListener) -> None:
    peer: int | None = None
    while True:
        for event in await listener.receive_pipe_events():
            if not isinstance(event, PipeOpened):
                peer = None if event.pipe == peer else peer
            elif peer is None:
                peer = event.pipe
            else:
                listener.close_pipe(event.pipe)


def _note(recorder: Recorder, process: Process, told: dict[str, Any]) -> None:
    recorder.write(
        process,
        Kind.CALLED,
        task=told["task_id"],
        status=told["status"].lower(),
        error=told["error"] or "",
        callback=told["event_id"],
        attempt=told["delivery"],
    )
