"""The process lane does what every lane does, with functions of another process."""

from __future__ import annotations

import json
import os
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import pytest_trio  # type: ignore[import-untyped]
import trio

from fastworker._core._messages import MAX_ITEM_BYTES
from fastworker._errors import LocalProtocolError
from fastworker._lanes._abc import (
    OUTCOME_CANCELLED,
    OUTCOME_EXPIRED,
    OUTCOME_FAILURE,
    OUTCOME_SUCCESS,
    AttemptKey,
    InProcess,
)
from fastworker._models import SerializationFormat
from tests.lanes import process_tasks as tasks
from tests.lanes.lane_world import BOTH, World, open_world
from tests.lanes.test_hostile_functions import ZOO

pytestmark = [pytest.mark.trio, pytest.mark.slow]


@pytest_trio.trio_fixture  # type: ignore[untyped-decorator]
async def world() -> AsyncIterator[World]:
    async with open_world("process", accepted_formats=BOTH) as world:
        yield world


async def test_a_function_gets_its_arguments_and_its_value_comes_back(world: World) -> None:
    assert await world.result(tasks.process_echo, 1, "two", None) == [1, "two", None]


async def test_a_process_is_kept_for_the_next_attempt(world: World) -> None:
    first = await world.result(tasks.process_pid)

    assert first != os.getpid()
    assert await world.result(tasks.process_pid) == first


async def test_no_process_is_started_before_there_is_work() -> None:
    async with open_world("process", slots=3) as world:
        assert world.lane._children == []  # type: ignore[attr-defined]
        await world.result(tasks.process_pid)
        assert len(world.lane._children) == 1  # type: ignore[attr-defined]


async def test_the_process_imports_no_sockets(world: World) -> None:
    names = await world.result(tasks.process_loaded)
    assert "pynng" not in names
    assert "anyio" not in names


async def test_all_slots_are_used_and_never_more() -> None:
    # That there are never more is the referee's to see.
    async with open_world("process", slots=2) as world:
        first, second = world.gate(), world.gate()
        world.submit_many(world.holding(gate) for gate in (first, second, second, first))
        await world.receive_until(lambda: len(world.started) == 2)
        first.open()
        await world.receive_until(lambda: len(world.started) == 3)
        assert len(world.ended) == 1
        second.open()
        await world.all_accounted_for()


async def test_what_waits_can_be_taken_back_and_what_runs_cannot(world: World) -> None:
    gate = world.gate()
    running = world.submit(world.holding(gate))
    await world.start_of(running)
    waiting = world.submit_many([tasks.process_pid] * 3)

    assert world.take_back() == waiting
    gate.open()
    await world.all_accounted_for()
    assert list(world.ended) == [running]


async def test_an_attempt_cancelled_before_it_starts_never_runs(world: World) -> None:
    gate = world.gate()
    running = world.submit(world.holding(gate))
    await world.start_of(running)
    doomed = world.submit(tasks.process_pid)

    world.lane.cancel(doomed)
    ended = await world.end_of(doomed)
    assert ended.kind == OUTCOME_CANCELLED
    assert ended.started_wall == 0
    gate.open()
    await world.all_accounted_for()


async def test_an_attempt_cancelled_while_its_process_starts_ends_at_once(
    world: World,
) -> None:
    key = world.submit(tasks.process_pid)
    world.lane.cancel(key)

    ended = await world.end_of(key)
    assert ended.kind == OUTCOME_CANCELLED
    assert await world.result(tasks.process_echo, 1) == [1]


async def test_an_attempt_that_is_too_late_never_starts(world: World) -> None:
    attempt = world.attempt(tasks.process_pid)
    world.lane.submit([msgspec.structs.replace(attempt, start_within=0.0)])

    assert (await world.end_of(attempt.key)).kind == OUTCOME_EXPIRED


