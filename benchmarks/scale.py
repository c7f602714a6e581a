"""Whether a task costs more where there are many: queued, subworkers, clients, timers.

    python benchmarks/scale.py [--parts depth subworkers leaving clients timers] [--rounds 5]

*depth*, *subworkers*: the scheduler alone, in this thread, by processor time. It is kept at
1,000 or 1,000,000 queued tasks, of which each step ends ten, hands out ten and takes ten
new ones; and at 2 or 100 subworkers, each with ten slots in use, of which one a step reports
ten ended tasks, and all may be given work. Each is said to have run for a second, so that
none are sent ahead. Both sides in turns; the ratio is the median.
*leaving*: the scheduler alone, with 1,000,000 tasks of one client, when another one leaves
that has a single task, and then the one that has all of them: the longest step.
*clients*: 1,000 clients over loopback, in processes of 250, do nothing for 20 s; what the
control plane's process takes meanwhile, in percent of a core.
*timers*: 100,000 tasks fail at once and are to be retried at moments spread over a minute;
the subworker notes how long after its moment each starts, which is its delay after the
first attempt has failed.
Exits with 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import gc
import random
import statistics
import sys
import time
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).parent))

from machine import describe_machine
from processes import ask, end, processor_seconds, read_line, spawn
from roles import run_control_plane
from targets import Figure, report

from fastworker import Client, SubWorker, task
from fastworker._core._messages import (
    Assignment,
    EndedAttempt,
    FunctionInfo,
    Lease,
    Report,
    TaskSpec,
    WireStatus,
)
from fastworker._core._pipes import DeadlinePassed
from fastworker._core._results import Results
from fastworker._core._scheduler import Scheduler
from fastworker._core._scheduler_events import (
    Assign,
    AttemptsReported,
    CapacityStated,
    Dispatch,
    OwnerGone,
    SubworkerJoined,
    TasksSubmitted,
)

PARTS = ("depth", "subworkers", "leaving", "clients", "timers")
OWNER = b"a client's session"
BATCH = 10

# --- the scheduler alone ---


class Load:
    """A scheduler with so many queued tasks and busy subworkers, kept so."""

    def __init__(self, *, queued: int, subworkers: int) -> None:
        self._now = 0.0
        self._made = 0
        self._scheduler = Scheduler(
            epoch=1,
            results=Results(max_size=10_000, ttl=3600.0),
            now=0.0,
            rng=random.Random(1),
            max_queued=queued + 1_000_000,
            max_queued_bytes=1 << 40,
        )
        functions = [FunctionInfo("noop", "thread")]
        self._keys = [b"subworker %d" % n for n in range(subworkers)]
        for key in self._keys:
            joined = SubworkerJoined(key, key.decode(), "", functions)
            self._scheduler.handle(joined, now=0.0)
            stated = CapacityStated(key, Lease(0, {"thread": BATCH}))
            self._scheduler.handle(stated, now=0.0)
        self._running: dict[bytes, list[Assignment]] = {}
        for start in range(0, queued, 1000):
            self.submit(min(1000, queued - start))
        self.submit(BATCH * subworkers)
        self._hand_out()

    def submit(self, count: int, owner: bytes = OWNER) -> None:
        """Take in so many new tasks of a client."""
        first, self._made = self._made, self._made + count
        specs = [
            TaskSpec(f"task-{n:09}", "noop", 2, 1, b"[[],{}]", 1.7e9, attached=True)
            for n in range(first, first + count)
        ]
        self._scheduler.handle(TasksSubmitted(owner, specs), now=self._now)
        self._forget_changes()

    def _forget_changes(self) -> None:
        """As a store would that is done at once."""
        self._scheduler.changes.take(self._now)
        self._scheduler.changes.note_durable()

    def _hand_out(self) -> int:
        given = 0
        for command in self._scheduler.handle(Dispatch(self._keys), now=self._now):
            if isinstance(command, Assign):
                self._running[command.key] = command.assignments
                given += len(command.assignments)
        return given

    def leave(self, owner: bytes) -> float:
        """Let a client leave; the longest of the steps that this takes, in milliseconds."""
        longest = 0.0
        event: OwnerGone | DeadlinePassed = OwnerGone(owner)
        while True:
            began = time.perf_counter()
            self._scheduler.handle(event, now=self._now)
            longest = max(longest, time.perf_counter() - began)
            self._forget_changes()
            if self._scheduler.next_deadline() > self._now:
                return 1000 * longest
            event = DeadlinePassed()

    def rate(self, tasks: int) -> float:
        """Tasks for each second of processor time, over so many."""
        began = time.thread_time()
        for step in range(tasks // BATCH):
            self._now += 0.001
            key = self._keys[step % len(self._keys)]
            ended = [
                EndedAttempt(a.task_id, a.attempt, WireStatus.SUCCESS, 1, 2, 1.0, 1, b"1")
                for a in self._running.pop(key)
            ]
            self._scheduler.handle(AttemptsReported(key, Report(1, ended=ended)), now=self._now)
            self.submit(BATCH)
            given = self._hand_out()
            assert given == BATCH, given
        return tasks / (time.thread_time() - began)


def compare(
    name: str, few: Load, many: Load, rounds: int, unit: tuple[str, str]
) -> list[Figure]:
    """The rates of both, and the ratio, each the median of so many turns."""
    rates = [(few.rate(20_000), many.rate(20_000)) for _ in range(rounds + 1)][1:]
    return [
        Figure(f"{name} {unit[0]}", statistics.median(each[0] for each in rates), "tasks/s"),
        Figure(f"{name} {unit[1]}", statistics.median(each[1] for each in rates), "tasks/s"),
        Figure(
            "  of that rate",
            statistics.median(100 * each[1] / each[0] for each in rates),
            "%",
            at_least=80,
        ),
    ]


def measure_depth(rounds: int) -> list[Figure]:
    few, many = (Load(queued=count, subworkers=2) for count in (1000, 1_000_000))
    figures = compare("dispatch with queued tasks:", few, many, rounds, ("1,000", "1,000,000"))
    del few, many
    gc.collect()
    return figures


def measure_subworkers(rounds: int) -> list[Figure]:
    few, many = (Load(queued=10_000, subworkers=count) for count in (2, 100))
    return compare("dispatch with subworkers:", few, many, rounds, ("2", "100"))


def measure_leaving() -> list[Figure]:
    load = Load(queued=1_000_000, subworkers=2)
    load.submit(1, b"another client's session")
    gc.collect()
    gc.freeze()  # as the control plane does
    name = "a client leaves, of 1,000,000 tasks it has"
    small, large = load.leave(b"another client's session"), load.leave(OWNER)
    del load
    gc.unfreeze()
    gc.collect()
    return [
        Figure(f"{name} 1", small, "ms", at_most=100),
        Figure(f"{name} all", large, "ms", at_most=100),
    ]


# --- real processes ---


@task
def no_op() -> None:
    """Do nothing."""


_due: dict[int, float] = {}
_lateness: list[float] = []


@task
def late(number: int, delay: float) -> None:
    """Fail at first; then note how long after its moment it is run again."""
    now = time.monotonic()
    if number in _due:
        _lateness.append(now - _due.pop(number))
        return
    _due[number] = now + delay
    raise RuntimeError("not yet")


async def run_subworker(address: str) -> None:
    worker = SubWorker("w1", address, concurrency=1)
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.start)
        print("ready", flush=True)
        while await trio.to_thread.run_sync(sys.stdin.readline):
            cuts = statistics.quantiles(_lateness, n=100)
            print(len(_lateness), cuts[49], cuts[98], max(_lateness), flush=True)
        nursery.cancel_scope.cancel()


async def run_clients(address: str, count: int) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            client = Client(address, timeout=120, connect_timeout=120)
            await nursery.start(_stay, client)
        print("ready", flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
        nursery.cancel_scope.cancel()


async def _stay(client: Client, task_status: trio.TaskStatus[None]) -> None:
    async with client:
        task_status.started()
        await trio.sleep_forever()


def measure_clients(count: int = 1000, seconds: float = 20.0) -> list[Figure]:
    plane = spawn("--role", "control-plane")
    groups = []
    try:
        discovery, _ = read_line(plane).split()
        for _ in range(4):
            role = ("--role", "clients", "--address", discovery, "--count", str(count // 4))
            groups.append(spawn(*role))
            read_line(groups[-1])
        time.sleep(5)
        before = processor_seconds(plane.pid)
        time.sleep(seconds)
        share = 100 * (processor_seconds(plane.pid) - before) / seconds
    finally:
        for process in (*groups, plane):
            process.kill()
            process.wait()
    return [Figure(f"{count:,} idle clients, of a core", share, "%", at_most=5)]


async def delay_all(address: str, tasks: int) -> None:
    """Have so many tasks fail, and be tried again at moments spread over a minute."""
    rng = random.Random(1)
    async with Client(address, timeout=600) as client:
        first = time.monotonic() + 5 + tasks / 2500
        left = iter(range(tasks))

        async def caller() -> None:
            for number in left:
                delay = max(0.0, first + rng.uniform(0, 60) - time.monotonic())
                retried = client.options(
                    max_retries=1, retry_delay=delay, max_delay=600, jitter=0
                )
                await retried.delay("late", number, delay)

        async with trio.open_nursery() as nursery:
            for _ in range(200):
                nursery.start_soon(caller)
        print(f"sent, {first - time.monotonic():.1f} s before the first is due")
        # The first attempts may have waited for their turn for some seconds.
        await trio.sleep(first + 75 - time.monotonic())


def measure_timers(tasks: int = 100_000) -> list[Figure]:
    plane = spawn("--role", "control-plane")
    discovery, base = read_line(plane).split()
    worker = spawn("--role", "subworker", "--address", base)
    try:
        read_line(worker)
        trio.run(delay_all, discovery, tasks)
        count, p50, p99, worst = (float(word) for word in ask(worker).split())
    finally:
        end(worker)
        end(plane)
    return [
        Figure("delayed tasks that have started", count, "", at_least=tasks),
        Figure("  after their moment, p50", p50 * 1000, "ms"),
        Figure("  after their moment, p99", p99 * 1000, "ms", at_most=100),
        Figure("  after their moment, at worst", worst * 1000, "ms"),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--role", choices=["control-plane", "subworker", "clients"])
    parser.add_argument("--address", default="")
    parser.add_argument("--count", type=int, default=250)
    arguments = parser.parse_args()
    match arguments.role:
        case "control-plane":
            trio.run(run_control_plane)
            return 0
        case "subworker":
            trio.run(run_subworker, arguments.address)
            return 0
        case "clients":
            trio.run(run_clients, arguments.address, arguments.count)
            return 0
    print(describe_machine())
    figures: list[Figure] = []
    if "depth" in arguments.parts:
        figures += measure_depth(arguments.rounds)
    if "subworkers" in arguments.parts:
        figures += measure_subworkers(arguments.rounds)
    if "leaving" in arguments.parts:
        figures += measure_leaving()
    if "clients" in arguments.parts:
        figures += measure_clients()
    if "timers" in arguments.parts:
        figures += measure_timers()
    return report(figures)


if __name__ == "__main__":
    sys.exit(main())
