"""A control plane, a subworker, a client or an auditor as a process of a chaos run.

    python -m tests.chaos.peer ROLE SETTINGS

SETTINGS is JSON. Clients read "storm", "probe", "calm" and "finish" from their stdin. At
the end of its input a process ends; with its parent the kernel ends it, even if
it is stopped then.
"""

from __future__ import annotations

import contextvars
import ctypes
import json
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from fastworker import Client, ControlPlaneWorker, FastWorkerError, SubWorker, TaskResult
from fastworker.testing._history import Journal, Kind, read_history
from fastworker.testing._story import TERMINAL
from tests.chaos.chaos_tasks import digest_of
from tests.short_leases import shorten_leases

PR_SET_PDEATHSIG = 1
# Longer than any run: no call may end by a limit of its own.
LONG = 36_000.0
LOOK_SECONDS = 0.05
LOOKERS = 20

# How often a client chooses which function, in a storm and in a calm; and for
# how long at most one takes.
FUNCTIONS = {
    "chaos_nap": (40, 0.05),
    "chaos_work": (30, 0.05),
    "chaos_quick": (10, 0.0),
    "chaos_once": (8, 0.05),
    "chaos_flaky": (5, 0.0),
    "chaos_broken": (3, 0.0),
    "chaos_apart": (2, 0.05),
}
# Now and then many at once, so that some are leased ahead and have not started.
BURST = 60
BURSTS = 0.03
IN_STORMS = {"chaos_poison": (0.3, 0.0)}
# Not in calms: some take longer, so that they are lost while they run; the longest
# outlive their lease. These are shares of all, and at most so many leases.
LONGER = {"storm": ((0.02, 2.5), (0.1, 0.3)), "probe": ((0.1, 4.0),)}


@dataclass
class Settings:
    """``process`` is this one's label, ``lease`` in seconds; the rest is as roles need it."""

    folder: str
    process: str
    seed: str = ""
    port: int = 0
    discovery: int = 0
    management: int = 0
    lease: float = 30.0
    callers: int = 8
    pause: float = 0.2
    limit: float = 60.0