async def test_cancelling_what_is_unknown_or_ended_does_nothing(world: World) -> None:
    key = world.submit(tasks.process_pid)
    await world.end_of(key)

    world.lane.cancel(key)
    world.lane.cancel(AttemptKey("nobody", 1, 1))
    assert await world.result(tasks.process_echo, 2) == [2]


async def test_close_cancels_what_runs_and_drops_what_waits(world: World) -> None:
    running = world.submit(world.holding(world.gate()))
    world.submit(tasks.process_pid)
    await world.start_of(running)

    world.lane.close()
    world.lane.close()
    await world.finish()
    assert list(world.ended) == [running]
    assert world.ended[running].kind == OUTCOME_CANCELLED


async def test_after_close_submitting_is_an_error(world: World) -> None:
    world.lane.close()

    with pytest.raises(LocalProtocolError, match="closed lane"):
        world.submit(tasks.process_pid)
    world.submitted.clear()


async def test_a_lane_that_was_never_started_closes() -> None:
    async with open_world("process", start=False) as world:
        kept = world.submit(tasks.process_pid)
        cancelled = world.submit(tasks.process_pid)
        world.lane.cancel(cancelled)

        assert world.take_back() == [kept]
        world.lane.close()
        assert world.lane.join(0)
        assert (await world.end_of(cancelled)).kind == OUTCOME_CANCELLED


async def test_a_lane_starts_once(world: World) -> None:
    with pytest.raises(LocalProtocolError, match="twice"):
        world.lane.start()


async def test_any_exception_becomes_one_line_and_a_traceback(world: World) -> None:
    for number, (error, line) in enumerate(ZOO):
        ended = await world.outcome(tasks.process_raise, number)
        assert ended.kind == OUTCOME_FAILURE, error
        assert ended.error.startswith(line)
        assert "process_raise" in ended.traceback


async def test_sys_exit_ends_only_the_attempt(world: World) -> None:
    pid = await world.result(tasks.process_pid)
    assert (await world.outcome(tasks.process_exit, "bye")).error == "SystemExit: bye"
    assert await world.result(tasks.process_pid) == pid


async def test_the_functions_own_options_say_what_is_worth_a_retry(world: World) -> None:
    assert (await world.outcome(tasks.process_fail, "key")).is_retryable
    assert not (await world.outcome(tasks.process_fail, "value")).is_retryable


async def test_wrong_arguments_are_named_without_a_traceback(world: World) -> None:
    ended = await world.outcome(tasks.process_fail)

    assert ended.error == "TypeError: process_fail() missing a required argument: 'kind'"
    assert ended.traceback == ""


async def test_results_up_to_the_limit_travel_and_larger_ones_fail(world: World) -> None:
    ended = await world.outcome(tasks.process_return_much, MAX_ITEM_BYTES - 2)
    assert len(ended.payload) == MAX_ITEM_BYTES

    ended = await world.outcome(tasks.process_return_much, MAX_ITEM_BYTES)
    assert ended.error.startswith("ResultTooLarge: ")
    assert (await world.outcome(tasks.process_return_object)).error.startswith("NotEncodable: ")


async def test_large_arguments_travel(world: World) -> None:
    value = "x" * (8 * 1024 * 1024)
    assert await world.result(tasks.process_echo, value) == [value]


async def test_pickles_travel_where_they_are_accepted(world: World) -> None:
    ended = await world.outcome(tasks.process_echo, {1}, format=SerializationFormat.PICKLE)
    assert ended.kind == OUTCOME_SUCCESS
    async with open_world("process") as other:
        ended = await other.outcome(tasks.process_echo, {1}, format=SerializationFormat.PICKLE)
    assert ended.error.startswith("SerializationRefused: PICKLE")


async def test_context_variables_do_not_leak_into_the_next_attempt(world: World) -> None:
    assert await world.result(tasks.process_set_variable) == "default"
    assert await world.result(tasks.process_set_variable) == "default"


