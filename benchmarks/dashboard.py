"""What the dashboard costs, and how soon somebody who opens it sees something.

    python benchmarks/dashboard.py [--tasks 20000] [--rounds 7] [--browsers] [--folder PATH]

One control plane on a file with 100,000 finished and 10,000 queued tasks, one subworker, and
a load of tasks that do nothing. In turns the dashboard is not served, and served to three
live connections that watch tasks; their order changes from round to round, and rounds are
compared one by one. Then, with and without that load, new visitors sign in, get the page,
a page of tasks, and the first message of the live feed.

``--browsers`` opens three pages in headless Chromium instead (needs playwright): they draw
on the same cores, so what they cost is not only the dashboard's.

Exits with 1 if the median loss is 5 % or more, or a visitor has no data within a second.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import trio
from trio_websocket import wrap_client_stream

sys.path.insert(0, str(Path(__file__).parent))

from machine import describe_machine

from fastworker import Client, ControlPlaneWorker, SubWorker, TaskStatus, task
from fastworker._core._messages import TaskEvent, TaskSpec, WireStatus
from fastworker._core._stored import Changes, StoredLife, StoredState, StoredTask
from fastworker._registry import Registry
from fastworker._store._sqlite import SqliteStore
from fastworker.dashboard import Dashboard

ANY_PORT = "tcp://127.0.0.1:0"
TOKEN = "benchmark-token-0123456789-0123456789"
BEARER = {"Authorization": f"Bearer {TOKEN}", "X-FastWorker": "1"}
CONNECTIONS = 3
VISITS = 20


@task
def no_op() -> None:
    """Do nothing."""


def hold() -> None:
    """Keep the tasks behind this one waiting."""
    threading.Event().wait()


# --- the processes ---


async def run_control_plane(store: str) -> None:
    """Serve a dashboard or not, as the lines of stdin say."""
    plane = ControlPlaneWorker(
        store=store,
        base_address=ANY_PORT,
        discovery_address=ANY_PORT,
        subworker_management_port=0,
        executes=False,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(plane.start)
        print(plane.discovery_address, plane.base_address, flush=True)
        serving = trio.CancelScope()

        async def serve(task_status: trio.TaskStatus[str | None]) -> None:
            with serving:
                dashboard = Dashboard(plane.discovery_address, port=0, token=TOKEN)
                await dashboard.run(task_status=task_status)

        while line := await trio.to_thread.run_sync(sys.stdin.readline):
            serving.cancel()
            if line == "on\n":
                serving = trio.CancelScope()
                print(await nursery.start(serve), flush=True)
            else:
                print("off", flush=True)
        os._exit(0)


async def run_subworker(address: str, holds: bool) -> None:
    registry = Registry()
    registry.register(hold if holds else no_op)
    worker = SubWorker("holder" if holds else "w1", address, concurrency=1, registry=registry)
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.start)
        print("ready", flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
        os._exit(0)


async def run_viewers(address: str) -> None:
    """Read and decode what comes; say how much it was."""
    told = {"messages": 0, "bytes": 0, "tasks": 0}

    async def view(task_status: trio.TaskStatus[None]) -> None:
        async with live(address) as websocket:
            await websocket.send_message('{"type": "watch", "tasks": true}')
            await websocket.get_message()
            task_status.started()
            while True:
                text = await websocket.get_message()
                told["messages"] += 1
                told["bytes"] += len(text)
                told["tasks"] += len(json.loads(text).get("tasks", ()))

    async with trio.open_nursery() as nursery:
        for _ in range(CONNECTIONS):
            await nursery.start(view)
        print("ready", flush=True)
        await trio.to_thread.run_sync(sys.stdin.readline)
        print(json.dumps(told), flush=True)
        nursery.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def live(address: str) -> AsyncIterator[Any]:
    parts = urlsplit(address)
    stream = await trio.open_tcp_stream(parts.hostname or "", parts.port or 80)
    headers = [(b"Authorization", BEARER["Authorization"].encode())]
    try:
        async with trio.open_nursery() as nursery:
            yield await wrap_client_stream(
                nursery, stream, parts.netloc, "/api/live", extra_headers=headers
            )
            # Its own goodbye fails if a ping comes meanwhile.
            nursery.cancel_scope.cancel()
    finally:
        await trio.aclose_forcefully(stream)


class Process:
    """One of the processes above."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, line: str) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self.read()

    def read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        assert line, f"it ended with {self._process.wait(10)}"
        return line

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.wait(30)


