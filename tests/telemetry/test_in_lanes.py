"""In each lane user code is in the attempt's span, and its log records say which attempt."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import trio
from opentelemetry.trace import StatusCode

from fastworker._lanes._abc import OUTCOME_FAILURE, Attempt
from tests.lanes.lane_world import KINDS, World, open_world
from tests.telemetry.process_tasks import (
    a_line,
    here,
    process_here,
    process_here_in_trio,
    process_kill_oneself,
    process_line,
    process_mishap,
)
from tests.telemetry.recorder import Recorder, attributes_of

pytestmark = pytest.mark.trio

TRACE = "0af7651916cd43dd8448eb211c80319c"
CARRIER = f"traceparent:00-{TRACE}-b7ad6b7169203331-01\nbaggage:tenant=acme\n"


def traced(world: World) -> None:
    """Have all attempts of this world come with a trace, number and worker."""
    make = world.attempt

    def attempt(*args: Any, **kwargs: Any) -> Attempt:
        made = make(*args, **kwargs)
        return msgspec.structs.replace(made, trace=CARRIER, number=3, worker_id="w7")

    world.attempt = attempt  # type: ignore[method-assign]


def in_other_thread(kind: str, body: Callable[[], Any]) -> Callable[..., Any]:
    """A task function that calls ``body`` in a thread that its loop gives it."""

    async def in_trio() -> Any:
        return await trio.to_thread.run_sync(body)

    async def in_asyncio() -> Any:
        return await asyncio.to_thread(body)

    return in_asyncio if kind == "asyncio" else in_trio


@pytest.mark.parametrize("kind", KINDS)
async def test_user_code_is_in_the_span_of_its_attempt(kind: str, recorder: Recorder) -> None:
    async with open_world(kind) as world:
        traced(world)
        found = await world.result(world.function(here))
        again = await world.result(world.function(here))
    first, second = recorder.spans("process a-name")
    for place, span in ((found, first), (again, second)):
        assert span.context is not None
        assert place == [TRACE, f"{span.context.span_id:016x}", "acme"]
        assert attributes_of(span)["fastworker.lane"] == ("trio" if kind == "inline" else kind)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "thread"])
async def test_so_is_what_it_does_in_threads_of_its_loop(kind: str, recorder: Recorder) -> None:
    async with open_world(kind) as world:
        traced(world)
        found = await world.result(in_other_thread(kind, here))
        line = await world.result(in_other_thread(kind, a_line))
    span = recorder.spans("process a-name")[0]
    assert span.context is not None
    assert found == [TRACE, f"{span.context.span_id:016x}", "acme"]
    assert json.loads(line)["attempt"] == 3


@pytest.mark.slow
@pytest.mark.parametrize("function", [process_here, process_here_in_trio])
async def test_and_in_a_process_of_its_own(
    function: Callable[..., Any], recorder: Recorder
) -> None:
    async with open_world("process") as world:
        traced(world)
        found = [await world.result(function) for _ in range(2)]
    spans = recorder.spans(f"process {function.__name__}")
    for place, span in zip(found, spans, strict=True):
        assert span.context is not None
        assert place == [TRACE, f"{span.context.span_id:016x}", "acme"]
        assert attributes_of(span)["fastworker.lane"] == "process"


@pytest.mark.slow
async def test_a_process_that_dies_leaves_the_span_of_its_attempt(recorder: Recorder) -> None:
    async with open_world("process") as world:
        ended = await world.outcome(process_kill_oneself)
        assert ended.kind == OUTCOME_FAILURE
        await world.outcome(process_mishap)
    died = recorder.span("process process_kill_oneself")
    assert died.status.status_code is StatusCode.ERROR
    assert attributes_of(died)["error.type"] == "ProcessDied"
    assert attributes_of(died)["fastworker.task.signal"] == 11
    raised = recorder.span("process process_mishap")
    assert attributes_of(raised)["error.type"] == "ValueError"
    assert all(point.value == 0 for point in recorder.points("fastworker.task.running"))


@pytest.mark.parametrize("kind", KINDS)
async def test_a_log_record_says_in_which_attempt_it_was_made(kind: str) -> None:
    async with open_world(kind) as world:
        traced(world)
        fields = json.loads(await world.result(world.function(a_line)))
    assert fields["message"] == "hello"
    assert fields["task_id"] == "task-0000"
    assert fields["task_name"] == "a-name"
    assert (fields["attempt"], fields["worker_id"]) == (3, "w7")
    assert "trace_id" not in fields
    assert "task_id" not in json.loads(a_line())


async def test_and_in_which_span(recorder: Recorder) -> None:
    async with open_world("thread") as world:
        traced(world)
        fields = json.loads(await world.result(a_line))
    span = recorder.span("process a-name")
    assert span.context is not None
    assert (fields["trace_id"], fields["span_id"]) == (TRACE, f"{span.context.span_id:016x}")


@pytest.mark.slow
async def test_and_so_in_a_process_of_its_own() -> None:
    async with open_world("process") as world:
        traced(world)
        fields = json.loads(await world.result(process_line))
    assert fields["task_id"] == "task-0000"
    assert fields["task_name"] == "process_line"
    assert (fields["attempt"], fields["worker_id"]) == (3, "w7")


async def test_an_attempt_that_never_starts_has_no_span(recorder: Recorder) -> None:
    async with open_world("thread") as world:
        gate = world.gate()
        first = world.submit(world.holding(gate))
        await world.start_of(first)
        second = world.submit(a_line)
        world.lane.cancel(second)
        await world.end_of(second)
        gate.open()
        await world.end_of(first)
    assert [span.name for span in recorder.spans()] == ["wait a-name", "process a-name"]
