"""How much a user notices of 1,000 connections that say next to nothing (X11).

Five processes: this one is a client that does one task after the other and a visitor of the
dashboard's API, and it starts a control plane with a dashboard, a subworker, and a stranger.
The stranger keeps 1,000 connections open at one port. Each says the beginning of something
right, a byte every half second, and comes back as soon as it is thrown out.

    python benchmarks/slow_peers.py [--samples 1500] [--rounds 3] [--connections 1000]

Each attack is measured between two times of peace, several rounds of it; the figure is the
p99 under attack over that in peace, of all rounds together. The promise is 2 at most. The
stranger takes processor time of its own, which counts against us where cores are few: "as
many of somebody else's" keeps as many such connections at a port that is not ours.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import trio

sys.path.insert(0, str(Path(__file__).parent))

from isolation import PAUSE, compare, end, no_op
from machine import describe_machine
from processes import spawn
from roles import run_subworker

from fastworker import Client, ControlPlaneWorker, TaskPriority
from fastworker.dashboard import Dashboard

TOKEN = "benchmark-token-0123456789-0123456789"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
BYTE_SECONDS = 0.5
_NNG = b"\0SP\0\0\x30\0\0" + (1000).to_bytes(8, "big") + bytes(1000)
_HTTP = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Slow: " + b"s" * 1000
ATTACKS = ("NNG", "HTTP", "as many of somebody else's")
_PROMISE = 2.0


async def be_slow(port: int, words: bytes) -> None:
    """One connection after the other; what it says comes byte by byte."""
    while True:
        try:
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                for index in range(len(words)):
                    await stream.send_all(words[index : index + 1])
                    with trio.move_on_after(BYTE_SECONDS):
                        if not await stream.receive_some(4096):
                            break
                        await trio.sleep(BYTE_SECONDS)
        except (trio.BrokenResourceError, OSError):
            pass  # it was thrown out
        await trio.sleep(BYTE_SECONDS)


async def run_stranger(attack: str, port: int, connections: int) -> None:
    async with trio.open_nursery() as nursery:
        if attack == ATTACKS[2]:
            listeners = await nursery.start(trio.serve_tcp, _ignore, 0)
            port = listeners[0].socket.getsockname()[1]
        for _ in range(connections):
            nursery.start_soon(be_slow, port, _HTTP if attack == "HTTP" else _NNG)
            await trio.sleep(0.001)
        print("ready", flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
        nursery.cancel_scope.cancel()


async def _ignore(stream: trio.SocketStream) -> None:
    while await stream.receive_some(4096):
        pass


async def run_control_plane() -> None:
    plane = ControlPlaneWorker(
        base_address="tcp://127.0.0.1:0",
        discovery_address="tcp://127.0.0.1:0",
        subworker_management_port=0,
        executes=False,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(plane.start)
        dashboard = Dashboard(plane.discovery_address, port=0, token=TOKEN)
        address = await nursery.start(_serve, dashboard)
        print(plane.discovery_address, plane.base_address, address, flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
        nursery.cancel_scope.cancel()


async def _serve(dashboard: Dashboard, task_status: trio.TaskStatus[str]) -> None:
    await dashboard.run(task_status=task_status)


async def time_calls(call: Callable[[], Awaitable[None]], samples: int) -> list[float]:
    seconds = []
    for _ in range(samples):
        started_at = time.perf_counter()
        await call()
        seconds.append(time.perf_counter() - started_at)
        await trio.sleep(PAUSE)
    return seconds


async def _ask(visitor: httpx.AsyncClient, url: str) -> None:
    (await visitor.get(url)).raise_for_status()


async def measure(
    discovery: str, base: str, page: str, samples: int, rounds: int, connections: int
) -> dict[str, dict[str, float]]:
    figures: dict[str, dict[str, float]] = {}
    url = f"{page.partition('#')[0]}api/overview"
    async with Client(discovery, timeout=60) as client:

        async def run_a_task() -> None:
            result = await client.submit_task(no_op, priority=TaskPriority.HIGH)
            assert result.status.value == "success", result.error

        async def time_tasks(count: int) -> list[float]:
            return await time_calls(run_a_task, count)

        async def time_requests(count: int) -> list[float]:
            async with httpx.AsyncClient(headers=BEARER, timeout=60) as visitor:
                ask = functools.partial(_ask, visitor, url)
                await ask()
                return await time_calls(ask, count)

        async def time_visitors(count: int) -> list[float]:
            async def come_and_ask() -> None:
                async with httpx.AsyncClient(headers=BEARER, timeout=60, verify=False) as new:
                    await _ask(new, url)

            return await time_calls(come_and_ask, count)

        users = {"task": time_tasks, "request": time_requests, "new visitor": time_visitors}
        for user in users.values():
            await user(100)
        for attack in ATTACKS:
            port = (page if attack == "HTTP" else base).rpartition(":")[2].partition("/")[0]
            peace: dict[str, list[float]] = {name: [] for name in users}
            war: dict[str, list[float]] = {name: [] for name in users}
            for _ in range(rounds):
                for name, user in users.items():
                    peace[name] += await user(samples // 2)
                stranger = spawn(
                    "--role", "stranger", "--attack", attack, "--port", port,
                    "--connections", str(connections),
                )  # fmt: skip
                stranger.stdout.readline()
                await trio.sleep(3)
                for name, user in users.items():
                    war[name] += await user(samples)
                assert stranger.poll() is None, "the stranger has given up"
                end(stranger)
                await trio.sleep(3)
                for name, user in users.items():
                    peace[name] += await user(samples // 2)
            for name in users:
                figures[f"{attack}: {name}"] = compare(peace[name], war[name])
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--role", choices=["control-plane", "subworker", "stranger"])
    parser.add_argument("--attack", choices=ATTACKS)
    parser.add_argument("--port", type=int)
    parser.add_argument("--address")
    arguments = parser.parse_args()
    if arguments.role == "control-plane":
        trio.run(run_control_plane)
    elif arguments.role == "subworker":
        trio.run(run_subworker, arguments.address)
    elif arguments.role == "stranger":
        trio.run(run_stranger, arguments.attack, arguments.port, arguments.connections)
    else:
        show(arguments)


def show(arguments: argparse.Namespace) -> None:
    plane = spawn("--role", "control-plane")
    discovery, base, page = plane.stdout.readline().split()
    worker = spawn("--role", "subworker", "--address", base)
    worker.stdout.readline()
    try:
        figures = trio.run(
            measure,
            discovery,
            base,
            page,
            arguments.samples,
            arguments.rounds,
            arguments.connections,
        )
    finally:
        end(worker)
        end(plane)
    print(describe_machine())
    columns = list(next(iter(figures.values())))
    print(f"{'':40}" + "".join(f"{name:>15}" for name in columns))
    for name, row in figures.items():
        print(f"{name:40}" + "".join(f"{row[column]:15.2f}" for column in columns))
    worst = max(row["p99 ratio"] for name, row in figures.items() if ATTACKS[2] not in name)
    print(f"worst p99 ratio of an attack {worst:.2f}; the promise is {_PROMISE:g} at most")


if __name__ == "__main__":
    os.environ.pop("FASTWORKER_DISCOVERY_ADDRESS", None)
    main()