# --- what is measured ---


def fill(path: str, finished: int, queued: int) -> None:
    """Write a file with so many tasks."""
    store = SqliteStore(path)
    store.open()
    now = time.time()
    for start in range(1, finished + queued + 1, 5000):
        numbers = range(start, min(start + 5000, finished + queued + 1))
        rows = [_finished(n, now) if n <= finished else _queued(n, now) for n in numbers]
        store.write(Changes(created=rows))
    store.close()


def _queued(number: int, now: float) -> StoredTask:
    spec = TaskSpec(f"queued-{number:07}", "hold", 2, 1, b"[[],{}]", now)
    return StoredTask(number, spec, changed=now)


def _finished(number: int, now: float) -> StoredTask:
    at = now - 3600 + number / 100
    spec = TaskSpec(f"finished-{number:07}", "no_op", 2, 1, b"[[],{}]", at)
    outcome = TaskEvent(
        spec.id, WireStatus.SUCCESS, 1, b"null", started=at, completed=at, attempts=1
    )
    life = StoredLife(fence=1, fence_epoch=1, worker="w1", started=at)
    return StoredTask(
        number, spec, state=StoredState.SUCCESS, life=life, changed=at, outcome=outcome
    )


async def throughput(client: Client, tasks: int, in_flight: int) -> float:
    left = iter(range(tasks))

    async def caller() -> None:
        for _ in left:
            result = await client.submit_task("no_op")
            assert result.status is TaskStatus.SUCCESS, result

    began = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(in_flight):
            nursery.start_soon(caller)
    return tasks / (time.perf_counter() - began)


async def visit(address: str) -> dict[str, float]:
    """Somebody new comes, as the page does it; seconds from the beginning."""
    began = time.perf_counter()
    figures: dict[str, float] = {}
    async with httpx.AsyncClient(base_url=address) as http:
        answer = await http.post("api/session", json={"token": TOKEN}, headers=BEARER)
        assert answer.status_code == 204, answer.text
        assert (await http.get("")).status_code == 200
        figures["page"] = time.perf_counter() - began
        async with live(address) as websocket:
            message = json.loads(await websocket.get_message())
            assert message["type"] == "snapshot", message
            assert message["overview"]["queued"]["normal"] > 1000, message["overview"]
        figures["first data"] = time.perf_counter() - began
        tasks = (await http.get("api/tasks", params={"limit": 50})).json()["tasks"]
        assert len(tasks) == 50
        figures["tasks"] = time.perf_counter() - began
    return figures


