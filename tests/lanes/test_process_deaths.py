"""Whatever a task does to its process, others do not notice and nothing stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_trio  # type: ignore[import-untyped]
import trio

from fastworker._lanes import _process_child
from fastworker._lanes._abc import OUTCOME_FAILURE, OUTCOME_SUCCESS, InProcess
from tests.lanes import process_tasks as tasks
from tests.lanes.lane_world import PROCESS_GUARD, World, open_world

pytestmark = [pytest.mark.trio, pytest.mark.slow]


@pytest_trio.trio_fixture  # type: ignore[untyped-decorator]
async def world() -> AsyncIterator[World]:
    async with open_world("process") as world:
        yield world


async def has_ended(pid: int) -> None:
    """Wait until a process is gone that may be gone already."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        with trio.fail_after(PROCESS_GUARD):
            await trio.lowlevel.wait_readable(descriptor)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(
    "how", ["SIGSEGV", "SIGABRT", "SIGKILL", "SIGUSR1", "exit code 3", "exit code 0"]
)
async def test_a_process_that_dies_fails_its_attempt_and_no_other(how: str) -> None:
    async with open_world("process", slots=2) as world:
        gate = world.gate()
        neighbour = world.submit(world.holding(gate))
        await world.start_of(neighbour)
        ended = await world.outcome(tasks.process_die, how)

        assert ended.kind == OUTCOME_FAILURE
        assert ended.error.startswith(f"ProcessDied: its process ended with {how}")
        assert ended.signal == (signal.Signals[how] if how.startswith("SIG") else 0)
        assert ended.is_retryable
        assert await world.result(tasks.process_echo, "next") == ["next"]
        gate.open()
        assert (await world.end_of(neighbour)).kind == OUTCOME_SUCCESS


async def test_a_kill_from_outside_says_where_it_may_come_from(world: World) -> None:
    error = (await world.outcome(tasks.process_die, "SIGKILL")).error
    assert "not sent by its worker; the kernel does that when memory runs out" in error


async def test_a_closed_pipe_to_the_worker_fails_the_attempt(world: World) -> None:
    ended = await world.outcome(tasks.process_die, "pipe")
    assert ended.error == "ProcessDied: its process closed the pipe to its worker"
    assert await world.result(tasks.process_echo, "next") == ["next"]


async def test_nonsense_in_the_pipe_to_the_worker_fails_the_attempt(world: World) -> None:
    ended = await world.outcome(tasks.process_die, "nonsense")
    assert ended.error.startswith("ProcessDied: its process wrote into the pipe to its worker")
    assert await world.result(tasks.process_echo, "next") == ["next"]


@pytest.mark.parametrize("copy", ["exits", "returns"])
async def test_a_copy_that_a_task_forks_says_nothing(world: World, copy: str) -> None:
    assert await world.result(tasks.process_fork, copy) == "original"
    assert world.progressed == []
    assert await world.result(tasks.process_echo, "next") == ["next"]


@pytest.mark.parametrize(
    "what", ["folder", "handler", "alarm", "descriptors", "child", "thread"]
)
async def test_what_a_task_leaves_behind_does_not_reach_the_next(
    world: World, what: str
) -> None:
    pid = await world.result(tasks.process_leave, what)

    assert await world.result(tasks.process_pid) != pid


@pytest.mark.parametrize("what", ["nothing", "short thread", "gc"])
async def test_what_hurts_nobody_costs_no_new_process(world: World, what: str) -> None:
    pid = await world.result(tasks.process_leave, what)

    assert await world.result(tasks.process_gc_is_enabled)
    assert await world.result(tasks.process_pid) == pid


async def test_asyncio_tasks_left_behind_cost_the_process_and_threads_used_do_not(
    world: World,
) -> None:
    pid = await world.result(tasks.process_use_asyncio_thread)
    assert await world.result(tasks.process_leave_asyncio_task) == pid
    assert await world.result(tasks.process_pid) != pid


async def test_child_processes_of_a_task_end_with_its_process(world: World) -> None:
    child = await world.result(tasks.process_leave_child)

    await has_ended(child)


async def test_a_process_ends_after_so_many_attempts(world: World) -> None:
    pids = []
    for _ in range(5):
        attempt = world.attempt(tasks.process_pid)
        process = InProcess(tasks.__name__, recycle_after=2)
        world.lane.submit([msgspec.structs.replace(attempt, process=process)])
        pids.append((await world.end_of(attempt.key)).payload)

    assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4]


async def test_memory_is_limited_for_that_task_alone(world: World) -> None:
    assert await world.result(tasks.process_take_memory, 16) == 16 * 1024 * 1024
    ended = await world.outcome(tasks.process_take_memory, 256)

    assert ended.kind == OUTCOME_FAILURE
    assert ended.error == (
        "MemoryError (its process may use 67,108,864 bytes more than when it was loaded)"
    )
    attempt = world.attempt(tasks.process_take_memory, 256)
    world.lane.submit([msgspec.structs.replace(attempt, process=InProcess(tasks.__name__))])
    assert (await world.end_of(attempt.key)).kind == OUTCOME_SUCCESS


async def test_an_idle_process_that_is_killed_is_not_missed(world: World) -> None:
    pid = await world.result(tasks.process_pid)
    os.kill(pid, signal.SIGKILL)

    assert await world.result(tasks.process_pid) != pid


async def test_when_no_process_can_be_started_what_waits_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_process_child, "_PROGRAM", "import sys; sys.exit(9)")
    async with open_world("process", slots=2) as world:
        keys = world.submit_many([tasks.process_pid] * 3)
        await world.all_accounted_for()

        for key in keys:
            ended = world.ended[key]
            assert ended.error == (
                "ProcessDied: no process could be started for it: exit code 9"
            )
        monkeypatch.undo()
        assert await world.result(tasks.process_echo, "next") == ["next"]


PARENT = """
    import time, trio
    from tests.lanes import process_tasks
    from tests.lanes.lane_world import open_world

    async def main():
        async with open_world("process") as world:
            world.submit(process_tasks.{function}, "{fifo}")
            with open("{fifo}") as file:
                assert file.readline() == "in\\n"
            print(*[child.pid for child in world.lane._children], flush=True)
            time.sleep(1000)

    trio.run(main)
"""


@pytest.mark.parametrize(
    "function", [tasks.process_sleep, tasks.process_hold_gil, tasks.process_swallow]
)
async def test_when_the_worker_is_killed_its_processes_end(
    tmp_path: Path, function: Callable[..., Any]
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    program = textwrap.dedent(PARENT).format(function=function.__name__, fifo=fifo)
    parent = await trio.lowlevel.open_process(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert parent.stdout is not None
    with trio.fail_after(PROCESS_GUARD):
        pid = int(await parent.stdout.receive_some())
        descriptor = os.pidfd_open(pid)
        parent.kill()
        await parent.wait()
    with trio.fail_after(2):
        await trio.lowlevel.wait_readable(descriptor)
    os.close(descriptor)
    await parent.stdout.aclose()
