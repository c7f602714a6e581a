"""The supervisor, with real processes and real time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trio

from fastworker import _supervisor
from fastworker._supervisor import Supervisor

pytestmark = [pytest.mark.nng, pytest.mark.slow]

PYTHON = [sys.executable, "-c"]

# Ends by SIGTERM or at EOF, as a supervised process must.
SOUND = [*PYTHON, "import sys; sys.stdin.read()"]
# Hears neither SIGTERM nor EOF, and has a child of its own.
STUBBORN = [
    *PYTHON,
    """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, file=open(sys.argv[1] + ".part", "w"), flush=True)
import os; os.rename(sys.argv[1] + ".part", sys.argv[1])
while True:
    time.sleep(60)
""",
]


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


async def wait_for_file(path: Path) -> str:
    with trio.fail_after(10):
        while not path.exists():
            await trio.sleep(0.01)
    return path.read_text()


class Exits:
    """What ``on_exit`` was told, to be waited for."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []
        self.times: list[float] = []
        self._changed = trio.Event()

    def __call__(self, worker_id: str, returncode: int) -> None:
        self.seen.append((worker_id, returncode))
        self.times.append(trio.current_time())
        self._changed.set()

    async def wait_for(self, count: int) -> None:
        with trio.fail_after(15):
            while len(self.seen) < count:
                await self._changed.wait()
                self._changed = trio.Event()


@pytest.mark.trio
async def test_a_killed_process_is_told_at_once_and_started_again(
    nursery: trio.Nursery,
) -> None:
    exits = Exits()
    supervisor = Supervisor({"w-1": SOUND, "w-2": SOUND}, exits)
    await nursery.start(supervisor.run)
    before = supervisor.processes
    assert set(before) == {"w-1", "w-2"}

    killed_at = trio.current_time()
    os.kill(before["w-1"], signal.SIGKILL)
    await exits.wait_for(1)
    assert exits.seen == [("w-1", -signal.SIGKILL)]
    assert exits.times[0] - killed_at < 1

    with trio.fail_after(5):
        while "w-1" not in supervisor.processes:
            await trio.sleep(0.01)
    after = supervisor.processes
    assert after["w-1"] != before["w-1"]
    assert after["w-2"] == before["w-2"]
    nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_pauses_double_for_a_process_that_dies_at_once(nursery: trio.Nursery) -> None:
    exits = Exits()
    await nursery.start(Supervisor({"w": [*PYTHON, "raise SystemExit(3)"]}, exits).run)
    await exits.wait_for(4)
    nursery.cancel_scope.cancel()

    assert set(exits.seen) == {("w", 3)}
    gaps = [
        later - earlier for earlier, later in zip(exits.times, exits.times[1:], strict=False)
    ]
    assert gaps[0] >= 0.1
    assert gaps[1] >= 0.2
    assert gaps[2] >= 0.4


@pytest.mark.trio
async def test_a_life_long_enough_resets_the_pauses(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_supervisor, "SOUND_SECONDS", 0.0)
    exits = Exits()
    await nursery.start(Supervisor({"w": ["/bin/true"]}, exits).run)
    await exits.wait_for(6)
    nursery.cancel_scope.cancel()
    # With doubling, the sixth end could not come before 3.1 seconds.
    assert exits.times[-1] - exits.times[0] < 3


@pytest.mark.trio
async def test_drain_lets_a_process_end_and_starts_none_again() -> None:
    exits = Exits()
    supervisor = Supervisor({"w-1": SOUND, "w-2": SOUND}, exits)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.run)
            supervisor.drain()
            supervisor.drain()
    assert sorted(exits.seen) == [("w-1", -signal.SIGTERM), ("w-2", -signal.SIGTERM)]
    assert supervisor.processes == {}


@pytest.mark.trio
async def test_drain_ends_a_pause_between_two_lives() -> None:
    exits = Exits()
    supervisor = Supervisor({"w": ["/bin/false"]}, exits)
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        await exits.wait_for(5)
        started_at = trio.current_time()
        supervisor.drain()
    assert trio.current_time() - started_at < 1  # the pause would be 1.6 seconds
    assert len(exits.seen) == 5


@pytest.mark.trio
async def test_cancelling_kills_what_does_not_listen_and_what_that_started(
    tmp_path: Path,
) -> None:
    file = tmp_path / "grandchild"
    supervisor = Supervisor({"w": [*STUBBORN, str(file)]}, Exits(), grace=0.2)
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        grandchild = int(await wait_for_file(file))
        child = supervisor.processes["w"]
        started_at = trio.current_time()
        nursery.cancel_scope.cancel()
    assert trio.current_time() - started_at < 3
    assert not is_alive(child)
    with trio.fail_after(2):
        while is_alive(grandchild):
            await trio.sleep(0.01)


@pytest.mark.trio
async def test_a_command_that_cannot_start_is_tried_again(
    nursery: trio.Nursery, tmp_path: Path
) -> None:
    program = tmp_path / "program"
    exits = Exits()
    await nursery.start(Supervisor({"w": [str(program)]}, exits).run)
    assert exits.seen == []
    program.with_suffix(".part").write_text("#!/bin/sh\nexit 5\n")
    program.with_suffix(".part").chmod(0o755)
    program.with_suffix(".part").rename(program)
    await exits.wait_for(1)
    assert exits.seen[0] == ("w", 5)
    nursery.cancel_scope.cancel()


PARENT = """
import sys, trio
from fastworker._supervisor import Supervisor

async def main():
    child = [sys.executable, "-c", sys.argv[1]]
    supervisor = Supervisor({"a": child, "b": child}, lambda *_: None)
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        print(*supervisor.processes.values(), flush=True)

trio.run(main)
"""

# Its loop is blocked and a thread never ends, so only the watch can end it.
DEAF_CHILD = """
import threading, time
from fastworker.cli._parent_watch import ParentWatch
watch = ParentWatch()
threading.Thread(target=time.sleep, args=(60,)).start()
time.sleep(60)
"""


def test_processes_end_within_two_seconds_of_their_parents_kill() -> None:
    with subprocess.Popen(
        [*PYTHON, PARENT, DEAF_CHILD], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        children = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(children) == 2
        time.sleep(1)  # they import; not knowing it by then would only be slower
        assert all(map(is_alive, children))
        parent.kill()
        parent.wait()
        killed_at = time.monotonic()
        while any(map(is_alive, children)):
            assert time.monotonic() - killed_at < 2
            time.sleep(0.02)