async def compare(
    plane: Process, client: Client, arguments: argparse.Namespace
) -> tuple[list[float], str]:
    ratios: list[float] = []
    cpu_ratios: list[float] = []
    address = ""
    print(f"{'round':>5} {'without':>10} {'with':>10} {'ratio':>8}   CPU of the plane, us/task")
    for number in range(1, arguments.rounds + 1):
        rates: dict[str, float] = {}
        costs: dict[str, float] = {}
        told = ""
        for mode in ("off", "on") if number % 2 else ("on", "off"):
            address = plane.ask(mode)
            with viewers(address, arguments.browsers) if mode == "on" else nobody() as tell:
                await throughput(client, arguments.tasks // 10, arguments.in_flight)
                before = plane.cpu_seconds()
                rates[mode] = await throughput(client, arguments.tasks, arguments.in_flight)
                costs[mode] = 1e6 * (plane.cpu_seconds() - before) / arguments.tasks
                told = tell() or told
        ratios.append(rates["on"] / rates["off"])
        cpu_ratios.append(costs["on"] / costs["off"])
        print(
            f"{number:5} {rates['off']:10,.0f} {rates['on']:10,.0f} {ratios[-1]:8.1%}   "
            f"{costs['off']:.0f} {costs['on']:.0f}   {told}",
            flush=True,
        )
    print(f"CPU of the control plane for a task: {statistics.median(cpu_ratios):.1%} (median)")
    return ratios, plane.ask("on")


@contextlib.contextmanager
def nobody() -> Iterator[Any]:
    yield lambda: ""


@contextlib.contextmanager
def viewers(address: str, are_browsers: bool) -> Iterator[Any]:
    if are_browsers:
        with pages(address):
            yield lambda: ""
        return
    process = Process("--role", "viewers", "--address", address)
    process.read()
    try:
        yield lambda: process.ask("")
    finally:
        process.end()


@contextlib.contextmanager
def pages(address: str) -> Iterator[None]:
    """Three pages of a real browser, on the list of tasks, which watches them."""
    ready, done = threading.Event(), threading.Event()

    def run() -> None:
        from playwright.sync_api import sync_playwright

        options = {"executable_path": shutil.which("chromium"), "args": ["--no-sandbox"]}
        with sync_playwright() as playwright, playwright.chromium.launch(**options) as browser:
            for _ in range(CONNECTIONS):
                page = browser.new_page()
                page.goto(f"{address}#token={TOKEN}")
                page.locator("h1").filter(has_text="Overview").wait_for()
                page.goto(f"{address}#/tasks")
                page.locator("tbody tr").first.wait_for()
            ready.set()
            done.wait()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert ready.wait(60)
        yield
    finally:
        done.set()
        thread.join(30)


async def visit_often(address: str) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for _ in range(VISITS):
        for name, seconds in (await visit(address)).items():
            found.setdefault(name, []).append(seconds)
        await trio.sleep(0.05)
    return found


async def measure(plane: Process, discovery: str, arguments: argparse.Namespace) -> int:
    async with Client(discovery, timeout=120, connect_timeout=60) as client:
        await throughput(client, 2000, arguments.in_flight)
        ratios, address = await compare(plane, client, arguments)
        await trio.sleep(1)
        slowest = 0.0
        print(f"{'seconds, median of ' + str(VISITS):28}{'idle':>8}{'load':>8}   (the worst)")
        idle = await visit_often(address)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(throughput, client, 10**9, arguments.in_flight)
            await trio.sleep(1)
            loaded = await visit_often(address)
            nursery.cancel_scope.cancel()
        for name in idle:
            quiet, busy = idle[name], loaded[name]
            print(
                f"{name:28}{statistics.median(quiet):8.3f}{statistics.median(busy):8.3f}   "
                f"({max(quiet):.3f}, {max(busy):.3f})"
            )
            slowest = max(slowest, statistics.median(busy))
    loss = 1 - statistics.median(ratios)
    print(f"loss of throughput: {loss:.1%}, the median of {len(ratios)} rounds (asked: < 5 %)")
    print(f"a visitor has data within {slowest:.3f} s under load (asked: < 1 s)")
    return 0 if loss < 0.05 and slowest < 1.0 else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--in-flight", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--finished", type=int, default=100_000)
    parser.add_argument("--queued", type=int, default=10_000)
    parser.add_argument("--browsers", action="store_true")
    parser.add_argument("--folder", help="where the file is made; its disk is what is measured")
    parser.add_argument("--role")
    parser.add_argument("--address", default="")
    parser.add_argument("--store", default="")
    arguments = parser.parse_args()
    match arguments.role:
        case "control-plane":
            trio.run(run_control_plane, arguments.store)
        case "subworker" | "holder":
            trio.run(run_subworker, arguments.address, arguments.role == "holder")
        case "viewers":
            trio.run(run_viewers, arguments.address)
        case None:
            return run(arguments)
    return 0


def run(arguments: argparse.Namespace) -> int:
    print(describe_machine(), flush=True)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path = f"{folder}/tasks.db"
        fill(path, arguments.finished, arguments.queued)
        plane = Process("--role", "control-plane", "--store", path)
        discovery, base = plane.read().split()
        workers = [
            Process("--role", role, "--address", base) for role in ("subworker", "holder")
        ]
        for worker in workers:
            worker.read()
        try:
            return trio.run(measure, plane, discovery, arguments)
        finally:
            for process in (*workers, plane):
                process.end()


if __name__ == "__main__":
    for variable in [name for name in os.environ if name.startswith("FASTWORKER_")]:
        del os.environ[variable]
    sys.exit(main())