async def test_the_function_can_ask_about_itself_and_tell_its_progress(world: World) -> None:
    attempt = msgspec.structs.replace(
        world.attempt(tasks.process_describe), number=3, worker_id="w", time_left=1000.0
    )
    world.lane.submit([attempt])
    ended = await world.end_of(attempt.key)

    task_id, name, number, worker_id, left = json.loads(ended.payload)
    assert (task_id, name) == (attempt.key.task_id, "process_describe")
    assert (number, worker_id) == (3, "w")
    assert 0 < left < 1000
    assert [(each.fraction, each.message) for each in world.progressed] == [(0.5, "half")]


async def test_an_attempt_that_waits_for_others_says_so(world: World) -> None:
    assert (await world.outcome(tasks.process_pause)).kind == OUTCOME_SUCCESS
    assert [each.is_waiting for each in world.paused] == [True, False]


async def test_an_async_def_runs_on_the_loop_that_it_needs(world: World) -> None:
    name, pid = await world.result(tasks.process_trio_name)
    assert "main" in name
    loop, other = await world.result(tasks.process_asyncio_name)
    assert "EventLoop" in loop
    assert pid == other != os.getpid()


async def test_a_function_that_no_module_registers_fails_and_says_what_to_do(
    world: World,
) -> None:
    attempt = msgspec.structs.replace(
        world.attempt(tasks.process_pid), name="nobody", process=InProcess("json")
    )
    world.lane.submit([attempt])

    ended = await world.end_of(attempt.key)
    assert ended.kind == OUTCOME_FAILURE
    assert ended.error.startswith(
        "RegistrationError: task 'nobody' was not found in its process"
    )
    assert "put @task in the module that defines" in ended.error
    assert not ended.is_retryable


async def test_a_module_that_cannot_be_imported_fails_the_attempt(world: World) -> None:
    attempt = msgspec.structs.replace(
        world.attempt(tasks.process_pid), name="nobody", process=InProcess("no_such_module")
    )
    world.lane.submit([attempt])

    ended = await world.end_of(attempt.key)
    assert ended.error == "ModuleNotFoundError: No module named 'no_such_module'"
    assert ended.started_wall > 0


SCRIPT = """
    import sys, trio
    from fastworker import task
    from fastworker._lanes import make_lane
    from fastworker._lanes._abc import Attempt, AttemptEnded, AttemptKey, InProcess
    from fastworker._lanes._sink import TrioSink
    from fastworker._models import SerializationFormat

    @task(isolation="process")
    def where() -> str:
        return __name__

    async def main():
        sink = TrioSink()
        lane = make_lane("process", 1, sink, frozenset(SerializationFormat))
        lane.start()
        process = InProcess("__main__")
        key = AttemptKey("t", 1, 1)
        lane.submit([Attempt(key, "where", where, b"[[],{}]", 1, process=process)])
        while True:
            for event in await sink.receive():
                if isinstance(event, AttemptEnded):
                    print(event.payload.decode() or event.error)
                    return

    GUARD trio.run(main)
"""


@pytest.mark.parametrize(
    ("guard", "printed"),
    [
        ('if __name__ == "__main__":', '"__mp_main__"'),
        ("", "ConfigurationError: a task process has imported a script that starts a worker"),
    ],
)
async def test_a_script_is_imported_again_and_must_guard_what_starts_it(
    tmp_path: Path, guard: str, printed: str
) -> None:
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT).replace("GUARD ", guard))
    done = await trio.run_process([sys.executable, str(script)], capture_stdout=True)

    assert done.stdout.decode().startswith(printed)


async def test_a_function_of_a_program_without_a_file_fails_and_says_why() -> None:
    program = textwrap.dedent(SCRIPT).replace("GUARD ", "")
    done = await trio.run_process([sys.executable, "-c", program], capture_stdout=True)

    assert "was defined at a prompt or in a -c program" in done.stdout.decode()
