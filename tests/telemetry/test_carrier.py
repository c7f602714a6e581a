"""What travels with a task: bounded where it is made, and from the wire it may be anything."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import baggage, trace
from opentelemetry.context import Context, attach, detach
from trio.testing import MockClock

from fastworker import ControlPlaneUnreachable, TaskStatus, _instruments
from fastworker._call_settings import with_trace
from fastworker._core._messages import MAX_TRACE_CHARACTERS, TaskSpec
from fastworker.telemetry._carrier import (
    MAX_CHARACTERS,
    link_to,
    span_to_text,
    to_context,
    to_text,
)
from tests.shell.world import open_world
from tests.telemetry.recorder import Recorder, is_child

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_the_bound_is_that_of_the_wire() -> None:
    assert MAX_CHARACTERS == MAX_TRACE_CHARACTERS


def test_a_place_in_a_trace_comes_back_with_its_state_and_baggage() -> None:
    text = f"traceparent:{PARENT}\ntracestate:a=1,b=2\nbaggage:tenant=acme\n"
    context = to_context(text)
    span = trace.get_current_span(context).get_span_context()
    assert span_to_text(span) == PARENT
    assert span.trace_state.to_header() == "a=1,b=2"
    assert span.is_remote
    assert baggage.get_baggage("tenant", context) == "acme"
    assert to_text(context) == text


def test_a_baggage_that_is_too_large_is_left_out_alone() -> None:
    context = baggage.set_baggage("large", "x" * 2000, to_context(f"traceparent:{PARENT}\n"))
    assert to_text(context) == f"traceparent:{PARENT}\n"


def test_without_a_trace_nothing_travels() -> None:
    assert to_text(Context()) == ""


@pytest.mark.parametrize(
    "text",
    [
        "traceparent:00-00000000000000000000000000000000-0000000000000000-01\n",
        "traceparent:zz-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\n",
        "traceparent:\n",
        "traceparent\n\n\n:::\n",
        "\x00\x1b[31m\r\n",
        f"tr\u00e4ceparent:{PARENT}\n",
        "baggage:" + "=;,%" * 200,
        "tracestate:" + ",".join(f"k{i}=v" for i in range(100)),
        "x" * 5000,
    ],
)
def test_what_makes_no_sense_is_no_trace(text: str) -> None:
    assert not trace.get_current_span(to_context(text)).get_span_context().is_valid


@given(st.text(max_size=1500))
def test_any_text_is_read_without_an_error(text: str) -> None:
    to_context(text)
    to_context(f"traceparent:{text}\nbaggage:{text}\ntracestate:{text}")
    link_to(text)


@given(st.text(max_size=60) | st.from_regex(r"\A[-0-9a-f]{55}\Z"))
def test_only_the_name_of_a_span_becomes_a_link(text: str) -> None:
    link = link_to(text)
    assert link is None or link.context.is_valid


def test_a_link_is_to_the_span_that_was_named() -> None:
    link = link_to(PARENT)
    assert link is not None
    assert span_to_text(link.context) == PARENT
    for hostile in (PARENT.replace("-", "_"), PARENT.replace("0a", "+a"), PARENT + "0"):
        assert link_to(hostile) is None


def test_what_travels_counts_in_the_weight_of_its_task() -> None:
    """Else a million tasks could hold a gigabyte that no bound sees."""
    spec = TaskSpec("id", "add", 2, 1, b"", 0.0)
    assert with_trace(spec, "x" * 1000).size == spec.size + 1000
    assert with_trace(spec, "") is spec


class Forger:
    """An observer in a client that lets anything travel."""

    def __init__(self, trace: str) -> None:
        self.trace = trace

    def sending(self, *_: object) -> Forger:
        return self

    def end(self, _: object) -> None:
        pass


@pytest.mark.trio
async def test_a_task_with_a_hostile_trace_runs_in_a_trace_of_its_own(
    autojump_clock: MockClock, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = "traceparent:00-zz\x00\nbaggage:%%%=\ud7ff\n" + "x" * 900
    async with open_world() as world, world.client() as client:
        real = _instruments.current
        assert real is not None
        monkeypatch.setattr(real, "sending", Forger(hostile).sending)
        result = await client.submit_task("add", (1, 2))
        assert result.result == 3
    assert recorder.span("wait add").parent is None
    assert is_child(recorder.span("process add"), recorder.span("wait add"))


@pytest.mark.trio
async def test_a_trace_beyond_the_bound_is_refused_and_its_task_never_runs(
    autojump_clock: MockClock, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As every text of the wire that is longer than it may be. We never send such."""
    async with open_world() as world, world.client(timeout=5) as client:
        real = _instruments.current
        assert real is not None
        monkeypatch.setattr(real, "sending", Forger("x" * 1025).sending)
        with pytest.raises(ControlPlaneUnreachable):
            await client.delay("note", 1)
    assert world.ran == []


@pytest.mark.trio
async def test_a_large_baggage_does_not_keep_a_task_from_its_trace(
    autojump_clock: MockClock, recorder: Recorder
) -> None:
    async with open_world() as world, world.client() as client:
        token = attach(baggage.set_baggage("large", "x" * 5000))
        result = await client.submit_task("add", (1, 2))
        detach(token)
        assert result.status is TaskStatus.SUCCESS
    assert is_child(recorder.span("process add"), recorder.span("send add"))


@pytest.mark.trio
async def test_telemetry_that_raises_disturbs_no_task(
    autojump_clock: MockClock, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the collector is out of its mind")

    monkeypatch.setattr(recorder.tracer.__class__, "start_span", broken)
    async with open_world() as world, world.client() as client:
        assert (await client.submit_task("add", (1, 2))).result == 3
        assert (await client.submit_task("fail")).status is TaskStatus.FAILURE
        with trio.move_on_after(1):
            await client.submit_task("wait", ("a",))
