"""From a submit to the end of its task, in one trace: on the network in memory."""

from __future__ import annotations

import pytest
import trio
from opentelemetry import baggage, trace
from opentelemetry.context import attach, detach
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode
from trio.testing import MockClock

from fastworker import Conflict, TaskStatus, UnknownTask
from fastworker._core._task_questions import TaskAction
from fastworker._task_options import TaskOptions
from tests.shell.test_durable_plane import durable, kill_and_restart
from tests.shell.world import MANAGEMENT, open_world, settle
from tests.telemetry.recorder import Recorder, attributes_of, is_child

pytestmark = pytest.mark.trio


def linked(span: ReadableSpan) -> list[int]:
    """The ids of the spans that this one has links to."""
    return [link.context.span_id for link in span.links]


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return span.context.span_id


async def test_submit_wait_and_run_are_in_one_trace(
    autojump_clock: MockClock, recorder: Recorder
) -> None:
    async with open_world() as world, world.client() as client:
        with recorder.tracer.start_as_current_span("caller"):
            result = await client.submit_task("add", (1, 2))
        assert result.result == 3
    caller, send = recorder.span("caller"), recorder.span("send add")
    wait, process = recorder.span("wait add"), recorder.span("process add")
    assert is_child(send, caller)
    assert is_child(wait, send)
    assert is_child(process, send)
    assert send.kind is SpanKind.PRODUCER
    assert process.kind is SpanKind.CONSUMER
    assert wait.end_time == process.start_time
    assert not process.links
    found = attributes_of(process)
    assert found.pop("messaging.message.body.size") > 0
    assert found == {
        "messaging.system": "fastworker",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "add",
        "messaging.message.id": result.task_id,
        "fastworker.task.priority": 2,
        "fastworker.task.attempt": 1,
        "fastworker.task.outcome": "succeeded",
        "fastworker.worker.id": "w1",
        "fastworker.lane": "trio",
    }
    assert process.status.status_code is StatusCode.UNSET


async def test_the_submit_of_a_handle_ends_when_the_control_plane_has_the_task(
    autojump_clock: MockClock, recorder: Recorder
) -> None:
    async with open_world() as world, world.client() as client:
        handle = await client.submit("wait", "a")
        assert recorder.span("send wait")
        assert recorder.spans("process wait") == []
        world.let_go("a")
        assert await handle.result() == "a"
    assert is_child(recorder.span("process wait"), recorder.span("send wait"))


async def test_every_way_to_submit_has_a_span_of_its_own_for_each_task(
    autojump_clock: MockClock, recorder: Recorder
) -> None:
    async with open_world() as world, world.client() as client:
        with recorder.tracer.start_as_current_span("caller"):
            await client.delay("note", 1)
            await client.options(priority="high").submit_task("note", (2,))
            async with client.open_task_group() as group:
                await group.submit("note", 3)
            async with client.map("note", [4, 5]) as values:
                assert [value async for value in values] == [4, 5]
            async with client.stream("count", "s", 2) as numbers:
                assert [number async for number in numbers] == [0, 1]
            await settle()
    caller = recorder.span("caller")
    sent = [span for span in recorder.spans() if span.kind is SpanKind.PRODUCER]
    assert sorted(span.name for span in sent) == ["send count", *["send note"] * 5]
    assert all(is_child(span, caller) for span in sent)
    processed = [span for span in recorder.spans() if span.kind is SpanKind.CONSUMER]
    assert len(processed) == 6
    for span in processed:
        assert any(is_child(span, each) for each in sent)


async def test_what_user_code_measures_and_submits_is_below_the_attempt(
    autojump_clock: MockClock, recorder: Recorder
) -> None:
    async with open_world(slots=2) as world, world.client() as client:

        async def outer() -> str:
            with recorder.tracer.start_as_current_span("inside"):
                await client.submit_task("add", (1, 2))
            return str(baggage.get_baggage("tenant"))

        world.registry.register(outer)
        await world.start_worker("w2", slots=2)
        token = attach(baggage.set_baggage("tenant", "acme"))
        with recorder.tracer.start_as_current_span("caller"):
            result = await client.submit_task("outer")
        detach(token)
        assert result.result == "acme"
        assert not trace.get_current_span().get_span_context().is_valid
    inside = recorder.span("inside")
    assert is_child(inside, recorder.span("process outer"))
    assert is_child(recorder.span("send add"), inside)
    assert is_child(recorder.span("process add"), recorder.span("send add"))


