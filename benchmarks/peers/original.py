# /// script
# dependencies = ["fastworker==0.3.0"]
# ///
"""The package fastworker 0.3.0, whose interface this project keeps."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import time
from typing import Any

from fastworker import Client, task
from measuring import PATIENCE, introduce, measure_async, parser, running

SETTINGS = (
    "a control plane with 1 subworker, 100 tasks at once in each, JSON; a burst is gathered "
    "calls of submit_task, those without a result after 20 s left alone"
)
# More of them only make it worse.
BURST_TASKS = 300
# Seconds to wait for the results of a burst; some never come.
BURST_SECONDS = 20


@task
def add(x: int, y: int) -> int:
    return x + y


async def main(discovery: str) -> None:
    client = Client(discovery_address=discovery)
    await client.start()

    async def one(number: int) -> Any:
        return (await client.submit_task("add", (number, 1))).result

    async def many(count: int) -> list[Any]:
        calls = [asyncio.create_task(one(i)) for i in range(count)]
        await asyncio.wait(calls, timeout=BURST_SECONDS)
        results = [call.result() if call.done() else None for call in calls]
        for call in calls:
            call.cancel()
        return results

    options = parser()
    options.set_defaults(tasks=BURST_TASKS)
    await measure_async(many, one, options.parse_args(), warm_up=1)


def wait_listening(port: int) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
        else:
            return


def free_ports(count: int) -> int:
    """The first of so many ports in a row that are free, below those the kernel gives out."""
    for first in range(20_000, 32_000, count):
        sockets = [socket.socket() for _ in range(count)]
        try:
            for port, each in enumerate(sockets, first):
                each.bind(("127.0.0.1", port))
        except OSError:
            continue
        finally:
            for each in sockets:
                each.close()
        return first
    raise OSError("no ports are free")


if __name__ == "__main__":
    introduce(SETTINGS, "fastworker", "pynng")
    logging.disable(logging.CRITICAL)
    port = free_ports(20)
    base = f"tcp://127.0.0.1:{port}"
    discovery = f"tcp://127.0.0.1:{port + 6}"
    management = port + 5
    command = [sys.executable, "-m", "fastworker.cli"]
    same = ["--discovery-address", discovery, "--task-modules", "original"]
    same += ["--concurrency", "100"]
    plane = ["--base-address", base, "--subworker-port", str(management), "--no-gui"]
    worker = ["--worker-id", "w1", "--control-plane-address", base]
    worker += ["--base-address", f"tcp://127.0.0.1:{port + 10}"]
    with running(*command, "control-plane", *plane, *same):
        # A subworker that comes first ends with ConnectionRefused.
        wait_listening(management)
        with running(*command, "subworker", *worker, *same):
            asyncio.run(main(discovery))
