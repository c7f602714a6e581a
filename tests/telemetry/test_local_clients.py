"""The caller's trace goes along from threads and from asyncio, too: the real lanes run."""

from __future__ import annotations

import asyncio

import pytest
from opentelemetry.trace import SpanKind

from fastworker import SyncClient, local
from fastworker._registry import Registry
from tests.telemetry.recorder import Recorder, is_child

pytestmark = pytest.mark.slow


def double(number: int) -> int:
    return 2 * number


async def halve(number: int) -> float:
    return number / 2


@pytest.fixture
def tasks() -> Registry:
    registry = Registry()
    registry.register(double, name="double")
    registry.register(halve, name="halve")
    return registry


def check(recorder: Recorder, count: int) -> None:
    """Whether all tasks are below the caller."""
    caller = recorder.span("caller")
    sent = [span for span in recorder.spans() if span.kind is SpanKind.PRODUCER]
    assert len(sent) == count
    assert all(is_child(span, caller) for span in sent)
    processed = [span for span in recorder.spans() if span.kind is SpanKind.CONSUMER]
    assert len(processed) == count
    assert all(any(is_child(span, each) for each in sent) for span in processed)


def test_from_a_thread_without_a_loop(recorder: Recorder, tasks: Registry) -> None:
    caller = recorder.tracer.start_as_current_span("caller")
    with SyncClient.local(registry=tasks) as client, caller:
        assert client.submit_task("double", (2,)).result == 4
        assert client.submit("halve", 4).result() == 2
        with client.open_task_group() as group:
            group.submit("double", 5)
        with client.map("double", [1, 2]) as values:
            assert list(values) == [2, 4]
    check(recorder, 5)


def test_from_asyncio(recorder: Recorder, tasks: Registry) -> None:
    async def main() -> None:
        async with local(registry=tasks) as client:
            with recorder.tracer.start_as_current_span("caller"):
                assert (await client.submit_task("double", (2,))).result == 4
                async with client.map("halve", [2, 4]) as values:
                    assert [value async for value in values] == [1, 2]

    asyncio.run(main())
    check(recorder, 3)