async def test_a_failure_is_an_error_with_the_exception(
    autojump_clock: MockClock, recorder: Recorder
) -> None:
    async with open_world() as world, world.client() as client:
        await client.submit_task("fail", ("bad: luck",))
    process = recorder.span("process fail")
    assert process.status.status_code is StatusCode.ERROR
    assert process.status.description == "ValueError: bad: luck"
    assert attributes_of(process)["fastworker.task.outcome"] == "failed"
    assert attributes_of(process)["error.type"] == "ValueError"
    (event,) = process.events
    assert event.name == "exception"
    assert event.attributes is not None
    assert event.attributes["exception.type"] == "ValueError"
    assert event.attributes["exception.message"] == "bad: luck"
    assert "in fail" in str(event.attributes["exception.stacktrace"])


async def test_a_retry_is_in_the_same_trace_and_linked_to_the_attempt_before(
    autojump_clock: MockClock, recorder: Recorder
) -> None:
    async with open_world() as world:
        failures = iter([True, True, False])

        async def flaky() -> str:
            await trio.sleep(0.5)
            if next(failures):
                raise ValueError("no luck")
            return "luck"

        world.registry.register(flaky, options=TaskOptions(max_retries=5))
        await world.start_worker("w2")
        async with world.client() as client:
            result = await client.submit_task("flaky")
        assert result.result == "luck"
    first, second, third = recorder.spans("process flaky")
    assert [
        attributes_of(span)["fastworker.task.attempt"] for span in (first, second, third)
    ] == [
        1,
        2,
        3,
    ]
    assert linked(first) == []
    assert linked(second) == [id_of(first)]
    assert linked(third) == [id_of(second)]
    send = recorder.span("send flaky")
    assert all(is_child(span, send) for span in (first, second, third))
    assert recorder.span("wait flaky").end_time == first.start_time


async def test_the_attempt_after_a_lost_worker_is_linked_to_the_lost_one(
    autojump_clock: MockClock, recorder: Recorder
) -> None:
    """The lost one is known by its start alone."""
    async with open_world() as world, world.client(timeout=200) as client:
        handle = await client.submit("wait", "a")
        await trio.sleep(1)
        world.cut_off(MANAGEMENT)
        await trio.sleep(60)
        lost = recorder.span("process wait")
        assert attributes_of(lost)["fastworker.task.outcome"] == "lost"
        assert lost.status.status_code is StatusCode.ERROR
        world.network.heal(MANAGEMENT)
        world.let_go("a")
        assert await handle.result() == "a"
    again = recorder.spans("process wait")[-1]
    assert linked(again) == [id_of(lost)]


async def test_a_cancelled_attempt_is_shown_as_such_and_is_no_error(
    autojump_clock: MockClock, recorder: Recorder
) -> None:
    async with open_world() as world, world.client() as client:
        handle = await client.submit("wait", "a")
        await settle()
        await handle.cancel()
    process = recorder.span("process wait")
    assert attributes_of(process)["fastworker.task.outcome"] == "cancelled"
    assert process.status.status_code is StatusCode.UNSET


async def test_an_attempt_that_ran_too_long_is_an_error_by_that_name(
    autojump_clock: MockClock, recorder: Recorder
) -> None:
    async with open_world() as world, world.client() as client:
        result = await client.options(timeout=2).submit_task("wait", ("a",))
        assert result.status is TaskStatus.FAILURE
    process = recorder.span("process wait")
    assert attributes_of(process)["fastworker.task.outcome"] == "timed_out"
    assert attributes_of(process)["error.type"] == "timed_out"
    assert process.status.status_code is StatusCode.ERROR


async def test_an_attempt_that_does_not_stop_ends_as_abandoned_at_its_grace(
    autojump_clock: MockClock, recorder: Recorder
) -> None:
    async with open_world() as world, world.client() as client:

        async def stubborn() -> None:
            with trio.CancelScope(shield=True):
                await trio.sleep(1000)

        world.registry.register(stubborn)
        await world.start_worker("w2")
        await client.options(timeout=2, grace=3).submit_task("stubborn")
        process = recorder.span("process stubborn")
        assert attributes_of(process)["fastworker.task.outcome"] == "abandoned"
        await trio.sleep(2000)
    assert len(recorder.spans("process stubborn")) == 1


async def test_a_submit_that_is_refused_is_an_error(
    autojump_clock: MockClock, recorder: Recorder
) -> None:
    async with open_world() as world, world.client() as client:
        await trio.sleep(10)
        with pytest.raises(UnknownTask):
            await client.delay("no such task")
    send = recorder.span("send no such task")
    assert send.status.status_code is StatusCode.ERROR
    assert attributes_of(send)["error.type"] == "UnknownTask"


