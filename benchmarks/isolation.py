"""How much of one peer's nonsense the others notice (S21): round trips beside a stranger.

Four processes: this one is a client that does one task after the other, and it starts a
control plane, a subworker with one thread, and a stranger that attacks the control plane.
The task is a ``def`` that does nothing, and runs with HIGH priority.

    python benchmarks/isolation.py [--samples 2000] [--rounds 3] [--json]

Each attack is measured between two times of peace of the same length, several rounds of
it; the figure is the p99 under attack over that in peace, of all rounds together. The
promise is 2 at most. The stranger takes processor time of its own, which counts against
us where cores are few: "burns a core" does that and nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import struct
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).parent))

from machine import describe_machine
from processes import end, spawn
from roles import run_subworker

from fastworker import Client, ControlPlaneWorker, TaskPriority, task
from fastworker._core._bundle import join
from fastworker._core._codec import digest, encode
from fastworker._core._messages import PROTOCOL_VERSION, Hello, Kind, Request, Role, TaskIds

MIB = 1024 * 1024
PAUSE = 0.001
_REQ = b"\0SP\0\0\x30\0\0"
_PROMISE = 2.0


@task
def no_op() -> None:
    """Do nothing."""


# --- the stranger ---


class Stranger:
    """Attacks one port; see ATTACKS."""

    def __init__(self, port: int, epoch: int, discovery: str) -> None:
        self._port = port
        self._epoch = epoch
        self._discovery = discovery
        self._random = random.Random(21)

    async def knock(self) -> None:
        """50 connects a second that are no NNG."""
        for _ in _ticks():
            await self._say(b"GET / HTTP/1.1\r\n\r\n", greets=False)
            await trio.sleep(0.02)

    async def babble(self) -> None:
        """20 connects a second, and 20 random frames in each."""
        for _ in _ticks():
            frames = [self._random.randbytes(self._random.randrange(500)) for _ in range(20)]
            await self._say(*(_wrap(join([frame])) for frame in frames))
            await trio.sleep(0.05)

    async def break_sessions(self) -> None:
        """20 sessions a second, each with a request that is none."""
        for _ in _ticks():
            session = self._random.randbytes(16)
            body = self._random.randbytes(200)
            request = Request(session, self._epoch, 0, 1, 1, bytes(8), Kind.SUBMIT, body)
            await self._say(_wrap(join([_hello(session), encode(request)])))
            await trio.sleep(0.05)

    async def send_monsters(self) -> None:
        """Two messages of 16 MiB a second."""
        message = _wrap(bytes(16 * MIB))
        for _ in _ticks():
            await self._say(message)
            await trio.sleep(0.5)

    async def ask_on(self) -> None:
        """One session that asks 2,000 questions a second, all of them right."""
        session, sequence = self._random.randbytes(16), 0
        body = encode(TaskIds(["nobody knows it"] * 10))
        async with await trio.open_tcp_stream("127.0.0.1", self._port) as stream:
            await stream.send_all(_REQ + _wrap(join([_hello(session)])))

            async def drain() -> None:
                while await stream.receive_some(65536):
                    pass

            async with trio.open_nursery() as nursery:
                nursery.start_soon(drain)
                await trio.sleep(0.1)
                for _ in _ticks():
                    sequence += 1
                    frames = [
                        encode(
                            Request(
                                session,
                                self._epoch,
                                slot,
                                sequence,
                                1,
                                digest(Kind.QUERY, body),
                                Kind.QUERY,
                                body,
                            )
                        )
                        for slot in range(10)
                    ]
                    await stream.send_all(b"".join(_wrap(join([frame])) for frame in frames))
                    await trio.sleep(0.005)

    async def submit_on(self) -> None:
        """An honest neighbour: 100 LOW tasks in flight, all the time."""
        async with (
            Client(self._discovery, timeout=60) as client,
            trio.open_nursery() as nursery,
        ):

            async def one() -> None:
                while True:
                    await client.submit_task("no_op", priority=TaskPriority.LOW)

            for _ in range(100):
                nursery.start_soon(one)

    async def burn(self) -> None:
        """Burns a core, and says nothing to anybody."""
        for _ in _ticks():
            sum(range(10_000))
            await trio.lowlevel.checkpoint()

    async def _say(self, *pieces: bytes, greets: bool = True) -> None:
        """Connect, say it, listen for a moment, and go."""
        try:
            async with await trio.open_tcp_stream("127.0.0.1", self._port) as stream:
                await stream.send_all((_REQ if greets else b"") + b"".join(pieces))
                with trio.move_on_after(0.02):
                    while await stream.receive_some(4096):
                        pass
        except (trio.BrokenResourceError, OSError):
            pass  # it was thrown out


def _ticks() -> range:
    return range(sys.maxsize)


def _wrap(message: bytes) -> bytes:
    """What an NNG requester sends: length, request id, message."""
    return struct.pack(">Q", len(message) + 4) + b"\x80\0\0\1" + message


def _hello(session: bytes) -> bytes:
    return encode(Hello(PROTOCOL_VERSION, 1, session, Role.CLIENT, 0, "stranger"))


# The last two are none: they are what an honest neighbour and a busy core cost.
ATTACKS: dict[str, Callable[[Stranger], Awaitable[None]]] = {
    "50 garbage connects/s": Stranger.knock,
    "400 random frames/s": Stranger.babble,
    "20 broken sessions/s": Stranger.break_sessions,
    "32 MiB/s in frames of 16": Stranger.send_monsters,
    "2,000 questions/s": Stranger.ask_on,
    "100 LOW tasks in flight": Stranger.submit_on,
    "burns a core": Stranger.burn,
}
HARMLESS = {"100 LOW tasks in flight", "burns a core"}


async def run_stranger(attack: str, port: int, epoch: int, discovery: str) -> None:
    stranger = Stranger(port, epoch, discovery)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ATTACKS[attack], stranger)
        print("ready", flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
        nursery.cancel_scope.cancel()


# --- the others ---


async def run_control_plane() -> None:
    plane = ControlPlaneWorker(
        base_address="tcp://127.0.0.1:0",
        discovery_address="tcp://127.0.0.1:0",
        subworker_management_port=0,
        executes=False,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(plane.start)
        print(plane.discovery_address, plane.base_address, plane.epoch, flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
        nursery.cancel_scope.cancel()


# --- measuring ---


async def time_round_trips(client: Client, samples: int) -> list[float]:
    seconds = []
    for _ in range(samples):
        started_at = time.perf_counter()
        result = await client.submit_task("no_op", priority=TaskPriority.HIGH)
        seconds.append(time.perf_counter() - started_at)
        assert result.status.value == "success", result.error
        await trio.sleep(PAUSE)
    return seconds


async def measure(
    addresses: tuple[str, str, str], samples: int, rounds: int
) -> dict[str, dict[str, float]]:
    discovery, base, epoch = addresses
    port = base.rpartition(":")[2]
    figures = {}
    async with Client(discovery, timeout=60) as client:
        await time_round_trips(client, 500)
        for attack in ATTACKS:
            peace: list[float] = []
            war: list[float] = []
            for _ in range(rounds):
                peace += await time_round_trips(client, samples // 2)
                stranger = spawn(
                    "--role", "stranger", "--attack", attack, "--port", port,
                    "--epoch", epoch, "--address", discovery,
                )  # fmt: skip
                stranger.stdout.readline()
                await trio.sleep(0.5)
                war += await time_round_trips(client, samples)
                assert stranger.poll() is None, "the stranger has given up"
                end(stranger)
                await trio.sleep(0.5)
                peace += await time_round_trips(client, samples // 2)
            figures[attack] = compare(peace, war)
    return figures


def compare(peace: list[float], war: list[float]) -> dict[str, float]:
    before, during = (statistics.quantiles(each, n=100) for each in (peace, war))
    return {
        "peace p50, ms": before[49] * 1000,
        "peace p99, ms": before[98] * 1000,
        "p50, ms": during[49] * 1000,
        "p99, ms": during[98] * 1000,
        "max, ms": max(war) * 1000,
        "p99 ratio": during[98] / before[98],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--role", choices=["control-plane", "subworker", "stranger"])
    parser.add_argument("--attack", choices=list(ATTACKS))
    parser.add_argument("--port", type=int)
    parser.add_argument("--epoch", type=int)
    parser.add_argument("--address")
    arguments = parser.parse_args()
    if arguments.role == "control-plane":
        trio.run(run_control_plane)
        return
    if arguments.role == "subworker":
        trio.run(run_subworker, arguments.address)
        return
    if arguments.role == "stranger":
        trio.run(
            run_stranger,
            arguments.attack,
            arguments.port,
            arguments.epoch,
            arguments.address,
        )
        return
    plane = spawn("--role", "control-plane")
    discovery, base, epoch = plane.stdout.readline().split()
    worker = spawn("--role", "subworker", "--address", base)
    worker.stdout.readline()
    try:
        figures = trio.run(
            measure, (discovery, base, epoch), arguments.samples, arguments.rounds
        )
    finally:
        end(worker)
        end(plane)
    if arguments.json:
        print(json.dumps({"machine": describe_machine(), "figures": figures}, indent=2))
        return
    print(describe_machine())
    columns = list(next(iter(figures.values())))
    print(f"{'':28}" + "".join(f"{name:>15}" for name in columns))
    for attack, row in figures.items():
        print(f"{attack:28}" + "".join(f"{row[name]:15.2f}" for name in columns))
    worst = max(row["p99 ratio"] for name, row in figures.items() if name not in HARMLESS)
    print(f"worst p99 ratio of an attack {worst:.2f}; the promise is {_PROMISE:g} at most")


if __name__ == "__main__":
    os.environ.pop("FASTWORKER_DISCOVERY_ADDRESS", None)
    main()
