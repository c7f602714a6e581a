"""A listener that is told of tasks' ends, and writes them into the history (L6)."""

from __future__ import annotations

import json
from typing import Final

from fastworker.testing._history import History, Kind
from fastworker.testing._network import SimulatedNetwork

LISTENER: Final = "tcp://127.0.0.1:7701"


async def run_listener(network: SimulatedNetwork, history: History) -> None:
    """Hear of callbacks until cancelled. It is never faulted; its control plane is."""
    listener = network.listen(LISTENER)
    while True:
        for _, frame in await listener.receive():
            told = json.loads(frame)
            history.write(
                Kind.CALLBACK,
                process="listener",
                task=told["task_id"],
                status=told["status"],
                run=told["event_id"],
                attempt=told["delivery"],
            )