async def test_the_trace_survives_a_restart_of_the_control_plane(
    autojump_clock: MockClock, recorder: Recorder
) -> None:
    """And so does the link to the attempt before, which has failed before it."""
    async with open_world(workers=0) as world:
        store = await durable(world)
        failures = iter([True, False])

        async def flaky() -> None:
            if next(failures):
                raise ValueError("no luck")

        world.registry.register(flaky, options=TaskOptions(max_retries=1, retry_delay=60))
        await world.start_worker("w1")
        async with world.client() as client:
            with recorder.tracer.start_as_current_span("caller"):
                task_id = await client.delay("flaky")
            await trio.sleep(5)
            assert len(recorder.spans("process flaky")) == 1
            await kill_and_restart(world, store)
            await trio.sleep(120)
            result = await client.get_task_result(task_id)
            assert result is not None
            assert result.status is TaskStatus.SUCCESS
    first, second = recorder.spans("process flaky")
    assert is_child(second, recorder.span("send flaky"))
    assert linked(second) == [id_of(first)]


async def test_a_task_that_an_operator_runs_again_is_linked_to_its_last_attempt(
    autojump_clock: MockClock, recorder: Recorder
) -> None:
    """Also if the control plane restarts before it runs; it has not waited since its submit."""
    async with open_world(workers=0) as world:
        store = await durable(world)
        worker = await world.start_worker("w1")
        async with world.client() as client:
            task_id = (await client.submit_task("fail")).task_id
            worker.drain()
            await trio.sleep(2)
            await client._operations.act_on_tasks(TaskAction.REQUEUE, [task_id])
            await trio.sleep(2)
            await kill_and_restart(world, store)
            await trio.sleep(60)
            await world.start_worker("w2")
            await trio.sleep(10)
    first, second = recorder.spans("process fail")
    assert linked(second) == [id_of(first)]
    assert is_child(second, recorder.span("send fail"))
    assert len(recorder.spans("wait fail")) == 1


async def test_an_attempt_that_is_handed_back_is_interrupted_and_no_error(
    autojump_clock: MockClock, recorder: Recorder
) -> None:
    async with open_world(workers=0) as world, world.client() as client:
        first_worker = await world.start_worker("w1", drain_timeout=3)
        handle = await client.submit("wait", "a")
        await trio.sleep(1)
        await world.start_worker("w2")
        first_worker.drain()
        await trio.sleep(10)
        world.let_go("a")
        assert await handle.result() == "a"
    first, second = recorder.spans("process wait")
    assert attributes_of(first)["fastworker.task.outcome"] == "interrupted"
    assert first.status.status_code is StatusCode.UNSET
    assert attributes_of(second)["fastworker.task.attempt"] == 1  # it counts as the same
    assert linked(second) == [id_of(first)]
    assert len(recorder.spans("wait wait")) == 1


async def test_the_same_key_in_another_trace_is_the_same_task(
    autojump_clock: MockClock, recorder: Recorder
) -> None:
    async with open_world() as world, world.client() as client, world.client() as other:
        ids = []
        for each in (client, client, other):
            with recorder.tracer.start_as_current_span("caller"):
                ids.append(await each.options(idempotency_key="k").delay("note", 1))
        await settle()
        with pytest.raises(Conflict):
            await other.options(idempotency_key="k").delay("note", 2)
    assert len(set(ids)) == 1
    assert world.ran == [1]
    process = recorder.span("process note")
    assert is_child(process, recorder.spans("send note")[0])


async def test_numbers_are_counted_by_name_and_outcome(
    autojump_clock: MockClock, recorder: Recorder
) -> None:
    async with open_world(slots=5) as world, world.client() as client:
        for _ in range(3):
            await client.submit_task("add", (1, 2))
        await client.submit_task("fail")
        handle = await client.submit("wait", "a")
        await settle()
        running = {
            point.attributes["messaging.destination.name"]: point.value
            for point in recorder.points("fastworker.task.running")
        }
        assert running == {"add": 0, "fail": 0, "wait": 1}
        await handle.cancel()
    ended = {
        (
            point.attributes["messaging.destination.name"],
            point.attributes["fastworker.task.outcome"],
            point.attributes.get("error.type"),
        ): point.value
        for point in recorder.points("fastworker.task.ended")
    }
    assert ended == {
        ("add", "succeeded", None): 3,
        ("fail", "failed", "ValueError"): 1,
        ("wait", "cancelled", None): 1,
    }
    for name in (
        "messaging.client.sent.messages",
        "messaging.client.consumed.messages",
    ):
        assert sum(point.value for point in recorder.points(name)) == 5
    for name in (
        "messaging.client.operation.duration",
        "messaging.process.duration",
        "fastworker.task.wait.duration",
    ):
        assert sum(point.count for point in recorder.points(name)) == 5
    assert all(point.value == 0 for point in recorder.points("fastworker.task.running"))
