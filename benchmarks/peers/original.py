# /// script
# dependencies = ["fastworker==0.3.0"]
# ///
"""The package fastworker 0.3.0, whose interface this project keeps.

It asks for Python 3.12, and runs on 3.11 with the same results. Callers that are there at the
same time get each other's results: the control plane answers whom it has heard last.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import time
from typing import Any

from measuring import PATIENCE, introduce, measure_async, parser, running

from fastworker import Client, task

SETTINGS = (
    "a control plane with 1 subworker, JSON, the default concurrency of 1; a burst is 300 "
    "gathered calls of submit_task; a call gets 3 s"
)
# More of them at once only make it worse.
BURST_TASKS = 300
# Seconds until a call is given up; many never end.
CALL_SECONDS = 3


@task
def add(x: int, y: int) -> int:
    return x + y


async def main(discovery: str) -> None:
    client = Client(discovery_address=discovery)
    await client.start()

    async def one(number: int) -> Any:
        try:
            async with asyncio.timeout(CALL_SECONDS):
                return (await client.submit_task("add", (number, 1))).result
        except TimeoutError:
            return None

    async def many(count: int) -> list[Any]:
        return await asyncio.gather(*(one(i) for i in range(count)))

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
    plane = ["--base-address", base, "--subworker-port", str(management), "--no-gui"]
    worker = ["--worker-id", "w1", "--control-plane-address", base]
    worker += ["--base-address", f"tcp://127.0.0.1:{port + 10}"]
    # They log hundreds of megabytes.
    with running(*command, "control-plane", *plane, *same, is_heard=False):
        # A subworker that comes first ends with ConnectionRefused.
        wait_listening(management)
        with running(*command, "subworker", *worker, *same, is_heard=False):
            asyncio.run(main(discovery))