def die_with_parent() -> None:
    """Have the kernel kill this process when the supervisor ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


async def lines_of_stdin() -> AsyncIterator[str]:
    rest = b""
    async with trio.lowlevel.FdStream(os.dup(0)) as stream:
        async for chunk in stream:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield line.decode()


def up_mark(folder: str, pid: int) -> Path:
    """The file that says that this process has started."""
    return Path(folder) / f"up-{pid}"


class Peer:
    """What all roles share."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.journal = Journal(settings.folder, settings.process)
        self.address = f"tcp://127.0.0.1:{settings.port}"

    def write(self, kind: Kind, **fields: Any) -> None:
        self.journal.write(kind, process=self.settings.process, pid=os.getpid(), **fields)

    def is_up(self) -> None:
        """Let the supervisor know that this process has started."""
        up_mark(self.settings.folder, os.getpid()).touch()

    async def tell_link(self, look: Callable[[], Any]) -> None:
        """Write down how the link is, whenever that has changed."""
        before = None
        while True:
            statistics = look()
            now = "down" if statistics is None else str(statistics.link.value).lower()
            if now != before:
                self.write(Kind.LINK, what=now)
                before = now
                self.is_up()
            await trio.sleep(LOOK_SECONDS)

    async def run_control_plane(self) -> None:
        settings = self.settings
        worker = ControlPlaneWorker(
            settings.process,
            self.address,
            f"tcp://127.0.0.1:{settings.discovery}",
            subworker_management_port=settings.management,
            result_cache_max_size=1_000_000,
            result_cache_ttl_seconds=LONG,
            executes=False,
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(worker.start)
            self.write(Kind.LINK, what="open")
            self.is_up()
            async for _ in lines_of_stdin():
                pass
            worker.stop()

    async def run_subworker(self) -> None:
        worker = SubWorker(
            self.settings.process, self.address, concurrency=4, connect_timeout=LONG
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker.start)
            nursery.start_soon(self.tell_link, worker.statistics)
            async for _ in lines_of_stdin():
                pass
            worker.stop()
            nursery.cancel_scope.cancel()

    async def run_client(self) -> None:
        callers = Callers(self)
        async with callers.client as client, trio.open_nursery() as nursery:
            nursery.start_soon(self.tell_link, client.statistics)
            async with trio.open_nursery() as calls:
                for number in range(self.settings.callers):
                    calls.start_soon(callers.run, number)
                async for line in lines_of_stdin():
                    callers.weather = line
                    if line == "finish":
                        break
                else:
                    calls.cancel_scope.cancel()
            nursery.cancel_scope.cancel()

    async def run_auditor(self) -> None:
        """Look for every task that was acknowledged, until it has ended or time is up."""
        acked: dict[str, None] = {}
        for event in read_history(Path(self.settings.folder)):
            if event.kind is Kind.ACK:
                acked[event.task] = None
        give_up_at = trio.current_time() + self.settings.limit
        left = iter(acked)

        async def look(client: Client) -> None:
            for task_id in left:
                await self._observe(client, task_id, give_up_at)

        async with (
            Client(self.address, timeout=LONG, retries=1000, connect_timeout=LONG) as client,
            trio.open_nursery() as nursery,
        ):
            for _ in range(LOOKERS):
                nursery.start_soon(look, client)

    async def _observe(self, client: Client, task_id: str, give_up_at: float) -> None:
        while True:
            result = await client.get_task_result(task_id)
            fields = outcome_fields(result)
            if fields["status"] in TERMINAL or fields["status"] == "unknown":
                break
            if trio.current_time() > give_up_at:
                break
            await trio.sleep(LOOK_SECONDS)
        self.write(Kind.OBSERVE, task=task_id, **fields)


def outcome_fields(result: TaskResult | None) -> dict[str, str]:
    """What an outcome says, for the history."""
    if result is None:
        return {"status": "unknown"}
    value = result.result if isinstance(result.result, dict) else {}
    return {
        "status": str(result.status.value),
        "error": result.error or "",
        "run": value.get("run", ""),
        "digest": value.get("digest", ""),
    }


class Callers:
    """The callers of one client: each submits one task after the other."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._next_id: contextvars.ContextVar[str] = contextvars.ContextVar("next_id")
        self.weather = "calm"
        # Ids that are known before anything was sent, whoever is killed then.
        self.client = Client(
            peer.address,
            timeout=LONG,
            retries=1000,
            connect_timeout=LONG,
            new_task_id=self._next_id.get,
        )

    async def run(self, number: int) -> None:
        settings = self._peer.settings
        rng = random.Random(f"{settings.seed}/{settings.process}/{number}")
        count = 0
        while self.weather != "finish":
            count += 1
            # Unique among all lives of this process.
            task_id = f"{settings.process}-{os.getpid()}-{number}-{count}"
            if rng.random() < BURSTS:
                async with trio.open_nursery() as nursery:
                    for part in range(BURST):
                        name = f"{task_id}-{part}"
                        nursery.start_soon(self._submit, name, rng, "chaos_quick", 0.0)
            else:
                await self._submit(task_id, rng, *self._draw(rng))
            await trio.sleep(rng.random() * settings.pause)

    def _draw(self, rng: random.Random) -> tuple[str, float]:
        """A function, and how long it takes."""
        functions = FUNCTIONS | (IN_STORMS if self.weather == "storm" else {})
        weights = [weight for weight, _ in functions.values()]
        [(name, (_, longest))] = rng.choices(list(functions.items()), weights)
        seconds = rng.random() * longest
        for share, leases in LONGER.get(self.weather, ()) if longest else ():
            # Threads are few, and would be taken for long.
            if rng.random() < share and (leases < 1 or name in ("chaos_nap", "chaos_once")):
                seconds = self._peer.settings.lease * leases * rng.uniform(0.5, 1)
                break
        return name, seconds

    async def _submit(
        self, task_id: str, rng: random.Random, name: str, seconds: float
    ) -> None:
        load = rng.randbytes(rng.choice([2, 20, 200])).hex()
        if rng.random() < 0.005:
            load *= 1000
        mode = rng.choice(["delay", "handle", "wait"])
        facts = {"task": task_id, "name": name, "mode": mode}
        self._next_id.set(task_id)
        self._peer.write(Kind.SUBMIT, digest=digest_of(load, seconds), **facts)
        result: TaskResult | None = None
        try:
            if mode == "delay":
                await self.client.delay(name, load, seconds)
                self._peer.write(Kind.ACK, **facts)
                return
            if mode == "handle":
                handle = await self.client.submit(name, load, seconds)
                self._peer.write(Kind.ACK, **facts)
                result = await handle.wait()
            else:
                result = await self.client.submit_task(name, (load, seconds))
        except FastWorkerError as error:
            self._peer.write(Kind.REJECT, error=f"{type(error).__name__}: {error}", **facts)
            return
        self._peer.write(Kind.OUTCOME, **facts, **outcome_fields(result))


def main() -> None:
    die_with_parent()
    role, settings = sys.argv[1], Settings(**json.loads(sys.argv[2]))
    shorten_leases(settings.lease)
    peer = Peer(settings)
    trio.run(getattr(peer, "run_" + role))


if __name__ == "__main__":
    main()
